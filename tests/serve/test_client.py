"""mien.Client gives what the analyzer gives, over the network, and one line for what goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mien
from mien.errors import ConfigError, DataError, ImageError
from mien.predict.analyzer import Analyzer
from mien.serve.client import Client, ServerError

from ..video.video_files import scene, write_video
from .conftest import Relay, Running, Start, png

TOKEN = "a-token.of_twenty~letters"


@pytest.fixture
def client(server: Running) -> Client:
    return mien.Client(f"http://localhost:{server.port}")


def test_pictures(client: Client, analyzer: Analyzer, tmp_path: Path) -> None:
    file = tmp_path / 'odd "name".png'
    file.write_bytes(png(200))
    expected = analyzer.analyze_bytes(png(200))
    for sent in (png(200), file, str(file)):
        (face,), (like,) = client.analyze(sent), expected
        assert face.probabilities == pytest.approx(dict(like.probabilities), abs=1e-4)
        assert (face.emotion, face.box, face.reasons) == (like.emotion, like.box, like.reasons)
    good, bad, again = client.analyze_batch([file, b"no picture", png(200)])
    assert [face.emotion for face in (*good, *again)] == ["bright", "bright"]
    assert isinstance(bad, ImageError) and str(bad).startswith("the picture is not a picture")
    (alone,) = client.analyze_batch([b"no picture"])
    assert isinstance(alone, ImageError)
    assert client.analyze_batch([]) == []
    absent = tmp_path / "absent.png"
    unopened, (face,) = client.analyze_batch([absent, bytearray(png(200))])
    assert str(unopened).startswith(f"{absent} cannot be opened") and face.emotion == "bright"
    assert client.models()["models"][0]["name"] == "brightness"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_file_whose_name_is_no_text_is_sent_beside_others(client: Client, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "odd") + b"\xff.png"))
    odd.write_bytes(png(200))
    first, second = client.analyze_batch([odd, png(90)])
    assert (first, second) == (client.analyze(odd), client.analyze(png(90)))


def test_a_video(client: Client, server: Running, tmp_path: Path) -> None:
    frames = [scene([(0, 0, 40 + 15 * n)], size=(64, 48), side=48) for n in range(12)]
    found = client.analyze_video(write_video(tmp_path / "clip.mp4", frames))
    assert len(found["rows"]) == 12
    with pytest.raises(ImageError, match="the video is "):
        client.analyze_video(b"no video" * 20)
    assert server.left_files() == [], "results are deleted when they were fetched"


def test_a_video_goes_on_over_a_short_outage(start: Start, tmp_path: Path) -> None:
    clip = write_video(
        tmp_path / "clip.mp4", [scene([(0, 0, 40 + n)], size=(64, 48), side=48) for n in range(12)]
    )
    outages: list[float] = []

    def once(seconds: float) -> Callable[[float], None]:
        def told(_: float) -> None:
            if not outages:
                outages.append(seconds)
                relay.go_away(seconds)

        return told

    with start() as server:  # its own: the video of a client that gave up is left there
        relay = Relay(server.port)
        address = f"http://localhost:{relay.port}"
        try:
            found = Client(address).analyze_video(clip, once(2.5))
            assert outages == [2.5] and len(found["rows"]) == 12
            outages.clear()
            begun = time.monotonic()
            with pytest.raises(ServerError, match="cannot be asked") as lost:
                Client(address, patience_s=2).analyze_video(clip, once(30))
            assert outages == [30] and lost.value.status == 0, (
                "the reason is the outage, not that nothing can be deleted"
            )
            with pytest.raises(ServerError, match="cannot be asked"):
                Client(address).models()  # one that was never reached may have a wrong address: told at once
            assert time.monotonic() - begun < 25
        finally:
            relay.close()


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b"503 Busy\r\nRetry-After: Fri, 27 Nov 2026 21:00:00 GMT", "is not mien serve: it answers no JSON"),
        (b"502 Bad Gateway", r"a proxy at .* cannot reach mien serve \(it answers 502\)"),
    ],
)
def test_what_a_proxy_answers_is_understood(answer: bytes, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with proxy.accept()[0] as connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 6\r\n\r\n<html>")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(ServerError, match=line):
            Client(f"http://localhost:{proxy.getsockname()[1]}", patience_s=1.5).models()
        proxy.shutdown(socket.SHUT_RDWR)


def test_many_at_once_on_asyncio(client: Client, server: Running) -> None:
    other = mien.AsyncClient(f"http://localhost:{server.port}")

    async def several() -> list[tuple[mien.Face, ...]]:
        return await asyncio.gather(*(other.analyze(png(level)) for level in (20, 90, 200)))

    assert asyncio.run(several()) == [client.analyze(png(level)) for level in (20, 90, 200)]
    assert asyncio.run(other.models()) == client.models()
    assert asyncio.run(other.analyze_batch([png(90)])) == client.analyze_batch([png(90)])


def test_cancelling_a_call_on_asyncio_ends_it_everywhere(start: Start, tmp_path: Path) -> None:
    """More videos at once than asyncio has threads on two cores hold up no picture, and go with their tasks."""
    clip = write_video(tmp_path / "clip.mp4", [scene([(0, 0, 200)], size=(600, 400), side=350)] * 1000)

    async def several(address: str) -> tuple[mien.Face, ...]:
        told = 0

        def progress(_: float) -> None:
            nonlocal told
            told += 1

        client = mien.AsyncClient(address)
        videos = [asyncio.create_task(client.analyze_video(clip, progress)) for _ in range(10)]
        while told < 10:
            await asyncio.sleep(0.05)
        faces = await asyncio.wait_for(client.analyze(png(200)), 10)
        assert not any(video.done() for video in videos)
        for video in videos:
            video.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(*videos, return_exceptions=True)
        )
        with socket.create_server(("127.0.0.1", 0)) as silent:
            deaf = mien.AsyncClient(f"http://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(deaf.models(), 0.2)
        return faces

    with start("--max-videos", "12") as server:
        threads = threading.active_count()
        ((face,), begun) = asyncio.run(several(f"http://localhost:{server.port}")), time.monotonic()
        assert face.emotion == "bright"
        while threading.active_count() > threads or server.left_files():
            assert time.monotonic() < begun + 15, "a call goes on, or its video"
            time.sleep(0.05)


def test_both_clients_take_the_same() -> None:
    both = (mien.Client, mien.AsyncClient)
    one, other = (inspect.signature(kind) for kind in both)
    assert one == other
    for name in ("analyze", "analyze_batch", "analyze_video", "models"):
        one, other = (inspect.signature(getattr(kind, name)) for kind in both)
        assert list(one.parameters) == list(other.parameters), name


def test_errors_are_one_line(client: Client, server: Running) -> None:
    with pytest.raises(ImageError, match="the picture is not a picture"):
        client.analyze(b"no picture")
    with pytest.raises(ImageError, match=r"nowhere\.png cannot be opened"):
        client.analyze("nowhere.png")
    with pytest.raises(ServerError, match="more than the 2 MB") as refused:
        client.analyze(bytes(2_000_001))
    assert refused.value.status == 413
    with pytest.raises(ServerError, match="does mien serve run there"):
        Client("http://localhost:1").models()
    with pytest.raises(ServerError, match="there is nothing at /elsewhere/v1/models"):
        Client(f"http://localhost:{server.port}/elsewhere").models()
    with pytest.raises(ConfigError, match=r"an address is like https://faces\.example\.org"):
        Client("localhost:8000")


@pytest.mark.slow
def test_what_a_newer_server_says_beside_is_left_out(analyzer: Analyzer) -> None:
    told = analyzer.analyze_bytes(png(200)).to_dict()[0] | {"age": 41, "gaze": {"x": 0.5}}
    body = json.dumps({"pictures": [{"faces": [told], "coarse": False, "blur": 0.1}], "trace": "a1"}).encode()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                while connection.recv(1 << 16)[-8:] != png(200)[-8:]:
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=serve)
        thread.start()
        (face,) = Client(f"http://127.0.0.1:{listening.getsockname()[1]}").analyze(png(200))
        thread.join()
    assert (face.emotion, face.to_dict()["box"]) == ("bright", told["box"])


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"address": "http://localhost:99999"}, "an address is like https://faces.example.org, got"),
        ({"address": "http://localhost:http"}, "an address is like https://faces.example.org, got"),
        ({"address": "http://[::1"}, "an address is like https://faces.example.org, got"),
        ({"token": "read-from-a-file\n"}, "the token has a line break"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
    ],
)
def test_wrong_settings_are_refused_at_once(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}") as refused:
        Client(**wrong)
    assert "read-from-a-file" not in str(refused.value), "a token does not end up in a log"


def test_what_cannot_be_sent_is_told_what_to_do(client: Client) -> None:
    with pytest.raises(DataError, match=r"got BytesIO; of an open file give its content, file.read\(\)"):
        client.analyze(io.BytesIO(png(200)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="analyze_batch takes several pictures, got one"):
        client.analyze_batch("photo.jpg")
    with pytest.raises(ServerError, match="label empty or too long"):
        Client(f"http://{'a' * 64}.example").models()


def test_the_reason_of_a_refusal_is_read_although_the_rest_was_not_taken() -> None:
    """A server that has said 413 closes the connection while the client still sends; the reason has come by then."""
    answer = (
        b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 30\r\n\r\n" + b'{"detail": "it has too much"}\n '
    )

    def refuse(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.recv(1 << 16)
        connection.sendall(answer)
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset, as the rest is unread

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=refuse, args=[listening])
        thread.start()
        with pytest.raises(ServerError, match=r"^it has too much$") as refused:
            Client(f"http://127.0.0.1:{listening.getsockname()[1]}").analyze(bytes(50_000_000))
        thread.join()
    assert refused.value.status == 413


def test_clients_may_stand_in_with(server: Running) -> None:
    address = f"http://localhost:{server.port}"

    async def name() -> str:
        async with mien.AsyncClient(address) as client:
            return str((await client.models())["models"][0]["name"])

    with mien.Client(address) as client:
        assert client.models()["models"][0]["name"] == asyncio.run(name()) == "brightness"


def test_it_comes_back_when_it_is_told_to(start: Start, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [scene([(0, 0, 200)], size=(600, 400), side=350)] * 100)
    with start("--max-videos", "1") as server:
        address = f"http://localhost:{server.port}"
        server.send_video(clip.read_bytes())
        with pytest.raises(ServerError, match="1 video is waiting or running already") as busy:
            Client(address, patience_s=0).analyze_video(clip)
        assert busy.value.status == 503
        assert len(Client(address).analyze_video(clip)["rows"]) == 100


@pytest.mark.slow
def test_it_brings_its_token(start: Start) -> None:
    with start(MIEN_TOKEN=TOKEN) as guarded:
        address = f"http://localhost:{guarded.port}"
        with pytest.raises(ServerError, match="this server wants its token"):
            Client(address).models()
        assert Client(address, token=TOKEN).analyze(png(9))[0].emotion == "dark"


def test_it_needs_no_server_packages() -> None:
    code = "import sys, mien; mien.Client; print([m for m in ('fastapi', 'uvicorn', 'pydantic') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
