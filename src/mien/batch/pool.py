"""Ray, and its actors that answer shards: each has one part at a time, and who dies is replaced.

So nothing piles up, whoever is slow, and it is known what an actor was at when it died. A part whose actor died is
tried again, of pictures in smaller and smaller pieces; what was alone with two actors that died is reported.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from mien.batch.config import BatchConfig
from mien.batch.part import DEATHS_ALONE, METADATA_KEY, Answer, Counts, Job, Part, encoded, what_died
from mien.batch.plan import Shard
from mien.batch.storage import WHAT
from mien.errors import ConfigError, MienError, WorkerError, need
from mien.images.decode import workers
from mien.terminal import ProgressBar, counted

_STORE_BYTES = 128 << 20  # of Ray's object store on this machine; finished tables alone go through it
_STARTS = 3  # tries; Ray gives its processes half a minute
_CONNECT_S = 10.0  # for the address of a cluster to answer
_LOCAL = "local"  # Ray's word for a cluster of this process alone
_PIECES = 16  # that a part is cut into when its actor died
_DEATHS_IN_A_ROW = 20  # and two for each actor, without any answer between: then something else is wrong
_DEATHS_AT_FIRST = 3  # where no actor has ever been ready
_PATIENCE_S = 20.0  # without an actor, before a word is said


class Work(Protocol):
    """What is to be done for one shard, in parts."""

    def next(self) -> Part | None:
        """Return something that can be done now; None: nothing, until an answer has come."""

    def answered(self, part: Part, answer: Answer) -> None:
        """Take in what an actor said."""

    def again(self, part: Part) -> None:
        """Take back a part that was lost with its machine."""

    def died(self, part: Part, why: str) -> None:
        """Take back a part that ended its actor. why: in words, where that is known."""

    def result(self) -> bytes | None:
        """Return the Parquet file of the shard; None while something is missing."""


class Pool:
    """Hands out parts and takes answers. worker: the class of the actors. work: what is done for a shard."""

    def __init__(
        self,
        ray: Any,
        job: Job,
        config: BatchConfig,
        shards: int,
        bar: ProgressBar,
        *,
        worker: type,
        work: Callable[[Shard], Work],
    ) -> None:
        self._ray, self._bar, self._config, self._work = ray, bar, config, work
        self._job = ray.put(job)
        self._actor = ray.remote(worker).options(
            num_cpus=config.cpus_per_actor, max_restarts=0, max_concurrency=1
        )
        self._wanted = config.actors or _room(ray, config.cpus_per_actor)
        if not job.has_videos:  # of which many can work at one
            self._wanted = min(self._wanted, shards)
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Part | None]] = {}  # answer to come: who, and at what; None: opening
        self._open: dict[int, tuple[Shard, Work]] = {}
        self._last: dict[Any, int] = {}  # the shard that an actor was at
        self._deaths = 0  # since the last answer
        self._exhausted = self._ever_opened = False

    def answers(self, shards: Iterator[Shard]) -> Iterator[tuple[Shard, bytes]]:
        """Yield each shard and its Parquet file, as they are done."""
        begun, told = time.monotonic(), False
        while True:
            self._hand_out(shards)
            if self._exhausted and not self._open:
                return
            ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=1.0)
            late = time.monotonic() - begun > _PATIENCE_S
            if not ready and late and not told and not self._ever_opened:
                told = True
                self._bar.line(
                    f"mien: waiting for {counted(self._config.cpus_per_actor, 'free processor')} of the Ray cluster; "
                    "other jobs hold what there is, or its machines are still starting"
                )
            for reference in ready:
                yield from self._received(reference)

    def close(self) -> None:
        """Let the actors go."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            with suppress(Exception):
                self._ray.kill(actor)

    def _hand_out(self, shards: Iterator[Shard]) -> None:
        """Give idle actors something to do, and start actors while there may be more to do than they can."""
        idle, self._idle = self._idle, []
        for actor in idle:
            if part := self._next(actor, shards):
                self._last[actor] = part.shard.number
                self._busy[actor.answer.remote(part)] = (actor, part)
            else:
                self._idle.append(actor)
        while not self._idle and len(self._busy) < self._wanted and (self._open or not self._exhausted):
            actor = self._actor.remote()
            self._busy[actor.open.remote(self._job)] = (actor, None)

    def _next(self, actor: Any, shards: Iterator[Shard]) -> Part | None:
        """Return a part for an actor: of pictures that were begun, of the video that it was at, of what is new, of any.

        So several read one video only where there are fewer videos than actors.
        """
        begun: list[Work] = [work for _, work in self._open.values() if isinstance(work, PictureWork)]
        if last := self._open.get(self._last.get(actor, -1)):
            begun.append(last[1])
        for work in begun:
            if part := work.next():
                return part
        if not self._exhausted:
            if shard := next(shards, None):
                work = self._work(shard)
                self._open[shard.number] = (shard, work)
                return work.next()
            self._exhausted = True
        return next((part for _, work in self._open.values() if (part := work.next())), None)

    def _received(self, reference: Any) -> Iterator[tuple[Shard, bytes]]:
        """Take one answer, or what came in its place."""
        failed = self._ray.exceptions
        actor, part = self._busy.pop(reference)
        try:
            answer = self._ray.get(reference)
        except failed.RayTaskError as error:
            cause = getattr(error, "cause", error)
            if part is None or isinstance(cause, MienError):
                raise cause if isinstance(cause, MienError) else WorkerError(one_line(cause)) from error
            self._idle.append(actor)
            self._take_back(part, f"({type(cause).__name__}: {one_line(cause)})")
            return
        except failed.LocalRayletDiedError as error:
            raise WorkerError("Ray has ended on this machine; the same command goes on") from error
        except failed.RayError as error:
            with suppress(Exception):
                self._ray.kill(actor)
            self._last.pop(actor, None)
            self._died(error)
            if part and isinstance(error, failed.ObjectLostError):  # answered, but its machine is gone
                if work := self._work_of(part):
                    work.again(part)
            elif part:
                self._take_back(part, "")
            return
        self._deaths = 0
        self._ever_opened = True
        self._idle.append(actor)
        if part and (work := self._work_of(part)):
            work.answered(part, answer)
            if (content := work.result()) is not None:
                yield self._open.pop(part.shard.number)[0], content

    def _take_back(self, part: Part, why: str) -> None:
        """Take back a part that ended its actor. why: in words, where that is known."""
        if part.problem:
            raise WorkerError(
                f"processes end even where they look at nothing {why}; see to the machines, then go on"
            )
        if work := self._work_of(part):
            work.died(part, why)

    def _work_of(self, part: Part) -> Work | None:
        """Return what a part belongs to; None where that is done: a video may be given up while others look at it."""
        found = self._open.get(part.shard.number)
        return found and found[1]

    def _died(self, error: Exception) -> None:
        self._deaths += 1
        most = _DEATHS_IN_A_ROW + 2 * self._wanted if self._ever_opened else _DEATHS_AT_FIRST
        if self._deaths >= most:
            todo = "see to the machines, or give each less to do (--actors)"
            named = self._config.address or os.environ.get("RAY_ADDRESS")
            if not self._ever_opened and named and os.environ.get("RAY_AUTH_MODE") == "token":
                todo += "; if the cluster was started without a token, set RAY_AUTH_MODE=disabled"
            raise WorkerError(
                f"{counted(self._deaths, 'process', 'processes')} ended one after the other without an answer "
                f"({_why(error)}); {todo}; the same command goes on then"
            )


class PictureWork:
    """A shard of pictures: one part, or the pieces of it that are tried after a death."""

    def __init__(self, shard: Shard, run: str) -> None:
        self._run = run
        self._waiting: deque[Part] = deque([Part(shard)])
        self._out = 0
        self._done: list[tuple[int, bytes]] = []  # first picture and bytes of each part

    def next(self) -> Part | None:
        if not self._waiting:
            return None
        self._out += 1
        return self._waiting.popleft()

    def answered(self, part: Part, answer: Answer) -> None:
        self._out -= 1
        self._done.append((part.first, answer.content[0]))

    def again(self, part: Part) -> None:
        self._out -= 1
        self._waiting.appendleft(part)

    def died(self, part: Part, why: str) -> None:
        self._out -= 1
        self._waiting.extendleft(reversed(_pieces(part, why)))

    def result(self) -> bytes | None:
        if self._out or self._waiting:
            return None
        return joined([content for _, content in sorted(self._done)], self._run)


def _pieces(part: Part, why: str) -> list[Part]:
    """Cut up a part whose actor died; one picture alone comes back once more, then it is given up.

    A tar file has as many pictures as it has: what lies behind the first few is cut by guess.
    """
    shard, first, last = part.shard, part.first, part.last
    if last is None:
        last = shard.size
    if last is None:
        ends: list[int | None] = [first + _PIECES, first + _PIECES**2, first + _PIECES**3, None]
        return [Part(shard, start or 0, end) for start, end in zip([first, *ends[:-1]], ends, strict=True)]
    if last - first > 1:
        step = -(-(last - first) // _PIECES)
        return [Part(shard, start, min(last, start + step)) for start in range(first, last, step)]
    deaths = part.deaths + 1
    if deaths < DEATHS_ALONE:
        return [Part(shard, first, last, deaths=deaths)]
    return [Part(shard, first, last, problem=what_died(why))]


def joined(parts: list[bytes], run: str) -> bytes:
    """Return the Parquet files of the parts of a shard as one."""
    if len(parts) == 1:
        return parts[0]
    arrow = need("pyarrow", "ray", WHAT)
    parquet = need("pyarrow.parquet", "ray", WHAT)
    counts: Counts = Counts()
    tables = []
    for part in parts:
        table = parquet.read_table(arrow.BufferReader(part))
        counts.update(json.loads(table.schema.metadata[METADATA_KEY])["counts"])
        tables.append(table.replace_schema_metadata())
    return encoded(arrow.concat_tables(tables), counts, run)


def prepare_environment(config: BatchConfig) -> None:
    """Set what Ray reads when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its maker that it was used
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about its future
    if (config.address or os.environ.get("RAY_ADDRESS")) and (Path.home() / ".ray" / "auth_token").is_file():
        # A cluster that was started where there is a token asks for it; Ray sends it only where it is told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def store_folder() -> str | None:
    """Return where Ray's object store must lie; None where Ray may choose.

    Ray takes shared memory wherever it is large enough, and its node dies where that cannot be written, as in some
    containers: all that is seen then is that the node 'timed out during startup'.
    """
    chooses = sys.platform != "linux" or os.access("/dev/shm", os.W_OK)
    return None if chooses else tempfile.gettempdir()


def _unreachable(address: str) -> str:
    """Return why nobody listens at HOST:PORT; '' where somebody does. Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:  # auto; ray://…
        return ""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        return f"{one_line(error)}; see that a cluster runs there, and that the port is the one of `ray start --head`"
    return ""


def check_cluster(config: BatchConfig) -> None:
    """Raise WorkerError or ConfigError where `connected` would fail: cheap, for whoever has much to do before it."""
    address = _address(config)
    if need("ray", "ray", WHAT).is_initialized():
        return
    if address == _LOCAL:
        if config.cpus_per_actor > (room := workers()):
            raise ConfigError(
                f"cpus_per_actor is {config.cpus_per_actor}, this machine has {counted(room, 'processor')}; "
                "ask for fewer"
            )
    elif problem := _unreachable(address):
        raise WorkerError(f"Ray cannot be reached at {address}: {problem}")


def _address(config: BatchConfig) -> str:
    return config.address or os.environ.get("RAY_ADDRESS") or _LOCAL


@contextmanager
def connected(config: BatchConfig, bar: ProgressBar) -> Iterator[Any]:
    """Give a Ray to work with: the one of this process, the cluster that was named, or one of this machine's own.

    Says which. A cluster that happens to run on this machine is left alone unless it was named: `ray.init()` would join
    it, Ray's `local` does not (docs.ray.io, ray.init).
    """
    address = _address(config)
    ray = need("ray", "ray", WHAT)
    if ray.is_initialized():
        bar.line(f"mien: works on the Ray of this process: {_size(ray)}")
        yield ray
        return
    check_cluster(config)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray would tell the cluster the whole command, and have its processes look for modules in the folder of the command
    # first: it fails on names that are no UTF-8, and a cv2.py among the photographs would be run. No option either.
    ray._private.utils.get_entrypoint_name = lambda: "mien batch"
    quiet["job_config"] = ray.job_config.JobConfig()
    quiet["job_config"]._client_job = True
    if address == _LOCAL:
        quiet |= {"num_cpus": workers(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        quiet |= {"_plasma_directory": store_folder()}
    before = signal.getsignal(signal.SIGTERM)
    # Ray's own handler ends the process with code 15, and without a word, while it still starts. No option either.
    ray._private.utils.set_sigterm_handler = lambda _: None
    for tried in range(1, _STARTS + 1):
        try:
            ray.init(address=address, **quiet)
            break
        except Exception as error:  # its own kind, where its processes start too slowly, as on a busy machine
            ray.shutdown()
            if tried < _STARTS and "timed out during startup" in str(error):
                continue
            raise WorkerError(
                f"Ray does not start: {one_line(error)}"
                if address == _LOCAL
                else f"Ray cannot be reached at {address}: {one_line(error)}"
            ) from error
    # Ray prints on stdout, where our results go, that a process died; we say so ourselves. There is no option.
    ray._private.worker._worker_logs_enabled = False
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Ray's own would skip what we clean up
    if address == _LOCAL:
        bar.line(f"mien: Ray starts on this machine, for this run: {_size(ray)}")
    else:
        bar.line(f"mien: works on the Ray cluster at {address}: {_size(ray)}")
    try:
        yield ray
    finally:
        ray.shutdown()


def _size(ray: Any) -> str:
    machines = sum(node["Alive"] for node in ray.nodes())
    return (
        f"{counted(machines, 'machine')}, {counted(int(ray.cluster_resources().get('CPU', 0)), 'processor')}"
    )


def _room(ray: Any, cpus: int) -> int:
    """Return how many actors the cluster has room for, at least one; ConfigError where none fits on any machine."""
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    if nodes and 0 < max(nodes) < cpus:
        raise ConfigError(
            f"cpus_per_actor is {cpus}, the largest machine of the cluster has "
            f"{counted(int(max(nodes)), 'processor')}; ask for fewer"
        )
    return max(1, sum(int(one // cpus) for one in nodes))


def _why(error: Exception) -> str:
    """Say why an actor ended. Of memory Ray tells a page, which ends in advice on its own settings."""
    if "memory monitor" in str(error) or "low memory" in str(error) or "OutOfMemory" in type(error).__name__:
        return "Ray ends them where the memory of a machine is nearly full"
    return one_line(error)


def one_line(error: object) -> str:
    """Return the last line of what an error says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
