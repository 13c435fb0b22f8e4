"""A small face set of drawn pictures, and a real server for it in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.detect.base import Box
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet

from ..serve.conftest import Answer, Running, ended, port_of

MARK = "<img src=x onerror=alert(1)>"  # in the name of a file


def write_face_set(folder: Path, count: int = 24) -> list[str]:
    """Write a face set; returns the ids. Two faces a photograph; each crop has a grey level of its own."""
    photographs = folder.parent / f"{folder.name} photographs"
    photographs.mkdir(parents=True)
    (folder / "crops").mkdir(parents=True)
    faces = FaceSet.open(folder, create=True)
    for number in range(count):
        level = 20 + 200 * number // count
        source = photographs / (f"{number // 2}.png" if number // 2 else f"{MARK}.png".replace("/", ""))
        if number % 2 == 0:
            photo = np.full((120, 200, 3), (level, 90, 60), np.uint8)
            cv2.imencode(".png", photo)[1].tofile(source)
        crop = np.full((48, 48, 3), level, np.uint8)
        cv2.putText(crop, str(number), (4, 32), cv2.FONT_HERSHEY_PLAIN, 1.6, (255, 255, 255), 2)
        name = f"crops/{number:03}.png"
        cv2.imwrite(str(folder / name), crop)
        box = Box(20.0 + 90 * (number % 2), 30.0, 50.0, 60.0)
        faces.add(
            [
                FaceRow(
                    id=f"id-{number:03}", file=name, source=f"../{photographs.name}/{source.name}", box=box, margin=1.5,
                    score=0.9, sharpness=float(number), group=f"g{number // 2}",
                    status="blurred" if number == 5 else "",
                )
            ]
        )  # fmt: skip
    faces.write()
    return [face.id for face in faces.faces]


@dataclass
class Labelling(Running):
    """A running `mien label`. folder: of the face set."""

    folder: Path = Path()

    def post(self, path: str, **body: Any) -> Answer:
        return self.ask("POST", path, json.dumps(body).encode(), Content_Type="application/json")

    def say(self, who: str, faces: list[str], action: str, class_: str = "", target: str = "") -> Answer:
        return self.post(
            "/v1/answers", **{"who": who, "faces": faces, "action": action, "class": class_, "target": target}
        )

    def state(self) -> dict[str, Any]:
        """Everything that the page loads."""
        answer = self.ask("GET", "/v1/faces")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found


StartLabel = Callable[..., AbstractContextManager[Labelling]]


@pytest.fixture(scope="session")
def start_label(tmp_path_factory: pytest.TempPathFactory) -> StartLabel:
    """Start `mien label` on a folder with options of its own. before: what a shell runs first, as `ulimit -f 64`."""

    @contextmanager
    def started(folder: Path, *options: str, before: str = "") -> Iterator[Labelling]:
        log = tmp_path_factory.mktemp("log") / "stderr.txt"
        command = [sys.executable, "-m", "mien.cli.main", "label", str(folder), "--port", "0", *options]
        if before:
            command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
        with log.open("w") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, text=True)
        with ended(process, signal.SIGTERM):
            yield Labelling(process, port_of(process, log), folder, log, folder)
        assert "Traceback" not in log.read_text(), log.read_text()

    return started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_face_set(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from ..serve.browser import launcher

    with launcher() as launch:
        browser = launch()
        yield browser
        browser.close()
