"""One client must not spoil the server for others, and whatever happens to it, it must end. All on real servers."""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ImageError
from mien.model.folder import MODEL_FILE, write_metadata
from mien.serve.config import ServeConfig
from mien.serve.decoder import Decoder
from mien.serve.fair_queue import picture
from mien.serve.server import _let_nobody_begin

from ..model.tiny_onnx import METADATA, brightness_network
from .conftest import Start, form, jpeg, png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc"),
]


def laborious_png() -> bytes:
    """25 megapixels in 76 kB: a good fraction of a second of a processor."""
    black = np.zeros((5000, 5000, 3), np.uint8)
    return cv2.imencode(".png", black, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def processes_of(server: int, what: bytes) -> set[int]:
    """Return the processes that a server has started whose command line holds a word."""
    found = set()
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{server}/task").iterdir():
            found |= {int(word) for word in (task / "children").read_text().split()}
    return {one for one in found if what in Path(f"/proc/{one}/cmdline").read_bytes()}


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


@contextmanager
def in_background(work: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(120)
    assert not thread.is_alive()


# Turns between clients, and what decoding may cost


def test_laborious_pictures_of_one_client_do_not_hold_up_another(start: Start) -> None:
    """Both come from one address. With one queue in order of arrival, the other waits for all 16."""
    many = form(*[("pictures", "p.png", laborious_png())] * 16)
    with start() as server:
        answered = 0
        with in_background(lambda: server.analyze(*many)) as attacker:
            time.sleep(1.0)
            while attacker.is_alive() and answered < 20:
                assert server.analyze(png(9)).status == 200
                answered += attacker.is_alive()
        assert answered >= 10


def test_what_would_take_too_long_is_refused_before_it_is_decoded(start: Start) -> None:
    with start("--decode-s", "0.5") as server:
        answer = server.analyze(laborious_png())
        assert answer.status == 422
        assert answer.line.startswith("the picture would take about ")
        assert answer.line.endswith("more than the 0.5 that this server gives; open it and save it anew")


def test_honest_pictures_are_not_taken_for_laborious_ones() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), dtype=np.uint8)
    decoder = Decoder(25_000_000)
    try:
        for suffix, *options in (
            (".jpg", cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
            (".png", cv2.IMWRITE_PNG_COMPRESSION, 1),
            (".webp", cv2.IMWRITE_WEBP_QUALITY, 101),  # lossless
            (".tiff",),
        ):
            data = cv2.imencode(suffix, noise, options)[1].tobytes()
            looked = picture(data, suffix, ServeConfig())
            image, seconds = decoder.decode(data, suffix, looked.limit_s)
            assert not isinstance(image, Exception), image
            assert seconds < looked.limit_s / 2, "slower machines must have room"
    finally:
        decoder.close()


def test_a_decoder_that_takes_too_long_is_ended_and_replaced() -> None:
    decoder = Decoder(25_000_000)
    try:
        answer, seconds = decoder.decode(laborious_png(), "bomb", 0.1)
        assert str(answer) == "bomb takes more than 0.1 seconds to decode; open it and save it anew"
        assert seconds >= 0.1
        image, _ = decoder.decode(png(9), "x", 1.0)
        assert not isinstance(image, Exception) and (image == 9).all()
    finally:
        decoder.close()


def test_a_decoder_has_a_limit_of_memory() -> None:
    decoder = Decoder(1_000)
    try:
        answer, _ = decoder.decode(png(9, (12_000, 12_000)), "big", 30.0)
        assert isinstance(answer, ImageError) and "memory" in str(answer)
        image, _ = decoder.decode(png(9), "x", 1.0)
        assert not isinstance(image, Exception) and (image == 9).all()
    finally:
        decoder.close()


NO_MEMORY = """
import resource, sys
from pathlib import Path
from mien.serve.decoder import Decoder
large, small = (Path(path).read_bytes() for path in sys.argv[1:])
decoder = Decoder(25_000_000)
before, hard = resource.getrlimit(resource.RLIMIT_AS)
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 2_000_000, hard))
try:
    decoder.decode(large, "large", 30.0)
except MemoryError:
    resource.setrlimit(resource.RLIMIT_AS, (before, hard))
    print((decoder.decode(small, "small", 1.0)[0] == 8).all())
decoder.close()
"""


def test_a_picture_for_which_the_server_has_no_memory_spoils_none_after_it(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(9, (4000, 5000)))
    (tmp_path / "small.png").write_bytes(png(8))
    command = [sys.executable, "-c", NO_MEMORY, tmp_path / "large.png", tmp_path / "small.png"]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout == "True\n"


def test_decoders_that_die_are_replaced_and_no_picture_is_blamed(start: Start) -> None:
    with start() as server:
        for _ in range(3):
            assert server.analyze(png(9)).status == 200
            decoders = processes_of(server.process.pid, b"mien.serve.decoder")
            assert decoders  # each is replaced when it is needed next
            for one in decoders:
                os.kill(one, signal.SIGKILL)
        assert server.analyze(jpeg(90)).status == 200
        assert server.ask("GET", "/readyz").status == 200


def test_more_than_can_be_answered_in_time_is_told_at_once(start: Start) -> None:
    laborious = form(*[("pictures", "p.png", laborious_png())] * 8)
    with start("--timeout-s", "5", "--max-pictures", "8") as server, ExitStack() as stack:
        answers: list[int] = []
        lines: list[str] = []

        def ask() -> None:
            answer = server.analyze(*laborious)
            answers.append(answer.status)
            if answer.status == 503:
                lines.append(answer.line)
                assert int(answer.headers["retry-after"]) >= 1

        for _ in range(12):
            stack.enter_context(in_background(ask))
        wait_for(lambda: bool(lines))
        assert lines[0].startswith("your pictures would have to wait about "), lines


# Slow and many connections


def test_slow_bodies_hold_no_place_that_others_want(start: Start) -> None:
    head = b"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    with start("--max-requests", "4") as server, ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(4)]
        for connection in slow:
            connection.sendall(head)
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(1.0):
                for connection in slow:
                    with suppress(OSError):
                        connection.sendall(b"x")

        with in_background(trickle):
            try:
                time.sleep(3.0)  # longer than a body may be slow where others wait
                for _ in range(4):
                    assert server.analyze(png(9)).status == 200
            finally:
                stop.set()
        told = b""
        for connection in slow:
            connection.settimeout(5)
            with suppress(OSError):
                while part := connection.recv(65536):
                    told += part
        # On a busy machine the server's own limit of time may end them first: what counts is the answers above.
        assert b"HTTP/1.1 408 " in told and b"came too slowly" in told


def test_idle_connections_beyond_the_limit_of_files_change_nothing(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1500 and (hard == resource.RLIM_INFINITY or hard >= 1500):
        resource.setrlimit(resource.RLIMIT_NOFILE, (1500, hard))
    with start("--keep-minutes", "0.05", before="ulimit -n 1024") as server, ExitStack() as opened:
        job = server.send_video(b"no video " * 10)
        assert server.finished(job)["status"] == "failed"
        for _ in range(1100):
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        for path in ("/healthz", "/readyz", "/v1/models"):
            assert server.ask("GET", path).status == 200
        assert server.analyze(png(9)).status == 200
        wait_for(lambda: server.ask("GET", f"/v1/videos/{job}").status == 404, 30)
        assert len(server.log.read_text()) < 2000


# Going down


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("keep", [True, False], ids=["kept connections", "new connections"])
def test_sigterm_resets_no_request(start: Start, workers: str, keep: bool) -> None:
    broken: list[str] = []
    counts = [0] * 12
    data = png(9)

    def client(number: int, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            try:
                connection.connect() if connection.sock is None else None
            except OSError:  # no longer listening
                return
            try:
                connection.request("POST", "/v1/analyze", data, {"Content-Type": "image/png"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                broken.append(repr(error))
                return
            if answer.status != 200:
                broken.append(str(answer.status))
            counts[number] += 1
            if not keep:
                connection.close()

    with start("--workers", workers) as server, ExitStack() as stack:
        if workers == "2":
            wait_for(lambda: len(processes_of(server.process.pid, b"spawn_main")) == 2)
        for number in range(12):
            stack.enter_context(in_background(lambda number=number: client(number, server.port)))
        wait_for(lambda: min(counts) >= 3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        stack.close()
        assert broken == []


def test_who_begins_to_connect_while_the_server_closes_its_socket_is_passed_over() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as early,
    ):
        _let_nobody_begin(listening)
        with pytest.raises(TimeoutError):  # it would be connected, and reset when the socket closes
            socket.create_connection(listening.getsockname(), timeout=0.5)
        taken, _ = listening.accept()
        with taken:
            early.sendall(b"a request")
            assert taken.recv(100) == b"a request"


def test_without_its_folder_it_is_not_ready_and_ends_all_the_same(start: Start) -> None:
    with start() as server:
        assert server.ask("GET", "/readyz").status == 200
        (folder,) = server.temporary.glob("mien-serve-*")
        shutil.rmtree(folder)
        line = "this server has lost its folder for temporary files; start it again"
        ready = server.ask("GET", "/readyz")
        assert (ready.status, ready.line) == (503, line)
        sent = server.ask("POST", "/v1/videos", b"x", Content_Type="video/mp4")
        assert (sent.status, sent.line) == (503, line)
        assert server.analyze(png(9)).status == 200, "pictures need no folder"
        assert server.ask("GET", "/healthz").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()


def endless_model(folder: Path) -> Path:
    """Write a model whose graph loops for ever once a face is bright."""
    proto = brightness_network()
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, None)
    turned = helper.make_tensor_value_info("turned", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Neg", ["value"], ["turned"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            value,
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), turned],
    )
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.array(2**62), "often"), numpy_helper.from_array(np.float32(200), "limit")]
    )
    softmax = proto.graph.node.pop()
    bright = helper.make_node("Greater", ["least", "limit"], ["bright"])
    least = helper.make_node("ReduceMin", ["faces"], ["least"], keepdims=0)
    loop = helper.make_node("Loop", ["often", "bright", "logits"], ["looped"], body=body)
    softmax.input[0] = "looped"
    proto.graph.node.extend([least, bright, loop, softmax])
    folder.mkdir()
    onnx.save(proto, folder / MODEL_FILE)
    write_metadata(folder, METADATA)
    return folder


def test_a_network_that_never_answers_does_not_keep_the_server_from_ending(
    start: Start, tmp_path: Path
) -> None:
    endless = endless_model(tmp_path / "endless")
    with start("--model", str(endless), "--timeout-s", "2", "--grace-s", "2") as server:
        assert server.analyze(png(9)).status == 200
        answer = server.analyze(png(250))
        assert (answer.status, answer.line[:24]) == (503, "the pictures had to wait")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(40) == 0
        wait_for(lambda: list(server.temporary.iterdir()) == [])
