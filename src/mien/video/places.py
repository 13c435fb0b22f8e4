"""Where the results of a video go, and of which video those are that lie there already.

Videos of one name (a/clip.mp4 and b/clip.mp4, clip.mp4 and clip.mov) share no files. The timeline, which is always
written, says in its PNG which video it is of, so that a second run on one video replaces the first one's results.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mien.errors import ConfigError, ImageError
from mien.files import remove_left_behind
from mien.images.listing import MARKED_VIDEOS, TIMELINE, picture_path
from mien.images.marks import mark_of
from mien.locks import locked

FORMS = ("-faces.csv", "-faces.jsonl", TIMELINE, *MARKED_VIDEOS)
_PIECE = 1 << 20  # bytes at each end of a video that are looked at: it may have very many
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Origin:
    """The video that results are of. name: of its file, without folders. content: what tells it from another one."""

    name: str
    content: str


@dataclass(frozen=True)
class Place:
    """Where results go: each is `folder` / (`stem` and one of FORMS). note: what to say of a stem that was taken."""

    folder: Path
    stem: str
    origin: Origin
    note: str = ""


def origin_of(video: Path) -> Origin:
    """Return what tells a video from others, by its length and both its ends; ImageError where it cannot be read."""
    try:
        with video.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            digest = hashlib.blake2b(str(length).encode("ascii"), digest_size=_DIGEST_BYTES)
            for begin in (0, max(0, length - _PIECE)):
                file.seek(begin)
                digest.update(file.read(_PIECE))
    except OSError as error:
        raise ImageError(f"cannot read {video}: {error.strerror}; name a video file") from error
    return Origin(picture_path(video.name), digest.hexdigest())


def mark(origin: Origin) -> str:
    """Return what a timeline's PNG says of its video."""
    return json.dumps([origin.name, origin.content])


def marked_origin(timeline: Path) -> Origin | None:
    """Return the video that a timeline is of; None where it does not say so, as those of mien before 0.4 do not."""
    try:
        name, content = json.loads(mark_of(timeline))
    except ValueError:
        return None
    return Origin(name, content)


@contextmanager
def results_place(video: Path, to: Path | None) -> Iterator[Place]:
    """Give the place for a video's results, which nobody else gets within the block.

    to: a folder; None: NAME-faces in this folder. A name that has results of another video, or that another process
    writes just now, gets a number behind it: clip-2. ConfigError where a file is in the way.
    """
    name, origin = picture_path(video.stem), origin_of(video)
    taken = ""
    for number in itertools.count(1):
        stem = name if number == 1 else f"{name}-{number}"
        folder = to or Path(f"{stem}-faces")
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"the results need a folder, {folder} is a file; name another one with --to")
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(folder / f".{stem}", "being written"))
            except ConfigError:  # videos of one name, analysed at the same time
                continue
            files = [folder / f"{stem}{form}" for form in FORMS]
            if any(map(os.path.lexists, files)):
                found = marked_origin(folder / f"{stem}{TIMELINE}")
                if found is None or found.content != origin.content:
                    taken = taken or str(next(filter(os.path.lexists, files)))
                    continue
            note = (
                f"{taken} is not known to be of this video, and stays; its own are called {stem}"
                if taken
                else ""
            )
            for file in files:  # a marked video can have gigabytes
                remove_left_behind(file)
            yield Place(folder, stem, origin, note)
            return
