"""YuNet's file: named, $MIEN_YUNET, the folder for caches, in this order; fetched once, and only when it is right."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.cli.main import main
from mien.detect import registry as module
from mien.detect.registry import (
    KNOWN,
    NEWEST,
    Published,
    fetch_yunet,
    open_detector,
    yunet_file,
    yunet_folder,
)
from mien.errors import ModelError

CONTENT = b"a network of some kind" * 1000
NAME = "face_detection_yunet_2026may.onnx"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "face-detectors"


class Server(http.server.BaseHTTPRequestHandler):
    """Sends CONTENT under /file, half of it under /half, and nothing else; counts what it is asked."""

    asked: list[str] = []  # noqa: RUF012 - shared between requests on purpose

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in ("/file", "/half"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/file" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def published(address: str, content: bytes = CONTENT) -> Published:
    return Published(NAME, hashlib.sha256(content).hexdigest(), address)


def test_a_file_is_fetched_once_and_then_found(address: str, cache: Path) -> None:
    file = published(f"{address}/file")
    assert yunet_file() is None
    assert fetch_yunet(file) == cache / NAME
    assert fetch_yunet(file) == cache / NAME
    assert Server.asked == ["/file"]
    assert yunet_file() == cache / NAME
    assert (cache / NAME).read_bytes() == CONTENT
    (cache / NAME).write_bytes(b"changed")  # then it is fetched anew
    assert fetch_yunet(file).read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "content"), [("/file", b"another"), ("/half", CONTENT)])
def test_what_is_not_the_file_is_not_kept(address: str, path: str, content: bytes, cache: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"sent is not .*, or not all of it: .*; nothing was kept; save .* from https://github",
    ):
        fetch_yunet(published(address + path, content))
    assert not cache.exists()


def test_a_failed_download_says_what_to_do_by_hand(address: str, cache: Path) -> None:
    with pytest.raises(
        ModelError, match=r"cannot be downloaded from 127.*(404|Not Found).*; without a network: save "
    ) as at:
        fetch_yunet(published(f"{address}/nothing"))
    assert str(cache) in str(at.value)
    assert "\n" not in str(at.value)
    assert not cache.exists()


def test_the_command_without_a_network_is_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    port = int(address.rpartition(":")[2]) - 1 or 1
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")  # where nobody listens
    assert main(["predict", "--download-yunet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"mien: {NAME} cannot be downloaded from media.githubusercontent.com (")
    assert not cache.exists()


def test_the_command_fetches_it_and_needs_no_picture(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    monkeypatch.setattr(module.fetch_yunet, "__defaults__", (published(f"{address}/file"),))
    assert main(["predict", "--download-yunet"]) == 0
    assert capsys.readouterr().err == f"mien: YuNet's file is {cache / NAME}\n"


def test_the_order_is_named_then_variable_then_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cache.mkdir(parents=True)
    for name in (NAME, "face_detection_yunet_2023mar.onnx", "face_detection_yunet_custom.onnx"):
        (cache / name).write_bytes(b"")
    assert yunet_folder() == cache
    assert yunet_file() == cache / NAME  # the newest
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"not a network")
    monkeypatch.setenv("MIEN_YUNET", str(mine))
    assert yunet_file() == mine
    assert yunet_file(tmp_path / "named.onnx") == tmp_path / "named.onnx"
    with pytest.raises(ModelError, match=r"mine\.onnx is not a YuNet file"):
        open_detector("auto")
    assert open_detector("haar").name == "haar"  # which takes no file
    monkeypatch.setenv("MIEN_YUNET", str(tmp_path / "gone.onnx"))
    with pytest.raises(
        ModelError, match=r"MIEN_YUNET names .*gone\.onnx, and there is no such file; correct it"
    ):
        open_detector("auto")
    monkeypatch.setenv("MIEN_YUNET", "")
    assert yunet_file() == cache / NAME


@pytest.mark.shared
def test_the_variable_reaches_every_door(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared / "models" / "yunet" / NAME
    assert KNOWN[hashlib.sha256(path.read_bytes()).hexdigest()] == NEWEST.name == NAME
    monkeypatch.setenv("MIEN_YUNET", str(path))
    for name in ("auto", "yunet"):
        assert open_detector(name).metadata["known_as"] == NAME
