"""How long is the way of one call through the code: files of mien that it passes, and changes from file to file.

    python tools/call_paths.py predict PHOTO.jpg          any command of mien, run here
    python tools/call_paths.py --files predict PHOTO.jpg  and which files, by changes into them

A short way is one that a reader can follow. Counted with `sys.setprofile` over the calls of Python functions in the
main thread and in threads that are started later, from the parsing of the command line on. What runs while a module is
imported does not count: that is once a process.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import mien

ROOT = str(Path(mien.__file__).parent)


class Way:
    """The files of mien that were passed, in order of first passage, and how often each was changed into."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()
        self._at = threading.local()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code.co_name == "<module>":
            within: int = getattr(self._at, "importing", 0)
            self._at.importing = within + {"call": 1, "return": -1}.get(event, 0)
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(ROOT) or getattr(self._at, "importing", False):
            return
        if getattr(self._at, "file", None) != file:
            self._at.file = file
            self.entered[file] += 1

    @property
    def changes(self) -> int:
        return sum(self.entered.values())


def main(words: list[str]) -> int:
    show = words[:1] == ["--files"]
    words = words[show:]
    if not words:
        print(__doc__)
        return 2
    from mien.cli.main import main as command

    way = Way()
    threading.setprofile(way)
    sys.setprofile(way)
    try:
        code = command(words)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    print(f"{len(way.entered)} files of mien, {way.changes} changes of file: mien {' '.join(words)}")
    for file, count in way.entered.most_common() if show else ():
        print(f"  {count:4}  {Path(file).relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
