"""How long is the way of one call through the code: files of mien that it passes, and changes from file to file.

    python tools/call_paths.py predict PHOTO.jpg          any command of mien, run here
    python tools/call_paths.py --files predict PHOTO.jpg  and which files, by changes into them
    python tools/call_paths.py --post PHOTO.jpg           POST /v1/analyze, from the request to the answer; needs httpx

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
        self.following = True

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code.co_name == "<module>":
            within: int = getattr(self._at, "importing", 0)
            self._at.importing = within + {"call": 1, "return": -1}.get(event, 0)
        file = frame.f_code.co_filename
        if (
            not self.following
            or event != "call"
            or not file.startswith(ROOT)
            or getattr(self._at, "importing", False)
        ):
            return
        if getattr(self._at, "file", None) != file:
            self._at.file = file
            self.entered[file] += 1

    @property
    def changes(self) -> int:
        return sum(self.entered.values())


def of_command(words: list[str], way: Way) -> int:
    """Follow a command."""
    from mien.cli.main import main as command

    sys.setprofile(way)
    try:
        return command(words)
    finally:
        sys.setprofile(None)


def of_request(photo: str, way: Way) -> int:
    """Follow the second of two requests to a server. Decoding happens in a process of its own and does not count."""
    from starlette.testclient import TestClient

    from mien.serve.app import build
    from mien.serve.config import ServeConfig
    from mien.serve.metrics import Metrics
    from mien.serve.service import ModelOptions, Service
    from mien.serve.temporary import private_folder

    config, body = ServeConfig(), Path(photo).read_bytes()
    way.following = False
    with private_folder() as folder:
        service = Service.open(ModelOptions(), config, folder, Metrics())
        with TestClient(build(service), base_url="http://127.0.0.1") as client:
            for way.following in (False, True):
                answer = client.post("/v1/analyze", content=body, headers={"Content-Type": "image/jpeg"})
        way.following = False
        service.close()
    return 0 if answer.status_code == 200 else 1


def main(words: list[str]) -> int:
    show = words[:1] == ["--files"]
    words = words[show:]
    if not words:
        print(__doc__)
        return 2
    way = Way()
    threading.setprofile(way)
    request = words[0] == "--post"
    code = of_request(words[1], way) if request else of_command(words, way)
    threading.setprofile(None)
    said = "POST /v1/analyze" if request else f"mien {' '.join(words)}"
    print(f"{len(way.entered)} files of mien, {way.changes} changes of file: {said}")
    for file, count in way.entered.most_common() if show else ():
        print(f"  {count:4}  {Path(file).relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
