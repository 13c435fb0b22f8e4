"""/v1/videos: the rows of `mien video`, for one client, for a while."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien.errors import ImageError
from mien.files import cannot_write
from mien.predict.analyzer import Analyzer
from mien.serve.config import ServeConfig
from mien.serve.database import Database
from mien.serve.jobs import VIDEO, Jobs
from mien.serve.metrics import Metrics
from mien.serve.video_worker import VideoWorker, analyze_upload
from mien.video.analyze import analyze_video

from ..video.video_files import scene, write_video
from .conftest import Running, Start, form, png
from .test_queue import queue

KEYS = ("box", "emotion", "probability", "probabilities", "uncertain", "reasons")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [scene([(0, 0, 40 + 15 * n)], size=(64, 48), side=48) for n in range(12)]
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that takes a second or more: nothing changes, so that the file stays small."""
    frame = scene([(0, 0, 200)], size=(1200, 800), side=700)
    return write_video(tmp_path_factory.mktemp("clip") / "long.mp4", [frame] * 300)


def test_the_rows_are_those_of_analyze_video(server: Running, analyzer: Analyzer, clip: Path) -> None:
    body, kind = form(("video", "clip.mp4", clip.read_bytes()))
    begun = server.ask("POST", "/v1/videos", body, Content_Type=kind)
    assert begun.status == 202
    job = begun.json["id"]
    links = {"self": f"/v1/videos/{job}", "result": f"/v1/videos/{job}/result"}
    assert begun.json == {"id": job, "status": "queued", "progress": 0.0, "links": links}
    assert server.finished(job) == {"id": job, "status": "done", "progress": 1.0}
    found = server.ask("GET", f"/v1/videos/{job}/result").json
    expected = list(analyze_video(clip, analyzer))
    rows = found.pop("rows")
    assert found == {
        **{"fps": 10.0, "width": 64, "height": 48, "duration_s": pytest.approx(1.2), "note": ""},
        **{"head": "light", "labels": ["dark", "bright"]},
    }
    assert rows == [
        {
            "time_s": frame.time_s,
            "frame": frame.index,
            "faces": [
                {"track": one.track, **{key: one.face.to_dict()[key] for key in KEYS}} for one in frame.faces
            ],
        }
        for frame in expected
    ]
    assert len(rows) == 12 and rows[0]["faces"][0]["track"] == 1
    table = server.ask("GET", f"/v1/videos/{job}/result?format=csv")
    assert table.headers["content-type"].startswith("text/csv")
    read = list(csv.DictReader(io.StringIO(table.body.decode())))
    shares = [row["faces"][0]["probabilities"]["dark"] for row in rows]
    assert [float(row["p_dark"]) for row in read] == pytest.approx(shares, abs=1e-4)
    assert server.left_files() == ["rows", "table"], "the video must be gone"
    assert server.ask("DELETE", f"/v1/videos/{job}").status == 204
    gone = server.ask("GET", f"/v1/videos/{job}")
    assert (gone.status, gone.line) == (404, "there is no such video; results are deleted after a while")
    assert server.left_files() == []


BAD = {
    "text": b"hello " * 50,
    "picture": png(9),
    "head of an MP4": b"\0\0\0\x20ftypisom" + bytes(300),
    # FFmpeg alone would open what these name. The zero byte keeps them from being taken for text.
    "concat": b"ffconcat version 1.0\nfile faces.csv\n#\0\n",
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n\0",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_video_fails_in_one_line(server: Running, data: bytes) -> None:
    state = server.finished(job := server.send_video(data))
    assert (state["status"], state["problem"]["status"]) == ("failed", 422)
    assert state["problem"]["detail"].startswith("the video is ")
    assert str(server.temporary) not in json.dumps(state), "where it lay is nobody's business"
    gone = server.ask("GET", f"/v1/videos/{job}/result")
    assert (gone.status, gone.line) == (410, "there are no results: the video failed; its state says why")
    assert server.left_files() == []
    server.ask("DELETE", f"/v1/videos/{job}")


def test_a_list_of_other_files_opens_none_of_them(
    analyzer: Analyzer, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> bytes:
        (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
        (tmp_path / "video").write_bytes(b"ffconcat version 1.0\nfile other.mp4\n#\0\n")
        found = io.BytesIO()
        analyze_upload(
            tmp_path / "video", analyzer, ServeConfig(), lambda _: None, rows=found, table=io.BytesIO()
        )
        return found.getvalue()

    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;1")
    assert rows(), "FFmpeg alone opens what the list names"
    with queue(tmp_path) as jobs:
        worker = VideoWorker(jobs, analyzer, ServeConfig(), Metrics(), tmp_path)  # forbids it
        with pytest.raises(ImageError, match="the video is not a video that can be decoded"):
            rows()
        worker.stop()


def test_too_large_is_refused_by_bytes_and_by_pixels(server: Running, tmp_path: Path) -> None:
    answer = server.ask("POST", "/v1/videos", bytes(3_000_001), Content_Type="video/mp4")
    assert (answer.status, answer.line) == (413, "the request has more than the 3 MB that this server takes")
    wide = write_video(tmp_path / "wide.mp4", [scene([], size=(1200, 1000))] * 3)
    state = server.finished(job := server.send_video(wide.read_bytes()))
    assert state["problem"]["detail"].startswith("the video has 1200x1000 pixels, more than the 1 megapixels")
    server.ask("DELETE", f"/v1/videos/{job}")
    assert server.ask("POST", "/v1/videos", b"", Content_Type="video/mp4").status == 422
    assert server.ask("POST", "/v1/videos", b"x", Content_Type="image/png").status == 415
    assert server.left_files() == []


@pytest.mark.parametrize("job", ["x", "..", "%2e%2e", "a" * 22, "..%2flock"])
def test_there_is_no_other_video(server: Running, job: str) -> None:
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        assert server.ask(method, f"/v1/videos/{job}{path}").status == 404


@pytest.mark.slow
def test_a_video_can_be_cancelled(start: Start, long_clip: Path) -> None:
    with start("--max-videos", "2") as server:
        running, waiting = (
            server.send_video(long_clip.read_bytes()),
            server.send_video(long_clip.read_bytes()),
        )
        answer = server.ask("POST", "/v1/videos", long_clip.read_bytes(), Content_Type="video/mp4")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        early = server.ask("GET", f"/v1/videos/{waiting}/result")
        assert (early.status, early.line) == (409, "the video is queued; ask for its state until it is done")
        for job in (waiting, running):
            assert server.ask("DELETE", f"/v1/videos/{job}").status == 204
            assert server.ask("GET", f"/v1/videos/{job}").json["status"] == "cancelled"
            gone = server.ask("GET", f"/v1/videos/{job}/result")
            assert gone.line == "there are no results: the video was cancelled; send it again"
        third = server.send_video(long_clip.read_bytes())
        assert third not in (running, waiting), "there is room again"
        server.ask("DELETE", f"/v1/videos/{third}")


@pytest.mark.slow
def test_a_video_whose_client_left_before_it_had_an_address_is_deleted(start: Start, long_clip: Path) -> None:
    data = long_clip.read_bytes()
    head = f"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with start() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + data)
        ends = time.monotonic() + 30
        while 'route="/v1/videos",status="' not in (text := server.ask("GET", "/metrics").body.decode()):
            assert time.monotonic() < ends, text
            time.sleep(0.05)
        time.sleep(0.3)  # as long as nothing is running, a job is taken at once
        text = server.ask("GET", "/metrics").body.decode()
        assert "mien_videos_running 0.0" in text and "mien_videos_waiting 0.0" in text
        assert server.left_files() == []


def test_results_go_after_a_while(start: Start, clip: Path) -> None:
    with start("--keep-minutes", "0.002") as server:
        job = server.send_video(clip.read_bytes())
        ends = time.monotonic() + 20
        while server.ask("GET", f"/v1/videos/{job}").status == 200:
            assert time.monotonic() < ends
            if server.ask("GET", f"/v1/videos/{job}").status == 200:
                time.sleep(0.1)
                server.ask("POST", "/v1/videos", b"x" * 10, Content_Type="video/mp4")  # sweeps


@pytest.mark.slow
def test_sigterm_lets_the_running_video_end_and_be_fetched(start: Start, long_clip: Path) -> None:
    with start("--grace-s", "300") as server:  # a busy machine needs more than the 30 seconds by default
        job = server.send_video(long_clip.read_bytes())
        while server.ask("GET", f"/v1/videos/{job}").json["status"] == "queued":
            time.sleep(0.02)
        waiting = server.send_video(long_clip.read_bytes())
        server.process.send_signal(signal.SIGTERM)
        while server.ask("GET", "/readyz").status == 200:
            time.sleep(0.02)
        refused = server.ask("POST", "/v1/videos", b"x", Content_Type="video/mp4")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5"), "no new videos"
        told = server.analyze(png(1))
        assert (told.status, told.headers["connection"]) == (200, "close"), "the next one goes elsewhere"
        assert server.finished(job)["status"] == "done"
        told = server.ask("GET", f"/v1/videos/{waiting}").json
        assert told["problem"]["detail"].startswith("the server is going down")
        result = server.ask("GET", f"/v1/videos/{job}/result")
        assert len(result.json["rows"]) == 300
        assert server.process.wait(20) == 0
        assert list(server.temporary.glob("mien-serve-*")) == []
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_video(start: Start, long_clip: Path) -> None:
    with start() as server:
        server.send_video(long_clip.read_bytes())
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 130
        assert list(server.temporary.glob("mien-serve-*")) == []
        assert server.log.read_text().endswith("mien: stopped\n")


def watchers(server: Running) -> set[int]:
    """Return the processes that remove the server's folder when it is killed."""
    found = set()
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        found |= {int(word) for word in (task / "children").read_text().split()}
    return {one for one in found if b"flock" in Path(f"/proc/{one}/cmdline").read_bytes()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there, the next start removes it")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigkill_leaves_no_file(start: Start, long_clip: Path, workers: str) -> None:
    with start("--workers", workers, "--grace-s", "0") as server:
        for _ in range(2):  # one runs, one waits
            server.send_video(long_clip.read_bytes())
        assert "video" in server.left_files()
        server.process.kill()
        server.process.wait()
        ends = time.monotonic() + 30
        while list(server.temporary.iterdir()):
            assert time.monotonic() < ends
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_after_all_was_killed_the_next_start_leaves_no_file(start: Start, long_clip: Path) -> None:
    with start() as server:
        job = server.send_video(long_clip.read_bytes())
        server.send_video(long_clip.read_bytes())
        while server.ask("GET", f"/v1/videos/{job}").json["status"] == "queued":
            time.sleep(0.02)
        with start(temporary=server.temporary):
            assert len(list(server.temporary.glob("mien-serve-*"))) == 2, (
                "the folder of one that lives is not touched"
            )
        assert "video" in server.left_files(), "or the test proves nothing"
        (watcher,) = watchers(server)
        os.kill(watcher, signal.SIGTERM)  # is not for it: a whole service gets that when it is to end
        time.sleep(0.2)
        assert watchers(server) == {watcher}
        os.kill(watcher, signal.SIGKILL)
        server.process.kill()
        server.process.wait()
    left = list(server.temporary.glob("mien-serve-*"))
    assert len(left) == 1
    with start(temporary=server.temporary):
        assert left[0] not in server.temporary.glob("mien-serve-*")
    assert list(server.temporary.glob("mien-serve-*")) == []


@pytest.mark.slow
def test_videos_outlive_their_server(start: Start, tmp_path: Path) -> None:
    """Two servers on a file, one after the other; two at once: test_queue.py, on PostgreSQL."""
    frame = scene([(0, 0, 200)], size=(1200, 800), side=700)
    film = write_video(tmp_path / "film.mp4", [frame] * 60).read_bytes()
    options = ("--jobs", str(tmp_path / "kept" / "jobs.sqlite"), "--lease-s", "2")
    with start(*options) as server:
        jobs = [server.send_video(film) for _ in range(2)]
        while server.ask("GET", f"/v1/videos/{jobs[0]}").json["status"] == "queued":
            time.sleep(0.02)
        server.process.kill()
        server.process.wait()
    assert (tmp_path / "kept" / "jobs.sqlite").stat().st_mode & 0o777 == 0o600
    with start(*options) as server:
        for job in jobs:
            assert server.finished(job, 180)["status"] == "done"
            assert len(server.ask("GET", f"/v1/videos/{job}/result").json["rows"]) == 60
        waits = server.send_video(film)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 130
    with start(*options) as server:
        assert server.finished(waits, 180)["status"] == "done", "it waited for the next server"


def test_a_video_whose_end_a_full_disk_cannot_store_is_begun_anew_once_there_is_room(
    tmp_path: Path, analyzer: Analyzer, clip: Path
) -> None:
    class Full(Jobs):
        """Jobs on a disk without room for a change of one of them."""

        changes = 0  # that were refused
        has_room = True

        def _note(self, *given: Any, **values: Any) -> bool:
            if not self.has_room:
                self.changes += 1
                raise cannot_write(Path("the video"), OSError(errno.ENOSPC, "No space left on device"))
            return super()._note(*given, **values)

    config = ServeConfig(lease_s=0.5)
    database = Database(None, tmp_path)
    jobs = Full(database, config)
    job = jobs.begin()
    jobs.add(job, VIDEO, 0, clip.read_bytes())
    jobs.queue(job, 1)
    jobs.has_room = False
    worker = VideoWorker(jobs, analyzer, config, Metrics(), tmp_path)
    try:
        until(lambda: jobs.changes >= 2)  # neither what was found nor that it failed
        jobs.has_room = True
        until(lambda: jobs.state(job).status == "done")
    finally:
        worker.stop()
        jobs.close()
        database.close()


def until(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)
