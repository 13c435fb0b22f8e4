"""One run of `mien batch`: a folder of Parquet shards that grows until every picture is answered.

    DIR/run.json         what was asked for: a later run must ask the same
    DIR/plan.parquet     the pictures, in shards (see `mien.batch.plan`)
    DIR/shards/N.parquet the answers of a shard, whole or not there
    DIR/videos/N.parquet those of a video
    DIR/pieces/N/        what is known of a video that is not done
    DIR/failures.csv     the pictures and videos without an answer, and why
    DIR/summary.json     what came of it; only a finished run has it

DIR may be in a bucket. This process alone writes there, and keeps nothing but what is on its way.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien._version import __version__
from mien.batch.config import BatchConfig
from mien.batch.part import METADATA_KEY, Counts, Job
from mien.batch.plan import Listed, Shard, read_plan, table_mark, write_plan
from mien.batch.pool import PictureWork, Pool, Work, check_cluster, connected, one_line, prepare_environment
from mien.batch.storage import WHAT, Storage, Target, is_address
from mien.batch.videos import VideoWork, pieces_folder
from mien.batch.worker import Worker
from mien.detect.mien import METADATA_FILE as DETECTOR_METADATA
from mien.errors import ConfigError, DataError, MienError, OutputError, need
from mien.files import csv_writer, spreadsheet_safe
from mien.images.listing import picture_path
from mien.model.folder import INT8_FILE, METADATA_FILE, MODEL_FILE
from mien.predict.analyzer import difference, load, model_folder
from mien.terminal import ProgressBar, counted

RUN_FILE, PLAN_FILE, SUMMARY, FAILURES = "run.json", "plan.parquet", "summary.json", "failures.csv"
SHARDS, VIDEOS = "shards", "videos"
_SHARD_FILE = re.compile(r"\d{7,}\.parquet|\..*\.parquet")  # hidden: see `whole_file`
_FORMAT = 3
_READERS = 16  # files of the run read at a time: in a bucket each is a request


@dataclass(frozen=True)
class Outcome:
    """What a run came to. counts: of all shards. took_s: seconds of this call. The failed are counted as answered."""

    folder: Target
    counts: Counts
    listed: Listed
    took_s: float
    answered: int  # pictures, by this call; the others were answered before
    videos: int  # the same of videos
    went_on: bool  # with what an earlier call had listed


def batch(
    sources: Sequence[str],
    to: str | Path,
    config: BatchConfig | None = None,
    *,
    quiet: bool = False,
    **options: Any,
) -> Outcome:
    """Answer all pictures that `sources` name into the folder `to`, or go on where an earlier run was.

    sources: folders, globs, pictures, videos, tables (.csv, .parquet) of paths or of the bytes of pictures, tar files;
    they, and `to`, are local or addresses such as s3://bucket/photos. options: those of `mien.load`. Uses the Ray that
    runs in this process, if one does. Raises ConfigError where `to` belongs to another run or is being written to,
    DataError where there is no picture, OutputError where `to` cannot be written to or is full, WorkerError where the
    cluster fails; the same call goes on then.
    """
    config = config or BatchConfig()
    prepare_environment(config)
    need("ray", "ray", WHAT)
    folder = Target(to)
    if not folder.is_address and Path(folder.word).is_file():
        raise ConfigError(f"--to needs a folder, {folder} is a file; name another place")
    if not sources:
        raise ConfigError("which pictures? Name folders, globs, tables, tar files or addresses")
    bar = ProgressBar(quiet=quiet)
    begun = time.monotonic()
    with folder.held():
        run = _Run(folder, config, sources, options, bar)
        run.begin()
        before = run.counts.copy()
        run.go_on()
        counts = run.finish()
    bar.end()
    pictures, videos = (counts[name] - before[name] for name in ("pictures", "videos"))
    return Outcome(folder, counts, run.listed, time.monotonic() - begun, pictures, videos, run.went_on)


class _Run:
    """The folder of a run, and what is known of it."""

    def __init__(
        self,
        folder: Target,
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
        self.went_on = False
        self.counts: Counts = Counter()
        self._done: set[int] = set()
        self._plan = b""
        self._files, self._options, told = _model_files(options)
        self._digest = _digest(self._files)
        self._asked = {
            "format": _FORMAT,
            "sources": [one if is_address(one) else os.path.abspath(one) for one in self.sources],  # noqa: PTH100
            "settings": {
                **told,
                "shard_size": config.shard_size,
                "column": config.column,
                "videos": config.videos,
            },
        }

    def begin(self) -> None:
        """Read what an earlier run has left, or list the pictures."""
        stored = self._stored()
        self.went_on = stored is not None
        if stored is None:
            self._list()
        else:
            try:
                _same_run(self.folder, stored["asked"], self._asked)
                self.listed = Listed(
                    **{**stored["listed"], "passed_over": Counter(stored["listed"]["passed_over"])}
                )
                self._plan = self.folder.read(PLAN_FILE)
                # Of a plan that a loss of power cut short the run would be another one, or end in the middle.
                need("pyarrow.parquet", "ray", WHAT).read_metadata(io.BytesIO(self._plan))
            except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's errors are ValueErrors
                if isinstance(error, MienError):
                    raise
                raise _unreadable(self.folder, error) from error
        self.mark = _sha256(self._plan, json.dumps(self._asked, sort_keys=True).encode())
        with ThreadPoolExecutor(_READERS) as readers:
            for below in (SHARDS, VIDEOS):
                names = self._files_of_shards(below)
                for name, counts in zip(names, readers.map(self._whole, names), strict=True):
                    if counts is None:  # killed while it was written, or cut short by a loss of power
                        self.folder.remove(name)
                    else:
                        self._done.add(int(Path(name).stem))
                        self.counts.update(counts)
        if stored is not None:
            self._same_tables()

    def _same_tables(self) -> None:
        """Raise ConfigError where a table is another one since it was listed: its rows have other numbers, maybe.

        A table that is gone is missed only where something is left to do: DataError.
        """
        marks = self.listed.tables
        finished = len(self._done) == self.listed.shards

        def mark_now(name: str) -> str:
            try:
                return table_mark(name, self.storage)
            except DataError:
                if finished:
                    return marks[name]
                raise

        with ThreadPoolExecutor(_READERS) as readers:
            now = readers.map(mark_now, marks)
            for (name, was), mark in zip(marks.items(), now, strict=True):
                if mark != was:
                    raise ConfigError(
                        f"{name} has changed since {self.folder} was begun: answers would mix; "
                        "name another folder with --to"
                    )

    def _whole(self, name: str) -> Mapping[str, int] | None:
        """Return the counts of a shard's file; None where it is not whole, ConfigError where it is of another run."""
        if Path(name).name.startswith("."):
            return None
        try:
            with self.folder.open(name) as file:
                said = stated(file)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if said["run"] != self.mark:
            raise ConfigError(f"{self.folder.path(name)} is of another run; name another folder with --to")
        counts: Mapping[str, int] = said["counts"]
        return counts

    def _files_of_shards(self, below: str) -> list[str]:
        """Return the files that this run has written, and not what systems and people leave beside them."""
        return [f"{below}/{name}" for name in self.folder.names(below) if _SHARD_FILE.fullmatch(name)]

    def _stored(self) -> dict[str, Any] | None:
        try:
            stored: dict[str, Any] = json.loads(self.folder.read(RUN_FILE))
            return stored
        except FileNotFoundError:
            others = [one for one in self.folder.contents() if one[0] != "." and one != PLAN_FILE]
            if others:
                raise ConfigError(
                    f"{self.folder} holds other things ({', '.join(sorted(others)[:3])}); name an empty or a new folder"
                ) from None
            return None
        except OutputError:
            raise
        except (OSError, ValueError) as error:
            raise _unreadable(self.folder, error) from error

    def _list(self) -> None:
        # A list of millions takes hours, and a run that cannot begin leaves nothing.
        check_cluster(self.config)

        def seen(count: int) -> None:
            self.bar.step("listing", 0, counted(count, "picture"), None)

        with tempfile.TemporaryDirectory(prefix="mien-batch-") as place:
            path = Path(place, PLAN_FILE)
            self.listed = write_plan(
                path,
                self.sources,
                self.storage,
                size=self.config.shard_size,
                column=self.config.column,
                videos=self.config.videos,
                skip=self.folder.word,
                seen=seen,
            )
            self._plan = path.read_bytes()
        if not self.listed.shards:
            raise DataError("; ".join(self.listed.problems))
        self.folder.write(PLAN_FILE, self._plan)
        about = {"asked": self._asked, "listed": vars(self.listed)}
        self.folder.write(RUN_FILE, (json.dumps(about, indent=2) + "\n").encode())

    def go_on(self) -> None:
        """Answer the shards that are left."""
        left = self.listed.shards - len(self._done)
        if not left:
            return
        self.bar.step("starting", 0, f"{left:,} of {counted(self.listed.shards, 'shard')} left", None)
        progress = _Progress(self.bar, self.listed.shards, len(self._done), self.counts)
        job = Job(
            run=self.mark,
            version=__version__,
            files=self._files,
            digest=self._digest,
            options=self._options,
            storage=self.storage,
            sources=list(map(picture_path, self.sources)),
            column=self.config.column,
            threads=self.config.cpus_per_actor,
            read_ahead=self.config.read_ahead_mb << 20,
            has_videos=self.listed.videos > 0,
        )

        def work(shard: Shard) -> Work:
            return (
                VideoWork(shard, self.folder, progress.video)
                if shard.is_video
                else PictureWork(shard, self.mark)
            )

        try:
            with connected(self.config, self.bar) as ray:
                pool = Pool(ray, job, self.config, left, self.bar, worker=Worker, work=work)
                self.bar.step("shards", progress.share, f"{left:,} are left; models are opened", None)
                try:
                    for shard, content in pool.answers(
                        read_plan(io.BytesIO(self._plan), self._done.__contains__)
                    ):
                        below = VIDEOS if shard.is_video else SHARDS
                        self.folder.write(f"{below}/{shard.number:07}.parquet", content)
                        if shard.is_video:
                            self.folder.remove_folder(pieces_folder(shard))
                        progress.shard(stated(io.BytesIO(content))["counts"])
                finally:
                    pool.close()
        except KeyboardInterrupt:
            self.bar.line("mien: what is done is kept; the same command goes on")
            raise

    def finish(self) -> Counts:
        """Write the summary and the list of failures."""
        self.folder.write(FAILURES, self._failures().encode())
        self.folder.write(SUMMARY, (json.dumps(self._summary(), indent=2) + "\n").encode())
        return self.counts

    def _failures(self) -> str:
        parquet = need("pyarrow.parquet", "ray", WHAT)
        columns = ["path", "source", "error", "problem"]
        stream = io.StringIO()
        writer = csv_writer(stream)
        writer.writerow(columns)
        for below in (SHARDS, VIDEOS) if self.counts["failed"] else ():
            for name in self._files_of_shards(below):
                with self.folder.open(name) as file:
                    if not stated(file)["counts"].get("failed"):
                        continue
                    file.seek(0)
                    for row in parquet.read_table(file, columns=columns).to_pylist():
                        if row["error"]:
                            writer.writerow([spreadsheet_safe(row[column]) for column in columns])
        return stream.getvalue()

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
            "videos": counts["videos"],
            "video_frames": counts["video frames"],
            "faces_in_videos": counts["faces in videos"],
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
        videos = f"  {counted(self._counts['videos'], 'video')}" if self._counts["videos"] else ""
        detail = f"{counted(self._counts['pictures'], 'picture')}  {rate:,.0f}/s{videos}{failed}"
        left_s = took / (self._done - self._before) * (self._of - self._done)
        self._bar.step("shards", self._done / self._of, f"{self._done:,} of {self._of:,}  {detail}", left_s)

    @property
    def share(self) -> float:
        return self._done / self._of

    def video(self, name: str, done: int, of: int) -> None:
        """Say how far a video is."""
        self._bar.step(
            "shards", self._done / self._of, f"{self._done:,} of {self._of:,}  {name}: {done} of {of}", None
        )


def stated(file: Any) -> dict[str, Any]:
    """Return what a shard's Parquet file says of itself: `run` and `counts`."""
    parquet = need("pyarrow.parquet", "ray", WHAT)
    found: dict[str, Any] = json.loads(parquet.read_metadata(file).metadata[METADATA_KEY])
    return found


def _same_run(folder: Target, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise ConfigError, which names what differs, where a folder belongs to another run."""
    for name, what in (("format", "in the format"), ("sources", "for")):
        if stored.get(name) != asked[name]:
            was, now = (_short(one) for one in (stored.get(name), asked[name]))
            raise ConfigError(
                f"{folder} was begun {what} {was}, this is {now}: answers would mix; "
                "name another folder with --to"
            )
    if differs := difference(stored["settings"], asked["settings"]):
        raise ConfigError(f"{folder} was begun {differs}; name another folder with --to")


def _unreadable(folder: Target, error: Exception) -> ConfigError:
    return ConfigError(
        f"{RUN_FILE} and {PLAN_FILE} of {folder} cannot be read ({one_line(error)}), which say what its shards answer; "
        "name another folder with --to"
    )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:3])) + (" …" if len(value) > 3 else "")
    return str(value)


def _model_files(options: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """Return the files of model and detector, what `mien.load` takes on another machine, and `Analyzer.settings`.

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
    return files, sent, analyzer.settings()


def _digest(files: Mapping[str, bytes]) -> str:
    return _sha256(
        *(part for name in sorted(files) for part in (name.encode(), _sha256(files[name]).encode()))
    )


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
