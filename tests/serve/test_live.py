"""WS /v1/live: frames in, followed faces out, the newest first."""

from __future__ import annotations

import json
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mien.predict.analyzer import Analyzer

from .conftest import Running, Start, jpeg


def channel(server: Running) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/v1/live")


def ask(live: ClientConnection, message: bytes | str) -> dict:
    live.send(message)
    return json.loads(live.recv(20))


def test_faces_are_followed_and_smoothed(server: Running, analyzer: Analyzer) -> None:
    with channel(server) as live:
        answers = [ask(live, jpeg(250 if number < 3 else 100)) for number in range(4)]
    assert [answer["sequence"] for answer in answers] == [1, 2, 3, 4]
    assert [(answer["width"], answer["height"]) for answer in answers] == [(64, 48)] * 4
    assert all(answer["latency_ms"] > 0 for answer in answers)
    assert [len(answer["faces"]) for answer in answers] == [0, 0, 1, 1], (
        "a face counts from its third look on"
    )
    (face,) = answers[2]["faces"]
    (alone,) = analyzer.analyze_bytes(jpeg(250))
    assert set(face) == {"track", *alone.to_dict()}
    for key in ("emotion", "probability", "probabilities", "head", "prior", "box", "landmarks"):
        assert face[key] == alone.to_dict()[key], key
    assert face["track"] == 1
    (smooth,), (now,) = answers[3]["faces"], analyzer.analyze_bytes(jpeg(100))
    assert now.probabilities["bright"] < smooth["probabilities"]["bright"] < alone.probabilities["bright"]


@pytest.mark.slow
def test_the_newest_frame_wins(start: Start) -> None:
    with start("--batch", "1") as server, channel(server) as live:
        slow = jpeg(9, (3000, 2000))
        for _ in range(30):
            live.send(slow)
        seen = [json.loads(live.recv(30))["sequence"]]
        while seen[-1] < 30:
            seen.append(json.loads(live.recv(30))["sequence"])
    assert seen == sorted(seen)
    assert len(seen) < 30, "frames that came meanwhile are dropped"


def test_what_is_no_picture_is_told_and_then_the_door_is_shut(server: Running) -> None:
    with channel(server) as live:
        line = ask(live, "hello")["problem"]["detail"]
        assert line == "the frame came as text; send the bytes of a JPEG as a binary message"
        assert ask(live, b"garbage")["problem"]["detail"].startswith("the frame is not a picture (it begins")
        assert "faces" in ask(live, jpeg(9)), "one good frame and all is forgiven"
        for number in range(5):
            assert ask(live, b"garbage" if number % 2 else "text")["problem"]["status"] == 422
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(20)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1007, "send JPEG frames as binary messages")


def test_what_clients_do_wrong_leaves_nothing_in_the_log(server: Running) -> None:
    before = server.log.read_text()
    with channel(server) as live:
        live.send(b"\xff\xfe", text=True)  # no UTF-8
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(20)
        assert closed.value.rcvd.code == 1007
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{server.port}/v1/live", origin="http://evil.example")
    with channel(server) as live:
        assert "faces" in ask(live, jpeg(9))
    assert server.log.read_text() == before


def test_a_frame_with_too_many_pixels_or_bytes(server: Running) -> None:
    with channel(server) as live:
        assert "more than the 1 megapixels" in ask(live, jpeg(9, (1200, 1000)))["problem"]["detail"]
        for size in (2_000_001, 3_900_000):
            told = ask(live, bytes(size))["problem"]
            assert (told["status"], told["detail"]) == (422, "the frame has more than 2 MB; make it smaller")
        assert "faces" in ask(live, jpeg(9))
    with channel(server) as live, pytest.raises(ConnectionClosed):
        # Cut off while it is still being sent; whether the client sees the code (1009) is up to its network.
        ask(live, bytes(4_000_001))
    with channel(server) as live:
        assert "faces" in ask(live, jpeg(9)), "others do not notice"


@pytest.mark.slow
def test_only_so_many_cameras(start: Start) -> None:
    with start("--max-live", "1") as server:
        with channel(server) as first, channel(server) as second:
            assert json.loads(second.recv(20))["problem"]["detail"].startswith("1 camera is here already")
            with pytest.raises(ConnectionClosed) as closed:
                second.recv(20)
            assert closed.value.rcvd.code == 1013
            assert ask(first, jpeg(9))["sequence"] == 1
        ends = time.monotonic() + 20
        while True:
            with channel(server) as third:
                if "sequence" in ask(third, jpeg(9)):
                    break
            assert time.monotonic() < ends, "a camera that went leaves its place"
