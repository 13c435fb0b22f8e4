"""What all commands on pictures share: which pictures, which network and which face detector."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import ConfigError, ImageError
from mien.files import address_note, natural
from mien.images.decode import read_bytes
from mien.images.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from mien.images.listing import (
    list_pictures,
    no_picture,
    on_one_line,
    passed_over_note,
    picture_name,
    picture_path,
)
from mien.images.marks import free_place, mark_for, mark_of
from mien.model.metadata import KERAS_SUFFIXES
from mien.model.views import AUTO, TTA, TTA_HELP
from mien.settings import add_settings
from mien.train.external_models import Description

if TYPE_CHECKING:
    from mien.predict.analyzer import Analyzer
STDIN = "-"
_SAVED_AS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # others are saved as PNG


# Of files that people expect of a command which writes a folder, beside pictures and films.
_FILE_SUFFIXES = (
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".html", ".pdf", ".onnx", ".keras", ".h5", ".tflite", ".zip",
)  # fmt: skip
_SAVE_FOLDER = "folder of --save"  # a kind that is passed over


def is_named_like_file(folder: Path) -> bool:
    """Say whether what is to be a folder has the name of a file, as `smiles.mp4`, and is no folder yet."""
    files = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, *_FILE_SUFFIXES)
    return folder.suffix.lower() in files and not folder.is_dir()


def new_folder(text: str) -> Path:
    """Read the name of a folder to write; one that is named like a file (`--to smiles.mp4`) is a slip."""
    folder = Path(text)
    if is_named_like_file(folder):
        raise argparse.ArgumentTypeError(
            f"{text!r} is named like a file, and a folder is written; try {str(folder.with_suffix(''))!r}"
        )
    return folder


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network and which face detector to use."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="shipped model, run folder, model folder or .onnx file; of another program also .keras or .h5, described "
        "below (default: mien)",
    )
    parser.add_argument(
        "--head", metavar="NAME", help="which answer of the network (default: its own choice)"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "int8"),
        help="form of the network (default: auto, the int8 form where there is one)",
    )
    parser.add_argument(
        "--prior",
        metavar="PRIOR",
        help="how often the expressions occur where the pictures are from: everyday (as in training), balanced, or "
        "shares such as happy=0.4,neutral=0.4 (default: everyday)",
    )
    parser.add_argument(
        "--tta",
        default=AUTO,
        choices=TTA,
        help=f"{TTA_HELP} (default: {AUTO})",
    )
    add_detector_options(parser, "auto")
    add_settings(parser, Description)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add how photographs are searched for faces: see `mien.detect.search.PhotoSearch`."""
    parser.add_argument(
        "--detect-size",
        type=int,
        metavar="PX",
        help="longer side at which a picture is searched, tile by tile above 1280 (default: at most 1280; 64 or more)",
    )
    add_face_limits(parser)


def add_face_limits(parser: argparse.ArgumentParser) -> None:
    """Add which faces are left out: see `mien.detect.search.PhotoSearch`."""
    parser.add_argument(
        "--min-face",
        type=float,
        default=0.0,
        metavar="PX",
        help="leave out faces smaller than this (default: 0; 0 or more)",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="leave out faces of which the detector is less sure than this (default: 0; from 0 to 1)",
    )


def add_detector_options(parser: argparse.ArgumentParser, default: str | None, said: str = "auto") -> None:
    """Add what says which face detector to use. said: the default in words, for help."""
    parser.add_argument(
        "--detector",
        default=default,
        metavar="NAME",
        help="face detector: mien (ships with it), yunet, haar, whole (each picture is one face), or auto: what "
        f"--detector-file or $MIEN_YUNET names, otherwise that of the network's training, or mien (default: {said})",
    )
    parser.add_argument(
        "--detector-file",
        type=Path,
        metavar="FILE",
        help="a folder of mien train-detector, or a YuNet file (default: the one that ships; for yunet $MIEN_YUNET, or "
        "the one in the folder for caches)",
    )


FACE_LIMITS = ("min_face", "min_score")  # what add_face_limits adds
SEARCH = ("detect_size", *FACE_LIMITS)  # what add_search_options adds


def open_analyzer(options: argparse.Namespace, *, search: Sequence[str] = ()) -> Analyzer:
    """Load what the options ask for. search: see `loading_options`."""
    from mien.predict.analyzer import load

    return load(adopted_model(options), **loading_options(options, search=search))


def loading_options(options: argparse.Namespace, *, search: Sequence[str] = ()) -> dict[str, Any]:
    """Return what `mien.load` takes beside the model. search: SEARCH or FACE_LIMITS where the command has those."""
    names = ("detector", "detector_file", "head", "precision", "prior", "tta")
    return {name: getattr(options, name) for name in (*names, *search)}


def adopted_model(options: argparse.Namespace) -> str | None:
    """Return the model, or a model folder of it where it is a file that mien did not save and that was described."""
    from mien.train.external_models import cached_folder, description, is_external, remembered

    given: str | None = options.model
    path, described = Path(given or ""), description(vars(options))
    is_file = path.suffix in (*KERAS_SUFFIXES, ".onnx") and path.is_file()
    if is_file and (path.suffix != ".onnx" or is_external(path)):
        told = remembered(path, described)
        return str(cached_folder(path, told)) if told.labels else given
    if described != Description():
        raise ConfigError(
            f"--labels, --size, --colour, --input-range and --logits describe a network that mien did not save; "
            f"{given or 'mien'} says all that of itself; leave them out"
        )
    return given


@dataclass(frozen=True)
class Source:
    """One picture. name: what stands for it in results. path: None for standard input. place: below --save."""

    name: str
    path: Path | None
    place: Path

    @property
    def title(self) -> str:
        """What messages call it."""
        return "the picture on standard input" if self.path is None else picture_name(self.name)

    @property
    def mark(self) -> str:
        """What its marked copy says of it; '' of standard input, which is another picture every time."""
        return "" if self.path is None else mark_for("predict", real(self.path))

    def content(self) -> bytes:
        """Return the bytes of its file; ImageError when they cannot be read."""
        if self.path is not None:
            return read_bytes(self.path, self.title)
        if sys.stdin is None:
            raise ImageError("standard input is closed; name a file, or pipe a picture into mien")
        try:
            return sys.stdin.buffer.read()
        except OSError as error:
            raise ImageError(f"standard input cannot be read: {error.strerror}; name a file") from error


@dataclass(frozen=True)
class Found:
    """sources: each picture once. problems: a line for each word that names none. note: what was passed over, or ''."""

    sources: list[Source]
    problems: list[str]
    note: str


def find_sources(words: Sequence[str], skip: Path | None = None) -> Found:
    """Find the pictures that the words name.

    words: files, folders (searched with all below them, hidden ones left out), globs, or '-'. skip: a folder whose
    pictures are left out when a folder above it is searched: what an earlier run wrote.
    """
    sources: dict[str | None, Source] = {}
    problems = []
    passed_over: Counter[str] = Counter()
    for word in words:
        found = list(_named(word, skip, passed_over))
        for source in found:
            sources.setdefault(real(source.path) if source.path else None, source)
        if not found:
            problems.append(_nothing(word))
    return Found(list(sources.values()), problems, passed_over_note(passed_over))


def real(path: Path) -> str:
    """Return where a path leads. Unlike Path.resolve, a link that leads to itself is no error here: reading it is."""
    return os.path.realpath(path)


def refuse_over(option: str, path: Path, pictures: Iterable[Path | None]) -> None:
    """Raise ConfigError where writing to a path would write over one of these pictures."""
    if real(path) in {real(picture) for picture in pictures if picture}:
        raise ConfigError(f"{option} {path} would write over the picture {path}; name another place")


def refuse_among(option: str, path: Path, data: Iterable[str | Path]) -> None:
    """Raise ConfigError where writing to a path would write over labelled data, or a file in a folder of it."""
    place = Path(real(path))
    if place.is_file() and any(place.is_relative_to(real(Path(word))) for word in data):
        raise ConfigError(f"{option} {path} is there already, among the data; name another place")


def refuse_foreign(option: str, path: Path) -> None:
    """Raise ConfigError where a picture is to be written in the place of a file that mien has not written."""
    if path.is_file() and not mark_of(path):
        raise ConfigError(
            f"{option} {path} is there already, and mien did not write it; delete it or name another place"
        )


def save_places(sources: Sequence[Source], folder: Path) -> list[Path]:
    """Return for each picture where its marked copy goes below `folder`; no two are the same, in any case.

    A file that is there already and is no copy of this very picture stays. ConfigError where a picture would be
    written over.
    """
    originals = {real(source.path) for source in sources if source.path}
    taken: set[str] = set()
    places = []
    for source in sources:
        suffix = source.place.suffix if source.place.suffix.lower() in _SAVED_AS else ".png"
        wanted = folder / source.place.with_suffix(suffix)
        if real(wanted) in originals:
            raise ConfigError(f"--save {folder} would write over the picture {wanted}; name another place")
        place = free_place(wanted, source.mark, taken)
        taken.add(str(place).casefold())
        places.append(place)
    return places


def _named(word: str, skip: Path | None, passed_over: Counter[str]) -> Iterator[Source]:
    path = Path(word)
    if word == STDIN:
        yield Source(STDIN, None, Path("stdin.png"))
    elif path.is_dir():
        yield from _below(path, skip, passed_over)
    elif path.exists():
        yield _source(path, Path(path.name))
    elif glob.has_magic(word):
        matches = glob.glob(word, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        for match in sorted(map(Path, matches), key=_in_order):
            if match.is_dir():
                yield from _below(match, skip, passed_over)
            elif kind := no_picture(match):
                passed_over[kind] += 1
            else:
                yield _source(match, Path(match.name))


def _below(folder: Path, skip: Path | None, passed_over: Counter[str]) -> Iterator[Source]:
    skipped = real(skip) if skip else None

    def leave_out(below: Path) -> bool:
        if left := real(below) == skipped:
            passed_over[_SAVE_FOLDER] += 1
        return left

    listing = list_pictures(folder, leave_out)
    passed_over.update(listing.passed_over)
    for path in listing.pictures:
        yield _source(path, path.relative_to(folder))


def _source(path: Path, place: Path) -> Source:
    return Source(picture_path(path), path, place)


def _in_order(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    return tuple(natural(part) for part in path.parts)


def _nothing(word: str) -> str:
    name = on_one_line(word)
    if note := address_note(word):
        return note
    if Path(word).is_dir():
        return f"there is no picture in the folder {name}"
    if glob.has_magic(word):
        return f"no picture matches {name}"
    return f"there is no file or folder {name}; name a picture, a folder, a glob, or - for standard input"
