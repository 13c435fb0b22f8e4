"""What an actor does: it opens the model once, then answers shards, one after the other.

What travels is names, the bytes of the model, and finished tables: never a decoded picture.
"""

from __future__ import annotations

import gzip
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from mien._version import __version__
from mien.batch.part import CRASH, DAMAGED, UNREADABLE, Answer, Counts, Job, Part, encoded
from mien.batch.plan import NO_PATH, ROWS, TAR, Item, picture_column
from mien.batch.storage import WHAT, Storage
from mien.batch.videos import answered_video
from mien.data.readers.unpack import WholeTar
from mien.errors import ImageError, ModelError, OutputError, need
from mien.files import cache_folder, whole_folder
from mien.images.kinds import HEAD_BYTES, PICTURE_SUFFIXES, content_kind
from mien.images.listing import picture_name, picture_path
from mien.predict.analyzer import Analyzer, analyze_many, load
from mien.predict.results import Faces, arrow_schema, arrow_table, table_columns, table_rows

_READERS = 8  # files read at a time, each waiting for a disk or the network
_AT_ONCE = 64  # pictures in one go
_GZIP = b"\x1f\x8b"  # how such a file begins (RFC 1952)


@dataclass(frozen=True)
class _Picture:
    """One picture, or why there is none. path: as in results."""

    path: str
    source: int
    data: bytes = b""
    problem: ImageError | None = None

    @property
    def title(self) -> str:
        return picture_name(self.path)

    def content(self) -> bytes:
        if self.problem:
            raise self.problem
        return self.data


class Worker:
    """An actor of Ray. Everything of weight is done in `open`, so that what goes wrong there is an answer."""

    def open(self, job: Job) -> list[str]:
        """Get ready; return the labels. ModelError where this machine has another mien."""
        if job.version != __version__:
            raise ModelError(
                f"this run is of mien {job.version}, the machine {platform.node()} has mien {__version__}: "
                "answers would mix; install the same version everywhere"
            )
        self._job = job
        self._analyzer = _opened(job)
        self._readers = ThreadPoolExecutor(_READERS)
        return list(self._analyzer.head.labels)

    def answer(self, part: Part) -> Answer:
        """Return the Parquet file of a part, a row a face; of a step of a video, what it found."""
        if part.shard.is_video:
            return answered_video(part, self._job, self._analyzer)
        return Answer([self._pictures(part)])

    def _pictures(self, part: Part) -> bytes:
        labels = self._analyzer.head.labels
        names = [*table_columns(labels), "source", "error"]
        rows: list[list[Any]] = []
        counts: Counts = Counter()
        whole = not part.first and part.last is None
        others: Counts = counts if whole else Counter()  # a shard in parts counts them in each
        pictures = _pictures(part, self._job, self._readers, others)
        for picture, found, error in self._told(pictures, part.problem, counts):
            _count(counts, found, error)
            source = self._job.sources[picture.source]
            rows += ([*row, source, error] for row in table_rows(picture.path, found, labels))
        return encoded(arrow_table(rows, arrow_schema(names)), counts, self._job.run)

    def _told(
        self, pictures: Iterator[_Picture], problem: str, counts: Counts
    ) -> Iterator[tuple[_Picture, Faces | ImageError, str | None]]:
        """Yield each picture with what is in it, or why that is not known and what kind of trouble that is."""
        if problem:
            for picture in pictures:
                yield picture, ImageError(f"{picture.title} {problem}"), CRASH
            return

        def odd(_: str) -> None:
            counts["odd"] += 1

        with ThreadPoolExecutor(1) as ahead:  # reads the next pictures while these are looked at
            coming: Future[list[_Picture]] = ahead.submit(_some, pictures, self._job.read_ahead // 2)
            while some := coming.result():
                coming = ahead.submit(_some, pictures, self._job.read_ahead // 2)
                answers = analyze_many(self._analyzer, some, warn=odd, threads=self._job.threads)
                for picture, found in zip(some, answers, strict=True):
                    damaged = DAMAGED if isinstance(found, ImageError) else None
                    yield picture, found, UNREADABLE if picture.problem else damaged


def _count(counts: Counts, found: Faces | ImageError, error: str | None) -> None:
    counts["pictures"] += 1
    if isinstance(found, ImageError):
        counts["failed"] += 1
        counts[f"error {error}"] += 1
        return
    counts["faces"] += len(found)
    counts["without face"] += not found
    counts["coarse"] += found.coarse
    for face in found:
        counts[f"emotion {face.emotion}"] += 1
        counts["uncertain"] += face.uncertain


def _opened(job: Job) -> Analyzer:
    """Open the model from files that came with the job, which are kept in this machine's folder for caches."""
    place = cache_folder() / "batch" / job.digest
    if not _holds(place, job.files):
        try:
            with whole_folder(place) as made:
                for name, content in job.files.items():
                    (made / name).parent.mkdir(exist_ok=True)
                    (made / name).write_bytes(content)
        except OutputError as error:
            if not _holds(place, job.files):  # another actor of this machine was first
                machine = platform.node()
                raise OutputError(
                    f"machine {machine}: {error}; another place for caches: MIEN_CACHE, set before Ray starts there"
                ) from error
    options = dict(job.options)
    for name in ("model", "detector_file"):
        if options.get(name):
            options[name] = place / options[name]
    return load(**options)


def _holds(place: Path, files: Mapping[str, bytes]) -> bool:
    """Say whether these very files lie there: a full disk or a loss of power may have cut one short."""
    try:
        return all((place / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


def _some(pictures: Iterator[_Picture], most_bytes: int) -> list[_Picture]:
    """Take pictures until there are many or they are large."""
    some: list[_Picture] = []
    size = 0
    while len(some) < _AT_ONCE and size < most_bytes and (picture := next(pictures, None)):
        some.append(picture)
        size += len(picture.data)
    return some


def _pictures(part: Part, job: Job, readers: ThreadPoolExecutor, others: Counts) -> Iterator[_Picture]:
    """Yield the pictures of a part, in their order, and what of it cannot be read; of one with a problem names alone.

    others: counts the files in a tar file that are no pictures.
    """
    kind = part.shard.items[0].kind
    if kind == TAR:
        return _in_tar(part, job, others)
    return _in_table(part, job) if kind == ROWS else _in_files(part, job, readers)


def _in_files(part: Part, job: Job, readers: ThreadPoolExecutor) -> Iterator[_Picture]:
    items = part.shard.items[part.first : part.last]
    if part.problem:
        yield from (_Picture(picture_path(item.file), item.source) for item in items)
        return
    read = partial(_read, storage=job.storage)
    for start in range(0, len(items), _READERS):
        yield from readers.map(read, items[start : start + _READERS])


def _in_table(part: Part, job: Job) -> Iterator[_Picture]:
    """Of a table it is known which rows cannot be read: each is told."""
    (item,) = part.shard.items
    rows = range(item.first, item.last)[part.first : part.last]
    named = [_Picture(picture_path(f"{item.file}#{row}"), item.source) for row in rows]
    told = 0
    try:
        if not part.problem:
            for picture in _rows(item._replace(first=rows.start, last=rows.stop), job):
                yield picture
                told += 1
    except Exception as error:  # Parquet's and every cloud's own
        named = [replace(one, problem=_cannot_read_on(item, error)) for one in named]
    yield from named[told:]


def _in_tar(part: Part, job: Job, others: Counts) -> Iterator[_Picture]:
    """Of a tar file nobody knows what a damage hides: it is told as one picture, by the one part that it lies in."""
    (item,) = part.shard.items
    passed = 0
    try:
        for path, head, rest in _members(item, job, others):
            if passed >= part.first:
                yield _Picture(path, item.source, b"" if part.problem else head + rest.read())
            passed += 1
            if passed == part.last:
                return
    except Exception as error:  # of tar files, packers and every cloud's own
        if passed >= part.first:
            yield _Picture(picture_path(item.file), item.source, problem=_cannot_read_on(item, error))


def _cannot_read_on(item: Item, error: Exception) -> ImageError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ImageError(f"{picture_name(item.file)} cannot be read on: {reason}")


def _read(item: Item, storage: Storage) -> _Picture:
    path, shown = picture_path(item.file), picture_name(item.file)
    if item.kind == NO_PATH:
        return _Picture(path, item.source, problem=ImageError(f"{shown}: this row names no picture"))
    try:
        return _Picture(path, item.source, storage.read(item.file, shown))
    except ImageError as error:
        return _Picture(path, item.source, problem=error)


def _rows(item: Item, job: Job) -> Iterator[_Picture]:
    """Yield pictures of a Parquet table with their bytes, a few rows in memory at a time."""
    parquet = need("pyarrow.parquet", "ray", WHAT)
    with job.storage.open(item.file) as stream, parquet.ParquetFile(stream) as file:
        chosen = picture_column(file.schema_arrow, item.file, job.column)
        start = group = 0
        while start + (rows := file.metadata.row_group(group).num_rows) <= item.first:
            start, group = start + rows, group + 1
        for batch in file.iter_batches(32, row_groups=[group], columns=[chosen.name]):
            end = start + len(batch)
            if start < item.last and end > item.first:
                for row, cell in enumerate(batch.column(0).to_pylist(), start=start):
                    if item.first <= row < item.last:
                        yield _cell(picture_path(f"{item.file}#{row}"), item.source, cell, chosen.bytes_in)
            start = end


def _cell(path: str, source: int, cell: Any, field: str | None) -> _Picture:
    data = cell.get(field) if isinstance(cell, dict) else cell
    if not data:
        return _Picture(path, source, problem=ImageError(f"{picture_name(path)} holds no bytes"))
    return _Picture(path, source, bytes(data))


def _unpacked(stream: IO[bytes], name: str) -> Any:
    """Return the stream of a tar file; unpacked, where Python's own way of it is none, or leaves out the checksum."""
    if name.lower().endswith(".zst"):
        return need("pyarrow", "ray", WHAT).CompressedInputStream(stream, "zstd")
    packed = stream.read(len(_GZIP)) == _GZIP
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream) if packed else nullcontext(stream)


def _members(item: Item, job: Job, others: Counts) -> Iterator[tuple[str, bytes, IO[bytes]]]:
    """Yield the pictures in a tar file, as WebDataset writes them, each by its path, its first bytes and the rest."""
    with (
        job.storage.open(item.file) as stream,
        _unpacked(stream, item.file) as plain,
        WholeTar.open(fileobj=plain, mode="r|*") as tar,
    ):
        for member in tar:
            opened = tar.extractfile(member) if member.isfile() else None
            if opened is None:
                continue
            head = opened.read(HEAD_BYTES)
            if Path(member.name).name.startswith(".") or not (
                member.name.lower().endswith(PICTURE_SUFFIXES) or content_kind(head)[1]
            ):
                others["in tar files, no pictures"] += 1
                continue
            yield picture_path(f"{item.file}#{member.name}"), head, opened
