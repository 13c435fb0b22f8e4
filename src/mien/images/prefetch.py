"""Many picture files, decoded in parallel and handed on in order, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mien.errors import ImageError
from mien.images.decode import Decoded, decode, decode_each, workers
from mien.images.headers import MAX_PIXELS, read_header

# A round is decoded while the one before is searched, so at most two are in memory. For each thread eight pictures,
# enough for one call of the network, and 24 megapixels (72 MB), a photograph of a large camera.
_PICTURES_EACH, _PIXELS_EACH = 8, 24_000_000
T = TypeVar("T")


class PictureFile(Protocol):
    """A picture that has not been read yet. title: what to call it in messages."""

    @property
    def title(self) -> str: ...
    def content(self) -> bytes: ...


@dataclass(frozen=True)
class _File:
    place: int
    title: str
    data: bytes = b""
    pixels: int = 0
    error: ImageError | None = None


@dataclass(frozen=True)
class Picture:
    """What became of the file at a place: its pixels, or what is wrong with it."""

    place: int
    decoded: Decoded | ImageError


def process_many(
    files: Sequence[PictureFile], work: Callable[[list[Picture]], list[T]], threads: int | None = None
) -> Generator[T, None, None]:
    """Decode files in parallel, a round ahead, and yield what `work` makes of them, in the order of `files`.

    work: gets the pictures of one thread's share of a round, and returns one result for each; what it raises ends the
    iteration. threads: how many decode and work at once; None: one for each processor.
    """
    threads = min(threads or workers(), len(files))
    if threads < 2:
        for place, file in enumerate(files):
            yield from work([Picture(place, _decoded(file))])
        return
    pool = ThreadPoolExecutor(threads)
    try:
        before: list[Future[list[T]]] = []
        for files_of_round in _rounds(files, threads):
            begun = _begin(pool, threads, files_of_round, work)
            for part in before:
                yield from part.result()
            before = begun
        for part in before:
            yield from part.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(file: PictureFile) -> Decoded | ImageError:
    try:
        return decode(file.content(), file.title)
    except ImageError as error:
        return error


def _rounds(files: Sequence[PictureFile], threads: int) -> Iterator[list[_File]]:
    """Read the files in groups that are small enough to be decoded at the same time."""
    most, room = _PICTURES_EACH * threads, min(_PIXELS_EACH * threads, MAX_PIXELS)
    group: list[_File] = []
    for file in map(_read, range(len(files)), files):
        if group and (len(group) == most or sum(other.pixels for other in group) + file.pixels > room):
            yield group
            group = []
        group.append(file)
    yield group


def _read(place: int, file: PictureFile) -> _File:
    try:
        data = file.content()
        header = read_header(data, file.title)
    except ImageError as error:
        return _File(place, file.title, error=error)
    return _File(place, file.title, data, header.width * header.height)


def _begin(
    pool: ThreadPoolExecutor,
    threads: int,
    files: list[_File],
    work: Callable[[list[Picture]], list[T]],
) -> list[Future[list[T]]]:
    """Decode a round and hand it to the threads, which alone keep it then."""
    readable = [file for file in files if file.error is None]
    found = iter(decode_each([(file.data, file.title) for file in readable], pool))
    pictures = [Picture(file.place, file.error or next(found)) for file in files]
    step = -(-len(pictures) // threads)
    return [pool.submit(work, pictures[start : start + step]) for start in range(0, len(pictures), step)]
