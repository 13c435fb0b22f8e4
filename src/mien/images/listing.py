"""Which files of a folder are pictures. The content decides, not the suffix; the rest is counted by kind.

One walk for prediction and training alike: what is a picture to `mien predict` is one to `mien train`.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mien.files import natural
from mien.images.kinds import HEAD_BYTES, PICTURE_SUFFIXES, RAW_SUFFIXES, VIDEO, VIDEO_SUFFIXES, content_kind
from mien.images.marks import mark_of

# Left behind by systems and storage boxes; what lies in them is no data of the user's.
SYSTEM_FOLDERS = frozenset(
    ("@eadir", "$recycle.bin", "system volume information", "__macosx", "lost+found", "#recycle", "#snapshot")
)
_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".localized", ".nomedia"))
HIDDEN_FILE, HIDDEN_FOLDER, SYSTEM_FOLDER = "hidden file", "hidden folder", "system folder"
CLOSED_FOLDER, OWN_RESULT = "folder that cannot be opened", "written by mien"
FACE_SET = "folder that is a face set"
# What a report holds, a comparison of networks and one of face detectors.
_RESULTS = (
    ("report.json", "report.html"),
    ("comparison.json", "comparison.html"),
    ("detectors.json", "detectors.md"),
)
# What `mien video` writes, behind the video's name.
TIMELINE, MARKED_VIDEOS = "-timeline.png", ("-faces.mp4", "-faces.webm")
_DRAWN = ("-sheet", "explained-", TIMELINE)


@dataclass(frozen=True)
class Listing:
    """pictures, videos: in natural order, those of a folder before those below it. passed_over: how many files by kind.

    Videos count as passed over, too: most callers have no use for them.
    """

    pictures: tuple[Path, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    videos: tuple[Path, ...] = ()


def list_pictures(folder: Path, leave_out: Callable[[Path], bool] | None = None) -> Listing:
    """Return the pictures in a folder and below it, and what else lies there. See `walk_pictures`."""
    passed_over: Counter[str] = Counter()
    videos: list[Path] = []
    pictures = tuple(walk_pictures(folder, passed_over, leave_out, videos.append))
    return Listing(pictures, dict(+passed_over), tuple(videos))


def walk_pictures(
    folder: Path,
    passed_over: Counter[str],
    leave_out: Callable[[Path], bool] | None = None,
    on_video: Callable[[Path], None] = lambda _: None,
) -> Iterator[Path]:
    """Yield the pictures in a folder and below it, one folder at a time in memory, and count what else lies there.

    In natural order, those of a folder before those below it. Hidden and system folders and what mien itself wrote are
    not entered; links are followed, each folder once. passed_over: grows by the other files, by kind. leave_out:
    folders for which it is true are neither entered nor counted. on_video: called with each video, which counts as
    passed over.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        entries = folder_entries(here)
        if entries is None:
            passed_over[CLOSED_FOLDER] += 1
            continue
        status = here.stat()
        if (identity := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(identity)
        own = own_files(entries)
        below = []
        for entry in entries:
            if is_folder(entry):
                if kind := ignored_folder(Path(entry.path)):
                    passed_over[kind] += 1
                elif not (leave_out and leave_out(Path(entry.path))):
                    below.append(Path(entry.path))
            elif entry.name in own:
                passed_over[OWN_RESULT] += 1
            elif kind := no_picture(Path(entry.path)):
                passed_over[kind] += not is_system_file(entry.name)
                if kind == VIDEO:
                    on_video(Path(entry.path))
            else:
                yield Path(entry.path)
        waiting += reversed(below)


def picture_path(path: Path | str) -> str:
    """Return what stands for a picture in results: its path, by which it is found again; line breaks as they are.

    Bytes that are no text become U+FFFD, because JSON, CSV and Parquet hold none.
    """
    return os.fsencode(path).decode("utf-8", "replace")


def picture_name(path: Path | str) -> str:
    """Return what a picture is called in messages and on terminals: its path on one line, whatever bytes it has."""
    return on_one_line(picture_path(path))


def no_picture(path: Path) -> str:
    """Return the kind of a file that is no picture ('video', 'text', '.xyz'); '' where it is, or is meant as, one.

    A file named like a picture is meant as one, whatever it holds: opening it gives the reason. One that cannot be
    opened counts as a picture too, for the same reason, unless it is a pipe, socket or device, which may never end.
    """
    name = path.name.lower()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "pipe, socket or device"
    except OSError:
        pass  # a link that leads nowhere: reading it says so
    if name.startswith(".") or is_system_file(name):
        return HIDDEN_FILE
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return ""
    if suffix in RAW_SUFFIXES:  # most are TIFF files, of which a decoder reads the thumbnail
        return "camera raw"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return suffix or "no suffix"
    kind, picture = content_kind(head)
    if not picture and suffix in VIDEO_SUFFIXES and kind != "text":
        return VIDEO
    return "" if picture else kind or suffix or "no suffix"


def folder_entries(folder: Path) -> list[os.DirEntry[str]] | None:
    """Return what lies in a folder, in natural order; None where it cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: natural(entry.name))
    except OSError:
        return None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder or a link to one; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def ignored_folder(folder: Path) -> str:
    """Return why this folder, found in another one, is not looked into; '' where it is."""
    if folder.name.lower() in SYSTEM_FOLDERS:
        return SYSTEM_FOLDER
    if folder.name.startswith("."):
        return HIDDEN_FOLDER
    try:
        if _is_run(folder) or any(all((folder / file).is_file() for file in files) for files in _RESULTS):
            return OWN_RESULT
        return FACE_SET if _is_face_set(folder) else ""
    except OSError:  # it cannot be opened, which whoever enters it says
        return ""


def _is_run(folder: Path) -> bool:
    """Say whether a folder is a run, from its first second on; other programs have a settings.json of their own."""
    return (folder / "README.md").is_file() and _names_early(folder / "settings.json", b'"settings"')


def _is_face_set(folder: Path) -> bool:
    """Say whether a folder holds crops of faces that lie elsewhere already, by the head of its table."""
    return (folder / "crops").is_dir() and _names_early(folder / "faces.csv", b"duplicate_of")


def _names_early(path: Path, word: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return word in file.read(HEAD_BYTES)


def own_files(entries: Sequence[os.DirEntry[str]]) -> frozenset[str]:
    """Return the names of a folder's files that mien drew: sheets, heat maps, copies with the faces marked, timelines.

    To open every picture for its mark would take long where there are a million: those with the names that mien gives
    are looked at, and all of a folder whose first one has a mark. A marked video has none; its timeline lies beside it.
    """
    pictures = [
        entry for entry in entries if entry.name.lower().endswith(PICTURE_SUFFIXES) and not is_folder(entry)
    ]
    all_of_them = bool(pictures) and bool(mark_of(Path(pictures[0].path)))
    own = {
        entry.name
        for entry in pictures
        if (all_of_them or any(sign in entry.name for sign in _DRAWN)) and mark_of(Path(entry.path))
    }
    stems = [name.removesuffix(TIMELINE) for name in own if name.endswith(TIMELINE)]
    return frozenset(own.union(stem + end for stem in stems for end in MARKED_VIDEOS))


def is_system_file(name: str) -> bool:
    """Say whether a system leaves files of this name in any folder; they are not worth a word."""
    return name.lower() in _SYSTEM_FILES or name.startswith("._")


def passed_over_note(passed_over: Mapping[str, int]) -> str:
    """Return one line about the files that are no pictures, the most frequent kinds first; '' where there are none.

    >>> passed_over_note({"video": 2, "text": 3, ".xyz": 1})
    'passed over, as no pictures: 3 text, 2 video, 1 .xyz'
    """
    if not passed_over:
        return ""
    kinds = ", ".join(
        f"{count:,} {on_one_line(kind)}"
        for kind, count in sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"passed over, as no pictures: {kinds}"


def on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
