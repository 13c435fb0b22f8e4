"""One run of `mien batch`: a folder of Parquet shards that grows until every picture is answered.

    DIR/run.json         what was asked for: a later run must ask the same
    DIR/plan.parquet     the pictures, in shards (see `mien.batch.plan`)
    DIR/shards/N.parquet the answers of a shard, whole or not there
    DIR/failures.csv     the pictures without an answer, and why
    DIR/summary.json     what came of it; only a finished run has it

This process alone writes there, and keeps nothing but what is on its way. An actor has one part of a shard at a time:
so nothing piles up, whoever is slow, and it is known what an actor was at when it died. A shard whose actor died is
tried again in smaller and smaller parts; a picture that was alone with two actors that died is reported.
"""

from __future__ import annotations

import csv
import hashlib
import inspect
import io
import json
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien._version import __version__
from mien.batch.config import BatchConfig
from mien.batch.plan import Listed, Shard, read_plan, write_plan
from mien.batch.storage import WHAT, Storage, is_address
from mien.batch.worker import METADATA_KEY, Counts, Job, Part, Worker, encoded
from mien.detect.mien import METADATA_FILE as DETECTOR_METADATA
from mien.errors import ConfigError, DataError, MienError, WorkerError, need
from mien.files import cannot_write, locked, spreadsheet_safe, whole_file
from mien.images.decode import workers
from mien.model.metadata import INT8_FILE, METADATA_FILE, MODEL_FILE
from mien.predict.analyzer import load, model_folder
from mien.terminal import ProgressBar

RUN_FILE, PLAN_FILE, SHARDS, FAILURES, SUMMARY = (
    "run.json",
    "plan.parquet",
    "shards",
    "failures.csv",
    "summary.json",
)
_FORMAT = 1
_PIECES = 16  # that a part is cut into when its actor died
_DEATHS_ALONE = 2  # of actors, before the picture that they had is named
_DEATHS_IN_A_ROW = 20  # and two for each actor, without any answer between: then something else is wrong
_DEATHS_AT_FIRST = 3  # where no actor has ever been ready
_STORE_BYTES = 128 << 20  # of Ray's object store on this machine; finished tables alone go through it
_PATIENCE_S = 20.0  # without an actor, before a word is said


@dataclass(frozen=True)
class Outcome:
    """What a run came to. counts: of all shards. complete: whether every picture is answered. problems: in words."""

    folder: Path
    counts: Counts
    listed: Listed
    took_s: float
    answered: int  # pictures, by this call; the others were answered before


def batch(
    sources: Sequence[str],
    to: str | Path,
    config: BatchConfig | None = None,
    *,
    quiet: bool = False,
    **options: Any,
) -> Outcome:
    """Answer all pictures that `sources` name into the folder `to`, or go on where an earlier run was.

    sources: folders, globs, pictures, tables (.csv, .parquet) of paths or of the bytes of pictures, tar files; local or
    addresses such as s3://bucket/photos. options: those of `mien.load`. Uses the Ray that runs in this process, if one
    does. Raises ConfigError where `to` belongs to another run or is being written to, DataError where there is no
    picture, OutputError on a full disk, WorkerError where the cluster fails; the same call goes on then.
    """
    need("ray", "ray", WHAT)
    config = config or BatchConfig()
    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to needs a folder, {folder} is a file; name another place")
    if not sources:
        raise ConfigError("which pictures? Name folders, globs, tables, tar files or addresses")
    bar = ProgressBar(quiet=quiet)
    begun = time.monotonic()
    with locked(folder, "being written"):
        run = _Run(folder, config, sources, options, bar)
        run.begin()
        answered = run.go_on()
        counts = run.finish()
    bar.end()
    return Outcome(folder, counts, run.listed, time.monotonic() - begun, answered)


class _Run:
    """The folder of a run, and what is known of it."""

    def __init__(
        self,
        folder: Path,
        config: BatchConfig,
        sources: Sequence[str],
        options: Mapping[str, Any],
        bar: ProgressBar,
    ) -> None:
        self.folder, self.config, self.bar = folder, config, bar
        self.sources = [str(source) for source in sources]
        self.storage = Storage(Path.cwd())
        for source in filter(is_address, self.sources):
            self.storage.learn(source)
        self.listed = Listed()
        self.mark = ""
        self.counts: Counts = Counter()
        self._done: set[int] = set()
        self._files, self._options, told = _model_files(options)
        self._digest = _digest(self._files)
        self._asked = {
            "format": _FORMAT,
            "mien": __version__,
            "sources": [one if is_address(one) else os.path.abspath(one) for one in self.sources],  # noqa: PTH100
            "model": self._digest,
            "settings": {**told, "shard_size": config.shard_size, "column": config.column},
        }

    def begin(self) -> None:
        """Read what an earlier run has left, or list the pictures."""
        stored = self._stored()
        if stored is None:
            self._list()
        else:
            _same_run(self.folder, stored["asked"], self._asked)
            self.listed = Listed(
                **{**stored["listed"], "passed_over": Counter(stored["listed"]["passed_over"])}
            )
        self.mark = _sha256(
            (self.folder / PLAN_FILE).read_bytes(), json.dumps(self._asked, sort_keys=True).encode()
        )
        for path in (self.folder / SHARDS).glob(".*.parquet"):  # a run was killed while it wrote
            path.unlink()
        for path in (self.folder / SHARDS).glob("*.parquet"):
            counts = _whole_shard(path, self.mark)
            if counts is None:  # cut short by a machine that lost its power
                path.unlink()
            else:
                self._done.add(int(path.stem))
                self.counts.update(counts)

    def _stored(self) -> dict[str, Any] | None:
        path = self.folder / RUN_FILE
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return stored
        except FileNotFoundError:
            others = [
                one.name for one in self.folder.iterdir() if one.name[0] != "." and one.name != PLAN_FILE
            ]
            if others:
                raise ConfigError(
                    f"{self.folder} holds other things ({', '.join(sorted(others)[:3])}); name an empty or a new folder"
                ) from None
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read ({error}); name another folder with --to") from error

    def _list(self) -> None:
        def seen(count: int) -> None:
            self.bar.step("listing", 0, f"{count:,} pictures", None)

        with whole_file(self.folder / PLAN_FILE) as path:
            self.listed = write_plan(
                path,
                self.sources,
                self.storage,
                size=self.config.shard_size,
                column=self.config.column,
                skip=self.folder,
                seen=seen,
            )
            if not self.listed.shards:
                raise DataError("; ".join(self.listed.problems))
        with whole_file(self.folder / RUN_FILE) as path:
            path.write_text(
                json.dumps({"asked": self._asked, "listed": vars(self.listed)}, indent=2) + "\n",
                encoding="utf-8",
            )

    def go_on(self) -> int:
        """Answer the shards that are left; return how many pictures that were."""
        left = self.listed.shards - len(self._done)
        if not left:
            return 0
        try:
            (self.folder / SHARDS).mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder / SHARDS, error) from error
        before = self.counts["pictures"]
        self.bar.step("starting", 0, f"{left:,} of {self.listed.shards:,} shards are left", None)
        progress = _Progress(self.bar, self.listed.shards, len(self._done), self.counts)
        job = Job(
            run=self.mark,
            version=__version__,
            files=self._files,
            digest=self._digest,
            options=self._options,
            storage=self.storage,
            sources=self.sources,
            column=self.config.column,
            threads=self.config.cpus_per_actor,
            read_ahead=self.config.read_ahead_mb << 20,
        )
        with _ray(self.config) as ray:
            pool = _Pool(ray, job, self.config, left, self.bar)
            try:
                for number, content in pool.answers(
                    read_plan(self.folder / PLAN_FILE, self._done.__contains__)
                ):
                    with whole_file(self.folder / SHARDS / f"{number:07}.parquet") as path:
                        path.write_bytes(content)
                    progress.shard(stated(io.BytesIO(content))["counts"])
            finally:
                pool.close()
        return self.counts["pictures"] - before

    def finish(self) -> Counts:
        """Write the summary and the list of failures."""
        with whole_file(self.folder / FAILURES) as path:
            _write_failures(self.folder / SHARDS, path)
        with whole_file(self.folder / SUMMARY) as path:
            path.write_text(json.dumps(self._summary(), indent=2) + "\n", encoding="utf-8")
        return self.counts

    def _summary(self) -> dict[str, Any]:
        def below(word: str) -> dict[str, int]:
            found = {name: n for name, n in self.counts.items() if name.startswith(word)}
            return {name.removeprefix(word): n for name, n in sorted(found.items())}

        counts = self.counts
        return {
            "mien": __version__,
            "sources": self._asked["sources"],
            "model": self._digest,
            "settings": self._asked["settings"],
            "pictures": counts["pictures"],
            "faces": counts["faces"],
            "pictures_without_face": counts["without face"],
            "expressions": below("emotion "),
            "uncertain_faces": counts["uncertain"],
            "failed": counts["failed"],
            "failed_by_error": below("error "),
            "written_oddly": counts["odd"],
            "searched_at_a_fraction": counts["coarse"],
            "shards": self.listed.shards,
            "named_twice": self.listed.named_twice,
            "passed_over": dict(self.listed.passed_over),
            "passed_over_in_tar_files": counts["in tar files, no pictures"],
            "not_found": self.listed.problems,
        }


class _Progress:
    """The moving line: shards done of all, pictures a second, failures."""

    def __init__(self, bar: ProgressBar, shards: int, done: int, counts: Counts) -> None:
        self._bar, self._of, self._done, self._before = bar, shards, done, done
        self._counts, self._first = counts, counts["pictures"]
        self._begun = time.monotonic()

    def shard(self, counts: Mapping[str, int]) -> None:
        """Count one more."""
        self._counts.update(counts)
        self._done += 1
        took = max(time.monotonic() - self._begun, 1e-9)
        rate = (self._counts["pictures"] - self._first) / took
        failed = f"  {self._counts['failed']:,} failed" if self._counts["failed"] else ""
        detail = f"{self._counts['pictures']:,} pictures  {rate:,.0f}/s{failed}"
        left_s = took / (self._done - self._before) * (self._of - self._done)
        self._bar.step("shards", self._done / self._of, f"{self._done:,} of {self._of:,}  {detail}", left_s)


@dataclass
class _Open:
    """A shard of which some parts are still out. done: first picture and bytes of each part that is answered."""

    out: int = 1
    done: list[tuple[int, bytes]] = field(default_factory=list)


class _Pool:
    """Actors, each with one part at a time; whoever dies is replaced."""

    def __init__(self, ray: Any, job: Job, config: BatchConfig, shards: int, bar: ProgressBar) -> None:
        self._ray, self._bar, self._config = ray, bar, config
        self._job = ray.put(job)
        self._run = job.run
        self._actor = ray.remote(Worker).options(
            num_cpus=config.cpus_per_actor, max_restarts=0, max_concurrency=1
        )
        self._wanted = min(config.actors or _room(ray, config.cpus_per_actor), shards)
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Part | None]] = {}  # answer to come: who, and at what; None: opening
        self._waiting: deque[Part] = deque()
        self._open: dict[int, _Open] = {}
        self._deaths = 0  # since the last answer
        self._exhausted = self._ever_opened = False

    def answers(self, shards: Iterator[Shard]) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the Parquet file of each shard, as they are done."""
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
                    f"mien: waiting for {self._config.cpus_per_actor} free processors of the Ray cluster; other jobs "
                    "hold them, or its machines are still starting"
                )
            for reference in ready:
                yield from self._received(reference)

    def close(self) -> None:
        """Let the actors go."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            with suppress(Exception):
                self._ray.kill(actor)

    def _hand_out(self, shards: Iterator[Shard]) -> None:
        """Give each idle actor something to do, and start actors while there is more to do than they can."""
        while True:
            if self._idle:
                part = self._next(shards)
                if part is None:
                    return
                actor = self._idle.pop()
                self._busy[actor.answer.remote(part)] = (actor, part)
            elif len(self._busy) < self._wanted and (self._waiting or not self._exhausted):
                actor = self._actor.remote()
                self._busy[actor.open.remote(self._job)] = (actor, None)
            else:
                return

    def _next(self, shards: Iterator[Shard]) -> Part | None:
        if self._waiting:
            return self._waiting.popleft()
        if shard := next(shards, None):
            self._open[shard.number] = _Open()
            return Part(shard)
        self._exhausted = True
        return None

    def _received(self, reference: Any) -> Iterator[tuple[int, bytes]]:
        """Take one answer, or what came in its place."""
        failed = self._ray.exceptions
        actor, part = self._busy.pop(reference)
        try:
            content = self._ray.get(reference)
        except failed.RayTaskError as error:
            cause = getattr(error, "cause", error)
            if part is None or isinstance(cause, MienError):
                raise cause if isinstance(cause, MienError) else WorkerError(_line(cause)) from error
            self._idle.append(actor)
            self._again(_pieces(part, f"({type(cause).__name__}: {_line(cause)})"))
            return
        except failed.LocalRayletDiedError as error:
            raise WorkerError("Ray has ended on this machine; the same command goes on") from error
        except failed.RayError as error:
            with suppress(Exception):
                self._ray.kill(actor)
            self._died(error)
            if part:
                lost = isinstance(error, failed.ObjectLostError)  # it was answered, but its machine is gone
                self._again([part] if lost else _pieces(part, ""))
            return
        self._deaths = 0
        self._ever_opened = True
        self._idle.append(actor)
        if part:
            shard = self._open[part.shard.number]
            shard.done.append((part.first, content))
            yield from self._closed(part.shard.number)

    def _again(self, pieces: list[Part]) -> None:
        """Put the pieces of one part back, to be done before anything new."""
        self._open[pieces[0].shard.number].out += len(pieces) - 1
        self._waiting.extendleft(reversed(pieces))

    def _closed(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield a shard if nothing of it is out any more."""
        shard = self._open[number]
        shard.out -= 1
        if not shard.out:
            del self._open[number]
            shard.done.sort()
            yield number, _joined([content for _, content in shard.done], self._run)

    def _died(self, error: Exception) -> None:
        self._deaths += 1
        most = _DEATHS_IN_A_ROW + 2 * self._wanted if self._ever_opened else _DEATHS_AT_FIRST
        if self._deaths >= most:
            raise WorkerError(
                f"{self._deaths} processes ended one after the other without an answer ({_line(error)}); see to the "
                "machines, or give each less to do (--actors); the same command goes on then"
            )


def _pieces(part: Part, why: str) -> list[Part]:
    """Cut up a part whose actor died; one picture alone comes back once more, then it is given up.

    A tar file has as many pictures as it has: what lies behind the first few is cut by guess.
    """
    shard, first, last = part.shard, part.first, part.last
    if part.problem:
        raise WorkerError(
            f"processes end even where they look at nothing {why}; see to the machines, then go on"
        )
    if last is None:
        last = shard.size
    if last is None:
        ends: list[int | None] = [first + _PIECES, first + _PIECES**2, first + _PIECES**3, None]
        return [Part(shard, start or 0, end) for start, end in zip([first, *ends[:-1]], ends, strict=True)]
    if last - first > 1:
        step = -(-(last - first) // _PIECES)
        return [Part(shard, start, min(last, start + step)) for start in range(first, last, step)]
    deaths = part.deaths + 1
    if deaths < _DEATHS_ALONE:
        return [Part(shard, first, last, deaths=deaths)]
    what = why or "(damaged or hostile, or too large for the memory of its machine)"
    problem = f"ended the process that looked at it, {_DEATHS_ALONE} times {what}; look at the file, or leave it out"
    return [Part(shard, first, last, problem=problem)]


def _joined(parts: list[bytes], run: str) -> bytes:
    if len(parts) == 1:
        return parts[0]
    arrow = need("pyarrow", "ray", WHAT)
    parquet = need("pyarrow.parquet", "ray", WHAT)
    counts: Counts = Counter()
    tables = []
    for part in parts:
        table = parquet.read_table(arrow.BufferReader(part))
        counts.update(json.loads(table.schema.metadata[METADATA_KEY])["counts"])
        tables.append(table.replace_schema_metadata())
    return encoded(arrow.concat_tables(tables), counts, run)


def stated(file: Any) -> dict[str, Any]:
    """Return what a shard's Parquet file says of itself: `run` and `counts`."""
    parquet = need("pyarrow.parquet", "ray", WHAT)
    found: dict[str, Any] = json.loads(parquet.read_metadata(file).metadata[METADATA_KEY])
    return found


def _whole_shard(path: Path, run: str) -> Mapping[str, int] | None:
    """Return the counts of a shard's file; None where it is not whole, ConfigError where it is of another run."""
    try:
        said = stated(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if said["run"] != run:
        raise ConfigError(f"{path} is of another run; name another folder with --to")
    counts: Mapping[str, int] = said["counts"]
    return counts


def _write_failures(shards: Path, path: Path) -> None:
    parquet = need("pyarrow.parquet", "ray", WHAT)
    names = ["path", "source", "error", "problem"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for shard in sorted(shards.glob("*.parquet"), key=lambda one: int(one.stem)):
            if not stated(shard)["counts"].get("failed"):
                continue
            for row in parquet.read_table(shard, columns=names).to_pylist():
                if row["error"]:
                    writer.writerow([spreadsheet_safe(row[name]) for name in names])


def _same_run(folder: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise ConfigError, which names what differs, where a folder belongs to another run."""
    what = {"mien": "by mien", "sources": "for", "model": "with the model", "format": "in the format"}
    for name in ("format", "mien", "sources", "model"):
        if stored.get(name) != asked[name]:
            was, now = (_short(one) for one in (stored.get(name), asked[name]))
            raise ConfigError(
                f"{folder} was begun {what[name]} {was}, this is {now}: answers would mix; "
                "name another folder with --to"
            )
    for name, now in asked["settings"].items():
        if (was := stored["settings"].get(name)) != now:
            raise ConfigError(
                f"{folder} was begun with {name} {was}, this is {now}: answers would mix; name another folder with --to"
            )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:3])) + (" …" if len(value) > 3 else "")
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _model_files(options: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """Return the files of model and detector, what `mien.load` takes on another machine, and what run.json says.

    Opens them here first, so that what is wrong is said before any other machine is asked.
    """
    defaults = {name: one.default for name, one in inspect.signature(load).parameters.items()}
    options = {**defaults, **options}
    analyzer = load(**options)
    place = model_folder(options.get("model"))
    files = {}
    if place.is_file():
        model = f"model/{place.name}"
        files[model] = place.read_bytes()
    else:
        model = "model"
        for name in (METADATA_FILE, MODEL_FILE, INT8_FILE):
            if (place / name).is_file():
                files[f"model/{name}"] = (place / name).read_bytes()
    detector_file: Path | None = getattr(analyzer.detector, "path", None)
    detector = None
    if detector_file:
        detector = f"detector/{detector_file.name}"
        files[detector] = detector_file.read_bytes()
        beside = detector_file.with_name(DETECTOR_METADATA)
        if beside.is_file():
            files[f"detector/{DETECTOR_METADATA}"] = beside.read_bytes()
    sent = {**options, "model": model, "detector": analyzer.detector.name, "detector_file": detector}
    told = {name: value for name, value in sent.items() if name not in ("model", "detector_file")}
    return files, sent, json.loads(json.dumps(told))


def _digest(files: Mapping[str, bytes]) -> str:
    return _sha256(
        *(part for name in sorted(files) for part in (name.encode(), _sha256(files[name]).encode()))
    )


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def _ray(config: BatchConfig) -> Iterator[Any]:
    """Give a Ray to work with: the one of this process, the cluster that was named, or one of this machine's own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its maker that it was used
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about its future
    ray = need("ray", "ray", WHAT)
    if ray.is_initialized():
        yield ray
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address or address == "local":
        room = workers()
        if config.cpus_per_actor > room:
            raise ConfigError(
                f"cpus_per_actor is {config.cpus_per_actor}, this machine has {room} processors; ask for fewer"
            )
        quiet |= {"num_cpus": room, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise WorkerError(
            f"Ray cannot be reached at {address}: {_line(error)}"
            if address
            else f"Ray does not start: {_line(error)}"
        ) from error
    # Ray prints on stdout, where our results go, that a process died; we say so ourselves. There is no option.
    ray._private.worker._worker_logs_enabled = False
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Ray's own would skip what we clean up
    try:
        yield ray
    finally:
        ray.shutdown()


def _room(ray: Any, cpus: int) -> int:
    """Return how many actors the cluster has room for, at least one; ConfigError where none fits on any machine."""
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    if nodes and 0 < max(nodes) < cpus:
        raise ConfigError(
            f"cpus_per_actor is {cpus}, the largest machine of the cluster has {max(nodes):g} processors; ask for fewer"
        )
    return max(1, sum(int(one // cpus) for one in nodes))


def _line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
