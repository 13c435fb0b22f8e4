"""What faces are taken from: photographs, films, folders of both, and tables; and the list of what was looked at."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mien.data.readers.csv_text import rows_of
from mien.data.readers.face_sets import is_face_set
from mien.detect.base import Detection, Detector
from mien.errors import DataError, ImageError
from mien.faceset.from_table import is_faces_table, read_faces_table
from mien.faceset.row import content_key
from mien.faceset.settings import FacesConfig
from mien.files import address_note, csv_writer, expanded, plain_text, spreadsheet_safe, whole_file
from mien.images.decode import read_bytes
from mien.images.kinds import PICTURE_SUFFIXES, VIDEO, VIDEO_SUFFIXES
from mien.images.listing import list_pictures, no_picture, passed_over_note

LEDGER_FILE = "sources.csv"

Frames = Mapping[int, Sequence[tuple[int, Detection]]]  # number of a frame to (track, face)
_Add = Callable[..., None]


@dataclass(frozen=True, eq=False)
class Source:
    """A photograph or film. name: as the table of the face set calls it.

    faces: of a photograph, where a table says they are; frames: of a film. None: to be searched for.
    """

    path: Path
    name: str
    is_film: bool = False
    faces: tuple[Detection, ...] | None = None
    frames: Frames | None = None

    @property
    def is_told(self) -> bool:
        """Whether a table says where its faces are."""
        return self.faces is not None or self.frames is not None

    @property
    def title(self) -> str:
        """What messages call it."""
        return plain_text(str(self.path))


@dataclass
class Sources:
    """Each photograph and film once, or once a table that has its faces.

    face_sets: folders of others, which are added as they are.
    problems: a line for each path that names none. notes: what was passed over.
    """

    photos: list[Source] = field(default_factory=list)
    films: list[Source] = field(default_factory=list)
    face_sets: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_sources(paths: Sequence[str | Path], folder: Path, config: FacesConfig) -> Sources:
    """Find the photographs and films that paths name.

    paths: files, folders (with all below them, hidden ones left out), globs, or tables of mien predict and mien video.
    folder: the face set; it and other face sets are not taken for photographs.
    """
    found = Sources()
    passed_over: Counter[str] = Counter()

    def add(path: Path, *, film: bool) -> None:
        (found.films if film else found.photos).append(Source(path, source_name(path, folder), film))

    for word in map(str, paths):
        named = list(_named(expanded(word)))
        if not named:
            found.problems.append(
                address_note(word)
                or f"there is no file or folder {plain_text(word)}; name photographs, films, folders or tables"
            )
        for path in named:
            if _is_face_set(path):
                _take_face_set(path, folder, found)
            elif path.is_dir():
                count, kinds = _below(path, add)
                passed_over.update(kinds)
                if not count:
                    found.problems.append(
                        f"there is no photograph or film in the folder {plain_text(str(path))}"
                    )
            elif is_faces_table(path):
                _take_table(path, folder, config, found)
            else:
                kind = no_picture(path)
                if kind and kind != VIDEO:
                    passed_over[kind] += 1
                else:
                    add(path, film=kind == VIDEO)
    found.photos[:] = _once(found.photos)
    found.films[:] = _once(found.films)
    if note := passed_over_note(passed_over).replace("as no pictures", "as neither photographs nor films"):
        found.notes.append(note)
    return found


def _take_face_set(path: Path, folder: Path, found: Sources) -> None:
    place = path if path.is_dir() else path.parent
    if os.path.realpath(place) == os.path.realpath(folder):
        found.problems.append(
            f"{plain_text(str(path))} is the face set that is added to; name photographs, films or other face sets"
        )
    else:
        found.face_sets.append(place)


def _is_face_set(path: Path) -> bool:
    """By its columns: the table that `mien predict --csv > faces.csv` writes is called so, too."""
    try:
        return is_face_set(path)
    except OSError:  # a locked folder
        return False


def _once(sources: Sequence[Source]) -> list[Source]:
    """Leave out sources that are named again; where a table has the faces of a photograph or film, the table wins."""
    told = {os.path.realpath(one.path) for one in sources if one.is_told}
    rest = {os.path.realpath(one.path): one for one in reversed(sources) if not one.is_told}
    return [
        one
        for one in sources
        if one.is_told or ((place := os.path.realpath(one.path)) not in told and rest[place] is one)
    ]


def _named(path: Path) -> Iterator[Path]:
    if os.path.lexists(path):
        yield path
    elif glob.has_magic(str(path)):
        yield from map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207 - takes absolute patterns


def _below(folder: Path, add: _Add) -> tuple[int, Counter[str]]:
    """Add what lies below a folder; return how many photographs and films, and what was passed over, by kind."""
    listing = list_pictures(folder)
    for path in listing.pictures:
        add(path, film=False)
    for path in listing.videos:
        add(path, film=True)
    kinds = Counter({kind: count for kind, count in listing.passed_over.items() if kind != VIDEO})
    return len(listing.pictures) + len(listing.videos), kinds


def _take_table(path: Path, folder: Path, config: FacesConfig, found: Sources) -> None:
    try:
        table = read_faces_table(path, config)
    except DataError as error:
        found.problems.append(str(error))
        return
    found.problems += table.problems
    found.notes += table.notes
    for photo, faces in table.photos.items():
        given = None if faces is None else tuple(faces)
        found.photos.append(Source(photo, source_name(photo, folder), faces=given))
    if table.film:
        found.films.append(
            Source(table.film, source_name(table.film, folder), is_film=True, frames=table.frames)
        )


def source_name(path: Path, folder: Path) -> str:
    """Return a source's path as the table has it: from the face set's folder, unless the two share nothing but a root.

    So a face set can be moved together with what lies beside it. Bytes of a name that are no text are written `\\xff`.
    """
    path = Path(os.fsencode(path).decode("utf-8", "backslashreplace"))
    target, base = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - links stay
    try:
        shared = os.path.commonpath([target, os.path.dirname(base)])  # noqa: PTH120
        if os.path.dirname(shared) != shared:  # noqa: PTH120
            return Path(os.path.relpath(target, base)).as_posix()
    except ValueError:  # two drives of Windows
        pass
    return Path(target).as_posix()


def shared_groups(known: Iterable[tuple[str, str]], sources: Iterable[str]) -> dict[str, str]:
    """Return the groups of sources that show one moment and are files of their own: a live photo and its film.

    known: (source, group) of faces that are there. Of one moment are files of a folder whose names differ in the suffix
    only: IMG_1.HEIC, IMG_1.JPG, IMG_1.MOV. The first one's group is that of all; a source alone is not in the answer.
    """
    first: dict[str, str] = {}
    shared = {}
    for source, group in known:
        if moment(group) == moment(source):
            first.setdefault(moment(source), group)
    for source in sources:
        if (group := first.setdefault(moment(source), source)) != source:
            shared[source] = group
    return shared


def moment(source: str) -> str:
    """Return what the files of one moment are called in common. icloudpd puts _HEVC behind the film of a HEIC."""
    path = PurePosixPath(source)
    if path.suffix.lower() not in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES):
        return source
    return str(path.with_name(path.stem.lower().removesuffix("_hevc") or path.name))


def search_key(source: Source, config: FacesConfig, detector: Detector) -> str:
    """Return the settings by which faces are found, as sources.csv has them; others mean another search."""
    films = ""
    if source.is_film:
        films = f" every {config.every:g} s, {config.per_track} a track, {config.spacing:g} s apart"
        films += f", {config.per_film} in all"
    if source.faces is not None:
        return f"table {content_key(repr([tuple(face.box) for face in source.faces]).encode())}"
    if source.frames is not None:
        return f"table {content_key(repr(sorted(source.frames.items())).encode())}{films}"
    known = detector.metadata
    size = f" at {config.detect_size} px" if config.detect_size else ""
    return f"{known.get('name', detector.name)} {known.get('sha256', '')[:8]}".strip() + size + films


@dataclass(frozen=True)
class Entry:
    """What was done about a source: a row of sources.csv.

    source: as the table has it. content: what its content is known by; '' where it could not be read. size: bytes.
    modified: nanoseconds, by the file system. faces: that it gave; set_aside: of these. search, limits: the settings
    that decided so. problem: one line, or ''.
    """

    source: str
    content: str = ""
    size: int = 0
    modified: int = 0
    faces: int = 0
    set_aside: int = 0
    search: str = ""
    limits: str = ""
    problem: str = ""


class Ledger:
    """The sources that were looked at, by name, so that what is known is not looked at again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER_FILE
        self._entries: dict[str, Entry] = {}
        self._contents: set[tuple[str, str]] = set()  # with the search
        self._of_content: dict[str, str] = {}  # to the source that gave its faces
        for entry in _entries(self._path) if self._path.is_file() else ():
            self.put(entry)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, source: str) -> Entry | None:
        return self._entries.get(source)

    def of_content(self, content: str) -> Entry | None:
        """Return the entry of the source that gave the faces of a content."""
        return self._entries.get(self._of_content.get(content, ""))

    def unchanged(self, source: str, status: os.stat_result, search: str) -> bool:
        """Say whether a file is, by its size and time, what was looked at before, with the same settings."""
        entry = self._entries.get(source)
        stamp = (status.st_size, status.st_mtime_ns)
        return (
            entry is not None
            and not entry.problem
            and (entry.size, entry.modified, entry.search) == (*stamp, search)
        )

    def knows(self, content: str, search: str) -> bool:
        return (content, search) in self._contents

    def expect(self, content: str, search: str) -> None:
        """Take a content for known while it is still being looked at."""
        self._contents.add((content, search))

    def forget(self, content: str, search: str) -> None:
        """Take back `expect`: looking at it failed."""
        self._contents.discard((content, search))

    def put(self, entry: Entry) -> None:
        self._entries[entry.source] = entry
        if entry.content and not entry.problem:
            self._contents.add((entry.content, entry.search))
            if entry.faces:
                self._of_content.setdefault(entry.content, entry.source)

    def rename(self, entry: Entry, source: str) -> None:
        """Let the entry of a source that is gone count for another one, which is there already."""
        del self._entries[entry.source]
        self._of_content[entry.content] = source
        self.put(replace(self._entries[source], faces=entry.faces, set_aside=entry.set_aside))

    def write(self) -> None:
        """Write the list, whole or not at all. Raises OutputError."""
        with (
            whole_file(self._path) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            writer = csv_writer(file)
            writer.writerow(Entry.__dataclass_fields__)
            for entry in self._entries.values():
                writer.writerow(
                    [spreadsheet_safe(getattr(entry, name)) for name in Entry.__dataclass_fields__]
                )


def _entries(path: Path) -> Iterator[Entry]:
    """Read the list; what is missing or damaged in it is looked at again, so nothing is lost by leaving it out."""
    names = list(Entry.__dataclass_fields__)
    try:
        rows = rows_of(path)
        if next(rows, []) != names:
            return
        for row in rows:
            numbers = row[2:6]
            if len(row) == len(names) and all(cell.isdecimal() for cell in numbers):
                size, modified, faces, aside = map(int, numbers)
                yield Entry(row[0], row[1], size, modified, faces, aside, *row[6:])
    except DataError:
        return


class SeenError(ImageError):
    """A source's content is known, so that it need not be decoded. content: '' where not even that was read."""

    def __init__(self, name: str, content: str = "") -> None:
        super().__init__(f"{name} was looked at before")
        self.content = content


class Seen:
    """A source as it was when this run came to it. status: None where it is not there. search: see Entry."""

    def __init__(self, source: Source, search: str) -> None:
        self.source, self.search = source, search
        self.status: os.stat_result | None = None

    def is_unchanged(self, ledger: Ledger) -> bool:
        """Look at the file, and say whether it is what was looked at before."""
        with suppress(OSError, ValueError):  # reading it says why
            self.status = self.source.path.stat()
        return self.status is not None and ledger.unchanged(self.source.name, self.status, self.search)


class PhotoFile:
    """A photograph that was not read yet: a `PictureFile` that does not hand out what is known already."""

    def __init__(self, source: Source, ledger: Ledger, search: str) -> None:
        self.source = source
        self.seen = Seen(source, search)
        self.content_key = ""
        self._ledger = ledger

    @property
    def title(self) -> str:
        return self.source.title

    def content(self) -> bytes:
        if self.seen.is_unchanged(self._ledger):
            raise SeenError(self.title)
        data = read_bytes(self.source.path, self.title)
        self.content_key = content_key(data)
        if self._ledger.knows(self.content_key, self.seen.search):
            raise SeenError(self.title, self.content_key)
        self._ledger.expect(self.content_key, self.seen.search)
        return data
