"""The queue of videos and the quotas, shared by processes: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from mien.errors import ConfigError, OutputError
from mien.serve.auth import Key
from mien.serve.config import ServeConfig
from mien.serve.database import JOBS, PIECES, Database, now_s
from mien.serve.jobs import JobLost, Jobs
from mien.serve.problems import ApiError, Busy

from ..video.video_files import scene, write_video
from .conftest import Running, Start
from .postgres_server import PASSWORD, Postgres, postgres, programs

MEGABYTE = b"m" * 1_000_000
KEY = Key(name="shop", token="shop-token.of_twenty~x", pictures_per_minute=50, videos_per_day=9)


@contextmanager
def queue(folder: Path, address: str | None = None, **settings: Any) -> Iterator[Jobs]:
    """A process's part of a queue, without a server."""
    database = Database(address, folder)
    jobs = Jobs(database, ServeConfig(**settings))
    yield jobs
    jobs.close()
    database.close()


@pytest.fixture(scope="module")
def elephant() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("needs PostgreSQL's programs: apt install postgresql")
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the jobs of a test lie, empty at its beginning."""
    where = str(tmp_path / "j.sqlite")
    if request.param == "postgresql":
        where = request.getfixturevalue("elephant").address
    yield where
    database = Database(where, tmp_path)
    with database.writing() as connection:
        for table in ("jobs", "pieces", "quotas"):
            connection.exec_driver_sql(f"DELETE FROM mien_{table}")
    database.close()


def sent(jobs: Jobs, data: bytes = b"film") -> str:
    job = jobs.begin(len(data))
    jobs.add(job, "video", 0, data)
    return jobs.queue(job, len(data)).id


def change(jobs: Jobs, **values: Any) -> None:
    """Change all jobs, as time would."""
    with jobs._database.writing() as connection:
        connection.execute(update(JOBS).values(values))


def names(jobs: Jobs) -> set[tuple[str, str]]:
    with jobs._database.reading() as connection:
        return {
            (job, name) for job, name in connection.execute(PIECES.select().with_only_columns(*PIECES.c[:2]))
        }


def test_each_job_is_taken_once_and_results_come_back_whole(address: str, tmp_path: Path) -> None:
    with queue(tmp_path, address) as one, queue(tmp_path, address) as other:
        first = one.begin(3)
        second = sent(other, MEGABYTE)
        for number, data in enumerate((b"a", b"b", b"c")):
            one.add(first, "video", number, data)
        assert other.take() is not None, "what is still coming waits for nobody"
        with pytest.raises(ApiError, match="there is no such video"):
            other.state(first)
        one.queue(first, 3)
        taken = [jobs.take() for jobs in (other, one, other)]
        assert [state and state.id for state in taken] == [first, None, None]
        assert b"".join(one.pieces(first, "video")) == b"abc"
        with pytest.raises(JobLost):
            one.progress(first, 0.5)  # it is the other's
        other.progress(first, 0.5)
        assert one.state(first).to_dict() == {"id": first, "status": "running", "progress": 0.5}
        rows = os.urandom(2_500_000)
        other.finish(first, {"fps": 10}, {"rows": io.BytesIO(rows), "table": io.BytesIO(b"t")})
        other.fail(second, {"detail": "no"})
        assert b"".join(one.pieces(first, "rows")) == rows
        assert one.has_unfetched([first, second])
        assert one.about(first) == '{"fps": 10}'
        assert not one.has_unfetched([first, second])
        assert names(one) == {(first, "rows"), (first, "table")}, "the videos are gone"
        one.drop(first)
        assert names(one) == set()


def test_cancelled_by_one_it_is_lost_to_the_other(address: str, tmp_path: Path) -> None:
    with queue(tmp_path, address) as one, queue(tmp_path, address) as other:
        job = sent(one)
        assert other.take() is not None
        one.drop(job)
        assert one.state(job).status == "cancelled"
        results = {"rows": io.BytesIO(b"r")}
        for late in (lambda: other.progress(job, 0.9), lambda: other.finish(job, {}, results)):
            with pytest.raises(JobLost):
                late()
        other.fail(job, {"detail": "too late"})
        assert (one.state(job).status, names(one)) == ("cancelled", set())


def test_who_lost_his_lease_can_change_nothing_more(address: str, tmp_path: Path) -> None:
    with queue(tmp_path, address, lease_s=600) as one, queue(tmp_path, address, lease_s=600) as other:
        job = sent(one)
        for jobs in (one, other):
            assert jobs.take(left=False) is None or jobs is one
            taken = one.state(job) if jobs is one else jobs.take()
            assert taken is not None and (taken.id, taken.status) == (job, "running")
            assert one.take() is other.take() is None, "nobody else has it meanwhile"
            change(one, lease_s=0)
        with pytest.raises(JobLost):
            one.finish(job, {}, {"rows": io.BytesIO(b"r")})
        assert one.take() is None, "a video that ends its process is not tried for ever"
        state = other.state(job)
        assert (state.status, state.problem and state.problem["status"]) == ("failed", 500)


def test_that_a_process_was_killed_is_seen_at_once(tmp_path: Path) -> None:
    where = str(tmp_path / "j.sqlite")
    with queue(tmp_path, where, lease_s=600) as jobs:
        job = sent(jobs)
        code = (
            "import os, sys; from pathlib import Path; from mien.serve.config import ServeConfig; "
            "from mien.serve.database import Database; from mien.serve.jobs import Jobs; where = sys.argv[1]; "
            "taken = Jobs(Database(where, Path()), ServeConfig(lease_s=600)).take(); "
            "os.kill(os.getpid(), 9 * bool(taken))"
        )
        assert subprocess.run([sys.executable, "-c", code, where], check=False).returncode == -signal.SIGKILL
        taken = jobs.take()
        assert taken is not None and (taken.id, taken.tries) == (job, 2)
        jobs.sweep()
        assert len(list(tmp_path.glob("*alive*"))) == 1, "our own"
    assert not list(tmp_path.glob("*alive*"))


def test_who_lives_keeps_his_job(address: str, tmp_path: Path) -> None:
    with queue(tmp_path, address, lease_s=0.5) as one:
        job = sent(one)
        assert one.take() is not None
        change(one, lease_s=0)
        with one._database.reading() as connection:
            renewed = JOBS.select().where(JOBS.c.id == job, JOBS.c.lease_s > now_s())
        ends = time.monotonic() + 60
        while True:
            with one._database.reading() as connection:
                if connection.execute(renewed).first():
                    break
            assert time.monotonic() < ends
            time.sleep(0.02)


def test_there_is_room_for_so_many_and_for_so_much(address: str, tmp_path: Path) -> None:
    bounds = {"max_videos": 2, "max_jobs_megabytes": 4, "max_video_megabytes": 2}
    with queue(tmp_path, address, **bounds) as one, queue(tmp_path, address, **bounds) as other:
        done = []
        for _ in range(2):
            done.append(sent(one, MEGABYTE))
            assert other.take() is not None
            other.finish(done[-1], {}, {"rows": io.BytesIO(MEGABYTE)})
        begun: list[str] = []
        refused: list[str] = []

        def begin(jobs: Jobs) -> None:
            try:
                begun.append(jobs.begin(1_500_000))
            except Busy as error:
                refused.append(str(error))

        threads = [threading.Thread(target=begin, args=(jobs,)) for jobs in (one, other) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # What is done makes room for what comes, and the last place goes to one alone.
        assert (len(begun), len(refused)) == (2, 4)
        assert set(refused) == {"2 videos are waiting or running already; try again in a second"}
        assert names(one) == {(done[1], "rows")}
        one.remove(begun[0])
        for jobs, job in ((one, begun[1]), (other, begun[1])):
            jobs._mine.discard(job)
        other.sweep()
        with pytest.raises(Busy, match="fill the 4 MB that they may have; try again in 30 seconds"):
            other.begin(2_600_000)


def test_what_is_old_goes(address: str, tmp_path: Path) -> None:
    with queue(tmp_path, address, lease_s=600) as jobs:
        done, waits, comes = sent(jobs), sent(jobs), jobs.begin(3)
        assert jobs.take() is not None
        jobs.finish(done, {}, {"rows": io.BytesIO(b"r")})
        change(jobs, changed_s=now_s() - 60 * 14, lease_s=now_s() - 1)
        assert jobs.state(done).status == "done"
        jobs.sweep()
        with pytest.raises(JobLost):
            jobs.add(comes, "video", 0, b"x")  # whoever sent it has gone
        change(jobs, changed_s=now_s() - 60 * 16)
        for call in (jobs.state, jobs.about, jobs.drop):
            with pytest.raises(ApiError, match="results are deleted after a while"):
                call(done)
        jobs.sweep()
        assert names(jobs) == {(waits, "video")}
        change(jobs, begun_s=now_s() - 3600 * 6)  # longer than it and all before it may take
        jobs.sweep()
        assert names(jobs) == set()


def test_quotas_hold_over_processes_and_threads(address: str, tmp_path: Path) -> None:
    databases = [Database(address, tmp_path) for _ in range(2)]
    answers: list[str] = []

    def ask(database: Database) -> None:
        for _ in range(10):
            try:
                database.take(KEY, pictures=1)
                answers.append("")
            except ApiError as error:
                answers.append(str(error))

    threads = [threading.Thread(target=ask, args=(database,)) for database in databases * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A minute may end in between, and then there is more.
    assert answers.count("") in (50, 80)
    assert set(answers) <= {"", "shop may ask for 50 pictures a minute and has had 50; try again later"}
    databases[0].take(KEY, videos=9)
    with pytest.raises(ApiError, match="9 videos a day and has had 9; try again later"):
        databases[1].take(KEY, videos=1)
    with databases[0].writing() as connection:  # a day later
        connection.exec_driver_sql("UPDATE mien_quotas SET span = span - 1")
    with pytest.raises(ApiError, match="9 videos a day and has had 0;"):
        databases[1].take(KEY, videos=10, pictures=1)
    databases[1].take(KEY, videos=9, pictures=50)  # what was refused did not count
    databases[1].take(None, videos=1)
    for database in databases:
        database.close()


def test_a_database_that_cannot_be_had_is_one_line(elephant: Postgres, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    wrong = elephant.address.replace("secret", "wrong")
    for where, line in {
        elephant.address.replace(str(elephant.port), "1"): "Connection refused",
        wrong: "password authentication failed for user",
        f"{elephant.address}?sslmode=nonsense": "sslmode",
        f"{elephant.address}?nonsense=1": "nonsense",
        elephant.address.replace(str(elephant.port), "port"): "address of --jobs cannot be read",
        str(tmp_path / "text"): "file is not a database",
    }.items():
        with pytest.raises(ConfigError, match=line) as error:
            Database(where, tmp_path)
        shown = repr(error.value) + str(error.value.__cause__)
        assert "\n" not in str(error.value)
        assert "secret" not in shown and "wrong" not in shown
    for where in ("mysql://mien:a-secret@host/mien", ""):
        with pytest.raises(ConfigError, match="is the path of a file or begins with postgresql://") as error:
            ServeConfig(jobs=where)
        assert "secret" not in str(error.value)
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--detector", "whole"]
    done = subprocess.run(
        command, env={**os.environ, "MIEN_JOBS": wrong}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(
        f"mien: the database postgres on 127.0.0.1:{elephant.port} of --jobs cannot be used"
    )
    assert "wrong" not in done.stderr


def wait_for(what: Callable[[], Any], seconds: float = 180) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def works(server: Running) -> bool:
    return "mien_videos_running 1.0" in server.ask("GET", "/metrics").body.decode().splitlines()


@pytest.mark.slow
def test_two_servers_on_one_database(elephant: Postgres, start: Start, tmp_path: Path) -> None:
    """One is killed, the database is stopped, each in the middle of a video; all of them come to their end."""
    frame = scene([(0, 0, 200)], size=(1200, 800), side=700)
    film = write_video(tmp_path / "film.mp4", [frame] * 120).read_bytes()
    with (
        start("--lease-s", "2", MIEN_JOBS=elephant.address) as one,
        start("--lease-s", "2", MIEN_JOBS=elephant.address) as other,
    ):
        killed, cancelled = one.send_video(film), one.send_video(film)
        wait_for(lambda: works(one) and works(other))
        assert one.ask("DELETE", f"/v1/videos/{cancelled}").status == 204
        assert other.ask("GET", f"/v1/videos/{cancelled}").json["status"] == "cancelled"
        wait_for(lambda: works(one) != works(other))
        first, second = (one, other) if works(one) else (other, one)
        assert second.ask("GET", f"/v1/videos/{killed}").json["status"] == "running"
        first.process.kill()
        first.process.wait()
        assert second.finished(killed, 180)["status"] == "done", "the other began it anew"
        assert len(second.ask("GET", f"/v1/videos/{killed}/result").json["rows"]) == 120

        stays = second.send_video(film)
        wait_for(lambda: works(second))
        elephant.stop(signal.SIGQUIT)
        for method, path in (("GET", f"/v1/videos/{stays}"), ("POST", "/v1/videos")):
            told = second.ask(method, path, film if method == "POST" else None, Content_Type="video/mp4")
            assert (told.status, told.headers["retry-after"]) == (503, "5")
            assert told.line == "the database of videos and quotas does not answer; try again in 5 seconds"
        assert second.ask("GET", "/readyz").status == 200, "pictures need no database"
        elephant.start()
        assert second.finished(stays, 180)["status"] == "done", "what ran went on"
        assert second.ask("GET", f"/v1/videos/{stays}/result?format=csv").body.count(b"\n") == 121
        told = second.log.read_text()
        assert "Traceback" not in told and PASSWORD not in told and "secret" not in told, told
        assert "answers again" in told


def test_a_full_disk_is_said_of_the_database_also_where_a_picture_is_counted(tmp_path: Path) -> None:
    database = Database(None, tmp_path)
    event.listen(  # no room for a page more
        database._engine, "checkout", lambda made, *_: made.execute("PRAGMA max_page_count = 1").close()
    )
    with pytest.raises(
        OutputError, match="cannot write the database of videos and quotas: No space left on device"
    ):
        for number in range(500):
            database.take(replace(KEY, name=f"shop {number}" * 30), pictures=1)
    database.close()
