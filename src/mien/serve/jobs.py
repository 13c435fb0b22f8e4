"""The queue of videos: each is a job, in the database with its film and its results; every process knows of all.

Whichever process is free takes the oldest job that waits. It is that process's for as long as it renews its lease,
which a thread does beside the work; where it stops to, because the process was killed or lost the database, another
begins the job anew, and at once where it can see that the process has ended. Whoever has lost a job, or whose job was
cancelled, is told so at its next note and can no longer change it. The film lies there until the job ends.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import RowMapping

from mien.errors import MienError
from mien.serve.config import MEGA, ServeConfig
from mien.serve.database import JOBS, PIECES, Database, now_s
from mien.serve.problems import ApiError, Busy, problem
from mien.terminal import counted

_NAMES = VIDEO, ROWS, TABLE = ("video", "rows", "table")  # what lies in pieces
PIECE_BYTES = 1 << 20
UNFINISHED = ("receiving", "queued", "running")
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_MOST_KEPT = 32  # finished jobs; the oldest go first
_LOST = "the server's process ended while it worked on the video; send it again"
_MOST_TRIES = 2  # a video that ends the process which reads it must not end all of them


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a job stands. progress: 0 to 1. tries: how often somebody began to work on it."""

    id: str
    status: str
    progress: float
    problem: dict[str, Any] | None
    tries: int

    def to_dict(self) -> dict[str, Any]:
        """Return what clients get."""
        shown: dict[str, Any] = {"id": self.id, "status": self.status, "progress": self.progress}
        return {**shown, "problem": self.problem} if self.problem else shown


class JobLost(Exception):
    """The job was cancelled or removed, or another process has it now."""


class Jobs:
    """The jobs in a database, which other processes may use at the same time. Every call may raise DatabaseLost."""

    def __init__(self, database: Database, config: ServeConfig) -> None:
        self._database, self._config = database, config
        self._me = secrets.token_urlsafe(16)
        database.say_alive(self._me)
        self._mine: set[str] = set()
        self._waiting = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="mien-leases", daemon=True)
        self._thread.start()

    @property
    def outlive(self) -> bool:
        """Whether jobs outlive the server."""
        return self._database.outlives

    @property
    def waiting(self) -> int:
        """Return how many jobs waited when that was last looked at."""
        return self._waiting

    @property
    def mine(self) -> tuple[str, ...]:
        """Return the jobs that this process receives or works on."""
        return tuple(self._mine)

    def check(self) -> None:
        """Raise ApiError (503) where the place of the jobs is lost for good."""
        self._database.check()

    def close(self) -> None:
        """Stop to renew leases."""
        self._ended.set()
        self._thread.join()

    def begin(self, announced: int | None = None) -> str:
        """Make a job that waits for its video; Busy where there is no room for it.

        announced: bytes that the video will have; None: as many as are allowed. Returns the job's identifier.
        """
        room = self._config.max_video_megabytes * MEGA if announced is None else announced
        job = secrets.token_urlsafe(16)
        self.sweep()
        with self._database.writing() as connection:
            self._database.lock(connection)  # or two replicas would both take the last place
            count = connection.scalar(select(func.count()).where(JOBS.c.status.in_(UNFINISHED)))
            if (count or 0) >= self._config.max_videos:
                raise Busy(
                    f"{counted(self._config.max_videos, 'video is', 'videos are')} waiting or running already"
                )
            if self._make_room(connection, room) < 0:
                limit = self._config.max_jobs_megabytes
                raise Busy(f"videos and results fill the {limit} MB that they may have", 30)
            connection.execute(
                insert(JOBS).values(
                    **{"id": job, "status": "receiving", "progress": 0.0, "tries": 0, "bytes": room},
                    **{"owner": self._me, "lease_s": self._until(), "fetched": False},
                    **{"begun_s": now_s(), "changed_s": now_s()},
                )
            )
        self._mine.add(job)
        return job

    def add(self, job: str, name: str, number: int, data: bytes) -> None:
        """Store a piece of the video or of a result, in order. JobLost where the job is no longer ours."""
        with self._database.writing() as connection:
            found = connection.execute(select(JOBS.c.id).where(self._is_mine(job)).with_for_update())
            if found.first() is None:
                raise JobLost
            connection.execute(insert(PIECES).values(job=job, name=name, number=number, data=data))

    def queue(self, job: str, count: int) -> State:
        """Let a job wait whose video has come. count: bytes that it has. Returns its state then; it may run already."""
        if not self._note(job, status="queued", bytes=count, owner=None, lease_s=None):
            raise ApiError("the video took too long to come; send it again", 408)
        self._mine.discard(job)
        return State(id=job, status="queued", progress=0.0, problem=None, tries=0)

    def take(self, *, left: bool = True) -> State | None:
        """Return the oldest job that waits, or that somebody left who has ended or lost his lease; it is ours then.

        left: False for only those that wait. One that was begun twice by processes which ended has failed: it is what
        ends them.
        """
        waits = [JOBS.c.status == "queued"]
        if left:
            ended = self._database.ended(self._owners() - {self._me})
            lost = or_(JOBS.c.lease_s < now_s(), JOBS.c.owner.in_(ended))
            waits.append(and_(JOBS.c.status == "running", lost))
        wanted = select(JOBS).where(or_(*waits)).order_by(JOBS.c.begun_s).limit(1)
        with self._database.writing() as connection:
            found = connection.execute(wanted.with_for_update(skip_locked=True)).mappings().first()
            if found is None:
                return None
            ours, tries = JOBS.c.id == found["id"], found["tries"] + 1
            if tries <= _MOST_TRIES:
                values = {"status": "running", "owner": self._me, "lease_s": self._until(), "tries": tries}
            else:
                values = {"status": "failed", "problem": json.dumps(problem(_LOST, 500)), "owner": None}
            connection.execute(update(JOBS).where(ours).values(**values, progress=0.0, changed_s=now_s()))
            if tries > _MOST_TRIES:
                _erase(connection, found["id"], *_NAMES)
        if tries > _MOST_TRIES:
            return self.take(left=left)
        self._mine.add(found["id"])
        return _state({**found, "status": "running", "progress": 0.0, "tries": tries})

    def pieces(self, job: str, name: str) -> Iterator[bytes]:
        """Yield the video or a result of a job in pieces, without holding a connection between two."""
        number = 0
        wanted = select(PIECES.c.data).where(PIECES.c.job == job, PIECES.c.name == name)
        while True:
            with self._database.reading() as connection:
                data = connection.scalar(wanted.where(PIECES.c.number == number))
                if data is None and self._read(connection, job) is None:
                    raise JobLost  # removed in the middle
            if data is None:
                return
            yield data
            number += 1

    def progress(self, job: str, share: float) -> None:
        """Note how far it is. JobLost where the job is no longer ours."""
        if not self._note(job, progress=share):
            raise JobLost

    def forget(self, job: str) -> None:
        """Renew the lease of a job no more. Of one that was neither finished nor failed somebody takes it over then."""
        self._mine.discard(job)

    def finish(self, job: str, about: dict[str, Any], results: dict[str, IO[bytes]]) -> None:
        """Store the results and let the video go. results: by name, read from where they stand. May be repeated.

        JobLost where the job is no longer ours.
        """
        if not self._note(job, erase=list(results)):  # that were begun to be stored before
            raise JobLost
        count = 0
        for name, file in results.items():
            file.seek(0)
            for number, data in enumerate(iter(lambda file=file: file.read(PIECE_BYTES), b"")):  # type: ignore[misc]
                self.add(job, name, number, data)
                count += len(data)
        end = {"status": "done", "progress": 1.0, "about": json.dumps(about), "bytes": count, "owner": None}
        if not self._note(job, erase=[VIDEO], **end):
            raise JobLost

    def fail(self, job: str, why: dict[str, Any]) -> None:
        """Let a job of ours end without results. why: a problem."""
        self._note(job, erase=_NAMES, status="failed", problem=json.dumps(why), owner=None, bytes=0)

    def put_back(self, state: State) -> None:
        """Let a job wait again that was begun and not finished."""
        self._note(state.id, status="queued", progress=0.0, owner=None, tries=state.tries - 1)

    def give_up_waiting(self, why: dict[str, Any]) -> None:
        """Let all jobs that wait fail, for the reason given, where nobody will come to take them."""
        values = {"status": "failed", "problem": json.dumps(why), "changed_s": now_s(), "bytes": 0}
        with self._database.writing() as connection:
            connection.execute(update(JOBS).where(JOBS.c.status == "queued").values(values))

    def state(self, job: str) -> State:
        """Return where a job stands; ApiError (404) where there is none."""
        return _state(self._found(job))

    def about(self, job: str) -> str:
        """Return what results say before their rows, JSON; remember that somebody has had them."""
        found = self._found(job)
        if not found["fetched"]:
            with self._database.writing() as connection:
                connection.execute(update(JOBS).where(JOBS.c.id == job).values(fetched=True))
        return str(found["about"])

    def _found(self, job: str) -> RowMapping:
        found = None
        if _ID.fullmatch(job):
            with self._database.reading() as connection:
                found = self._read(connection, job)
        if found is None:
            words = "there is no such video; results are deleted after a while"
            raise ApiError(words, 404, {"Connection": "keep-alive"})
        return found

    def _read(self, connection: Connection, job: str) -> RowMapping | None:
        # One that is to be swept is nobody's any more already.
        there = and_(JOBS.c.id == job, JOBS.c.status != "receiving", ~self._is_old())
        return connection.execute(select(JOBS).where(there)).mappings().first()

    def has_unfetched(self, jobs: Sequence[str]) -> bool:
        """Say whether results of one of these jobs are there and nobody has had them."""
        wanted = and_(JOBS.c.id.in_(jobs), JOBS.c.status == "done", ~JOBS.c.fetched)
        with self._database.reading() as connection:
            return connection.scalar(select(JOBS.c.id).where(wanted).limit(1)) is not None

    def drop(self, job: str) -> None:
        """Cancel an unfinished job, whoever works on it, or remove a finished one with its results."""
        if self.state(job).status not in UNFINISHED:
            self.remove(job)
            return
        unfinished = and_(JOBS.c.id == job, JOBS.c.status.in_(UNFINISHED))
        values = {"status": "cancelled", "owner": None, "bytes": 0, "changed_s": now_s()}
        with self._database.writing() as connection:
            if connection.execute(update(JOBS).where(unfinished).values(values)).rowcount:
                _erase(connection, job, *_NAMES)

    def remove(self, job: str) -> None:
        """Remove all of a job."""
        self._mine.discard(job)
        with self._database.writing() as connection:
            _remove(connection, job)

    def sweep(self) -> None:
        """Remove jobs that are old, too many, too large together, or were forgotten."""
        longest_s = 60 * (self._config.max_videos + 1) * self._config.max_video_minutes
        no_more = or_(
            and_(JOBS.c.status == "receiving", JOBS.c.lease_s < now_s()),
            and_(JOBS.c.status.in_(("queued", "running")), JOBS.c.begun_s < now_s() - longest_s),
            self._is_old(),
        )
        with self._database.writing() as connection:
            self._database.lock(connection)
            for job in list(connection.scalars(select(JOBS.c.id).where(no_more))):
                _remove(connection, job)
            self._make_room(connection, 0)
        self._database.forget_ended(self._owners())

    def _owners(self) -> set[str]:
        """Return whose the unfinished jobs are."""
        with self._database.reading() as connection:
            owners = connection.scalars(select(JOBS.c.owner).where(JOBS.c.owner.is_not(None)).distinct())
            return set(owners)

    def _make_room(self, connection: Connection, room: int) -> int:
        """Remove the oldest results where there are too many or so many bytes more would not fit; return what is left.

        Below 0: they do not fit, since the rest is unfinished.
        """
        ended = select(JOBS.c.id, JOBS.c.bytes).where(JOBS.c.status.not_in(UNFINISHED))
        kept = list(connection.execute(ended.order_by(JOBS.c.changed_s.desc())))
        used = connection.scalar(select(func.sum(JOBS.c.bytes))) or 0
        left = self._config.max_jobs_megabytes * MEGA - int(used) - room
        while kept and (len(kept) > _MOST_KEPT or left < 0):
            job, count = kept.pop()
            _remove(connection, job)
            left += count
        return left

    def _is_old(self) -> Any:
        ended = JOBS.c.status.not_in(UNFINISHED)
        return and_(ended, JOBS.c.changed_s < now_s() - 60 * self._config.keep_minutes)

    def _is_mine(self, job: str) -> Any:
        return and_(JOBS.c.id == job, JOBS.c.owner == self._me, JOBS.c.status.in_(("receiving", "running")))

    def _note(self, job: str, *, erase: Sequence[str] = (), **values: Any) -> bool:
        """Change a job of ours, and delete pieces of these names; False where it is not ours, any more."""
        with self._database.writing() as connection:
            wanted = update(JOBS).where(self._is_mine(job)).values(**values, changed_s=now_s())
            changed = connection.execute(wanted).rowcount == 1
            if changed and erase:
                _erase(connection, job, *erase)
        return changed

    def _until(self) -> Any:
        return now_s() + self._config.lease_s

    def _renew(self) -> None:
        """Renew the leases of what is ours, again and again; look how many wait, and tidy up."""
        every_s = self._config.lease_s / 5
        while not self._ended.wait(every_s):
            try:
                if jobs := self.mine:
                    ours = and_(JOBS.c.id.in_(jobs), JOBS.c.owner == self._me)
                    with self._database.writing() as connection:
                        connection.execute(update(JOBS).where(ours).values(lease_s=self._until()))
                with self._database.reading() as connection:
                    queued = select(func.count()).where(JOBS.c.status == "queued")
                    self._waiting = connection.scalar(queued) or 0
                self._database.give_back(every_s)
            except MienError:
                pass  # the database has said so in the log, and the thread must not end
            except Exception:
                logging.getLogger("mien").exception("a lease could not be renewed")


def _erase(connection: Connection, job: str, *names: str) -> None:
    """Delete pieces of a job."""
    connection.execute(delete(PIECES).where(PIECES.c.job == job, PIECES.c.name.in_(names)))


def _remove(connection: Connection, job: str) -> None:
    """Remove all of a job."""
    connection.execute(delete(JOBS).where(JOBS.c.id == job))
    _erase(connection, job, *_NAMES)


def _state(row: Any) -> State:
    why = json.loads(row["problem"]) if row["problem"] else None
    return State(**{name: row[name] for name in ("id", "status", "progress", "tries")}, problem=why)
