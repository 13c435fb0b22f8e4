"""mien serve --workers: several processes that look like one, and come and go together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mien.predict.analyzer import Analyzer
from mien.serve.config import ServeConfig
from mien.serve.server import listen

from ..video.video_files import scene, write_video
from .conftest import Running, Start, png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc"),
]


def below(process: int) -> set[int]:
    """Return the processes that a process started."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return {int(word) for task in tasks for word in (task / "children").read_text().split()}


def children(process: int) -> set[int]:
    """Return the worker processes of a server, without multiprocessing's own helper."""
    return {one for one in below(process) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()}


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_two_processes_share_videos_and_counts(start: Start, analyzer: Analyzer, tmp_path: Path) -> None:
    clip = write_video(
        tmp_path / "clip.mp4", [scene([(0, 0, 9 * n)], size=(64, 48), side=48) for n in range(9)]
    )
    with start("--workers", "2") as server:
        wait_for(lambda: len(children(server.process.pid)) == 2)
        job = server.send_video(clip.read_bytes())
        assert server.finished(job)["status"] == "done"
        for _ in range(8):  # whichever of them is asked
            assert len(server.ask("GET", f"/v1/videos/{job}/result").json["rows"]) == 9
            (picture,) = server.analyze(png(90)).json["pictures"]
            assert picture["faces"] == [face.to_dict() for face in analyzer.analyze_bytes(png(90))]
        counts = server.ask("GET", "/metrics").body.decode()
        line = 'mien_requests_total{method="POST",route="/v1/analyze",status="200"} 8.0'
        assert line in counts.splitlines(), "the counts of both are added"
        victim = min(children(server.process.pid))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(children(server.process.pid) - {victim}) == 2)
        assert "ended with code -9; another takes its place" in server.log.read_text()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert list(server.temporary.iterdir()) == []


def test_they_end_when_their_parent_is_killed(start: Start, tmp_path: Path) -> None:
    """Also in the middle of a video, or the port were taken for who starts the server anew."""
    film = write_video(tmp_path / "film.mp4", [scene([], size=(1280, 720))] * 3000)
    with start("--workers", "2", "--grace-s", "600") as server:
        wait_for(lambda: len(children(server.process.pid)) == 2)
        workers = children(server.process.pid)
        wait_for(lambda: server.ask("GET", "/readyz").status == 200)
        job = server.send_video(film.read_bytes())
        wait_for(lambda: server.ask("GET", f"/v1/videos/{job}").json["status"] == "running")
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), seconds=10)
        listen(ServeConfig(port=server.port)).close()


def test_sigterm_to_all_processes_at_once_lets_the_running_video_end(start: Start, tmp_path: Path) -> None:
    """As systemd and others send it; a second one ends them."""
    clip = write_video(tmp_path / "clip.mp4", [scene([(0, 0, 200)], size=(1200, 800), side=700)] * 300)

    def end(processes: list[int]) -> None:
        for one in processes:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGTERM)

    def all_of(server: Running) -> list[int]:
        workers = below(server.process.pid)
        return [server.process.pid, *workers, *(one for worker in workers for one in below(worker))]

    def begin(server: Running) -> str:
        wait_for(lambda: len(children(server.process.pid)) == 2)
        job = server.send_video(clip.read_bytes())
        wait_for(lambda: server.ask("GET", f"/v1/videos/{job}").json["status"] == "running")
        return job

    with start("--workers", "2", "--grace-s", "300") as server:
        job = begin(server)
        end(all_of(server))
        assert server.finished(job)["status"] == "done"
        assert len(server.ask("GET", f"/v1/videos/{job}/result").json["rows"]) == 300
        assert server.process.wait(60) == 0
    with start("--workers", "2", "--grace-s", "300") as server:
        begin(server)
        processes = all_of(server)
        end(processes)
        wait_for(lambda: server.ask("GET", "/readyz").status == 503)
        assert server.process.poll() is None
        end(processes)
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_cannot_be_loaded_is_one_line_and_2(workers: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--workers", workers]
    done = subprocess.run(
        [*command, "--model", str(tmp_path / "none")],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"mien: there is no model {tmp_path / 'none'};")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    """asyncio switches Nagle's algorithm off for sockets whose protocol is named, and for what they accept."""
    with listen(ServeConfig(port=0)) as taken:
        assert taken.proto == socket.IPPROTO_TCP
