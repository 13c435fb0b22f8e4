"""Many pictures: decoded and searched in parallel, answered in their order, in memory that does not grow."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images import MAX_PIXELS, Decoded, DecoderWarning, decode, decode_each
from mien.images.decode import workers
from mien.images.headers import read_header
from mien.predict.analyzer import Analyzer
from mien.predict.results import Faces

# A round is decoded while the one before is searched, so at most two are in memory. For each thread eight pictures,
# enough for one call of the network, and 24 megapixels (72 MB), a photograph of a large camera.
_PICTURES_EACH, _PIXELS_EACH = 8, 24_000_000

T = TypeVar("T")
Answer = Faces | ImageError
Warn = Callable[[str], None]
Finish = Callable[[int, NDArray[np.uint8], Faces], None]


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


_Answered = tuple[Answer, str]  # and what is odd about its file


@dataclass(frozen=True)
class Picture:
    """What became of the file at a place: its pixels, or what is wrong with it."""

    place: int
    decoded: Decoded | ImageError


def analyze_many(
    analyzer: Analyzer,
    files: Sequence[PictureFile],
    finish: Finish | None = None,
    warn: Warn | None = None,
    *,
    threads: int | None = None,
) -> Generator[Answer, None, None]:
    """Yield each picture's faces, in the order of `files`; for one that cannot be read, what is wrong with it.

    The numbers are those of `Analyzer.analyze`. finish: called with (place in files, picture, its faces) in one of
    several threads, for instance to write a marked copy; what it raises ends the iteration. warn: called with a
    line about each file that is written oddly but whole, before its faces are yielded; None: a Python warning. threads:
    how many decode and search at once; None: one for each processor. Close the iterator to stop early: pictures that
    nobody has begun with are dropped.
    """
    with closing(process_many(files, lambda some: _analyzed(analyzer, some, finish), threads)) as answers:
        for answer, warning in answers:
            if warning and warn:
                warn(warning)
            elif warning:
                warnings.warn(warning, DecoderWarning, stacklevel=2)
            yield answer


def process_many(
    files: Sequence[PictureFile], work: Callable[[list[Picture]], list[T]], threads: int | None = None
) -> Generator[T, None, None]:
    """Decode files in parallel, a round ahead, and yield what `work` makes of them, in the order of `files`.

    work: gets the pictures of one thread's share of a round, and returns one result for each; what it raises ends the
    iteration. threads: see analyze_many. Memory does not grow with the number of files.
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


def _analyzed(analyzer: Analyzer, pictures: list[Picture], finish: Finish | None) -> list[_Answered]:
    """Answer some pictures with one call of the network for all their faces."""
    images = [picture.decoded.pixels for picture in pictures if not isinstance(picture.decoded, ImageError)]
    faces = iter(analyzer.analyze_batch(images))
    answers: list[_Answered] = []
    for picture in pictures:
        if isinstance(picture.decoded, ImageError):
            answers.append((picture.decoded, ""))
            continue
        found = next(faces)
        answers.append((found, picture.decoded.warning))
        if finish:
            finish(picture.place, picture.decoded.pixels, found)
    return answers
