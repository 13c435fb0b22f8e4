"""`mien train` on the labels that there are now, started from the page: a process of its own, watched by its files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mien.errors import ConfigError
from mien.files import path_word, plain_text, shell_word, without_spreadsheet_guard
from mien.label.wall import Wall
from mien.model.folder import MODEL_FOLDER, SETTINGS_FILE
from mien.settings import from_mapping, joined_words
from mien.train.config import TrainConfig

# As mien.train.run_folder has them; importing it takes a second.
EPOCHS_FILE, BATCH_FILE, BATCH_NAMES_FILE = "epochs.csv", "batch.png", "batch.csv"
MISTAKES_FILE, REPORT, FOLDS_FOLDER, SEEN_FILE = (
    "mistakes.csv",
    "report/report.html",
    "folds",
    "trained-on.npz",
)
_FOLDERS = "network-{}"
_LEAST = 2  # faces that a class needs, one to learn from and one to check on
_MOST_FOLDS = 10
_LINES = 12
_MOST_MISTAKES = 120  # that are shown
_STOP_S = 20.0  # for a training to end once it is told to
_CURVE = ("loss", "validation_loss", "accuracy", "validation_accuracy")


class Training:
    """One training at a time. Safe across threads.

    state: 'none', 'running', 'done', 'stopped' or 'failed'.
    """

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._folder: Path | None = None
        self._left_out: list[str] = []
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._folds = 0
        self._stopping = False
        self.state = "none"

    def start(self, epochs: int | None, folds: int = 0) -> None:
        """Start a training on the answers. Raises ConfigError.

        epochs: None for as many as the recipe has. folds: 0 to keep some faces back, else see `mien.train.folds`.
        """
        if epochs is not None and not 1 <= epochs <= 10_000:
            raise ConfigError(f"epochs must be from 1 to 10000, got {epochs}")
        if folds and not 2 <= folds <= _MOST_FOLDS:
            raise ConfigError(f"folds must be from 2 to {_MOST_FOLDS}, or 0 for none, got {folds}")
        with self._lock:
            if self.state == "running":
                raise ConfigError("a training runs already; wait for it, or cancel it")
            counts = self._counts()
            enough = [name for name in self._wall.store.classes if counts[name] >= _LEAST]
            if len(enough) < 2:
                raise ConfigError(
                    f"a network needs two classes with {_LEAST} or more faces each, there is "
                    f"{len(enough) or 'none'}; label more"
                )
            few = [name for name in self._wall.store.classes if 0 < counts[name] < _LEAST]
            folder = self._next_folder()
            command = command_of(self._wall.folder, folder, enough if few else [], epochs, folds)
            self._wall.write_table()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in a terminal is for the page; it hands it on
            )
            # Only now: where one cannot be started, the one before is shown on.
            self._left_out, self._folder, self._process = few, folder, process
            self._folds, self._stopping = folds, False
            self._lines.clear()
            self.state = "running"
            threading.Thread(target=self._watch, args=(process,), name="training", daemon=True).start()

    def cancel(self) -> None:
        """Stop the training; what it has reached stays in its folder, and `mien train` would go on with it."""
        with self._lock:
            if self._process is not None and self.state == "running":
                self._stopping = True
                self._process.terminate()

    def close(self) -> None:
        """Stop a training that runs, and wait until it has ended."""
        self.cancel()
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def told(self) -> dict[str, Any]:
        """Return how far it is, for the page."""
        folder = self._folder
        if self.state == "none" or folder is None:
            return {"state": "none"}
        part = self._part(folder)
        epochs, fold = _epochs_of(part), self._fold(folder)
        curve, seconds = _curve(part / EPOCHS_FILE)
        shown = _shown(folder)
        lines = list(self._lines)  # another thread adds to them
        return {
            "state": self.state,
            "folder": shown,
            "epochs": epochs,
            "folds": self._folds,
            "fold": fold,
            "curve": curve,
            "left_s": self._left_s(seconds, epochs, fold) if self.state == "running" else None,
            "left_out": self._left_out,
            "lines": lines,
            "batch": self.batch is not None,
            "batch_faces": self._places(part / BATCH_NAMES_FILE, "name"),
            "mistakes": self._mistakes(folder),
            "headline": next((line for line in lines if line.startswith("accuracy ")), ""),
            "use": [
                f"mien predict holiday.jpg --model {shell_word(shown)}",
                f"mien serve --open --model {shell_word(shown)}",
                f"mien export {shell_word(shown)} --to my-network",
            ]
            if self.state == "done"
            else [],
            "report": _shown(folder / REPORT) if self.report else "",
        }

    @property
    def batch(self) -> Path | None:
        """The picture of a batch as the network sees it, where there is one."""
        return self._there(BATCH_FILE, parts=True)

    @property
    def report(self) -> Path | None:
        """The report of a training that is done, a page."""
        return self._there(REPORT)

    def _there(self, name: str, *, parts: bool = False) -> Path | None:
        folder = self._folder
        path = folder and (self._part(folder) if parts else folder) / name
        return path if path and path.is_file() else None

    def _part(self, run: Path) -> Path:
        """Return the folder of the training that runs now: of a fold, or of all faces."""
        fold = self._fold(run)
        return run / FOLDS_FOLDER / str(fold) if 0 < fold <= self._folds else run

    def _fold(self, run: Path) -> int:
        """Return the fold that is trained, from 1; behind the last one, where all faces are learnt; 0 without folds."""
        if not self._folds:
            return 0
        if (run / SEEN_FILE).is_file():  # which a training writes when it begins
            return self._folds + 1
        numbers = range(1, self._folds + 1)
        begun = (number for number in numbers if (run / FOLDS_FOLDER / str(number) / SETTINGS_FILE).is_file())
        return max(begun, default=1)

    def _left_s(self, seconds: Sequence[float], epochs: int, fold: int) -> float | None:
        """Return the seconds left for all epochs, by the newest. None before the first."""
        if not (epochs and seconds):
            return None
        recent = sorted(seconds[-5:])  # the first epoch of a phase builds the network, and is no measure
        later = epochs * (self._folds + 1 - fold) if self._folds else 0
        return recent[len(recent) // 2] * (epochs - len(seconds) + later)

    def _mistakes(self, folder: Path) -> list[list[Any]]:
        """Return [place, label that was learnt, answer, percent] of faces that the newest epoch got wrong."""
        part = self._part(folder)
        rows = _rows((part if (part / MISTAKES_FILE).is_file() else folder) / MISTAKES_FILE)
        places = self._wall.place_of_file()
        found = []
        for row in rows:
            name, label, answer = (
                without_spreadsheet_guard(row.get(key) or "") for key in ("name", "label", "answer")
            )
            chance = _number(row.get("probability"))
            if name in places and chance is not None:
                found.append([places[name], label, answer, min(99, max(1, round(100 * chance)))])
        return found[:_MOST_MISTAKES]

    def _places(self, path: Path, column: str) -> list[int]:
        """Return the places of faces whose names are in a column, -1 for one that is not there any more."""
        rows = _rows(path)
        places = self._wall.place_of_file() if rows else {}
        return [places.get(without_spreadsheet_guard(row.get(column) or ""), -1) for row in rows]

    def _counts(self) -> Counter[str]:
        faces = ((face, self._wall.agreed(face)) for face in self._wall.faces)
        return Counter(said.label for face, said in faces if said.label and not said.status_over(face.status))

    def _next_folder(self) -> Path:
        number = 1
        while (self._wall.folder / _FOLDERS.format(number)).exists():
            number += 1
        return self._wall.folder / _FOLDERS.format(number)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                text = plain_text(line.rstrip())
                if text and not text.startswith("epoch "):  # the page draws them
                    self._lines.append(text)
        code = process.wait()
        with self._lock:
            done = self._folder is not None and (self._folder / MODEL_FOLDER).is_dir()
            self.state = "done" if code == 0 and done else "stopped" if self._stopping else "failed"


def command_of(
    folder: Path, run: Path, classes: Sequence[str], epochs: int | None, folds: int = 0
) -> list[str]:
    """Return the words that train on a face set. classes: those that are learnt, none: all that have a label."""
    places = [path_word(folder), "--from", "mien", "--to", path_word(run)]
    command = [sys.executable, "-m", "mien.cli.main", "train", *places]
    if classes:
        command += ["--classes", joined_words(classes)]
    if folds:
        command += ["--folds", str(folds)]
    return [*command, "--epochs", str(epochs)] if epochs is not None else command


def _epochs_of(run: Path) -> int:
    """Return how many epochs a training has in all its phases; 0 before it has begun."""
    try:
        settings = json.loads((run / SETTINGS_FILE).read_text(encoding="utf-8"))["settings"]
        return sum(
            phase.epochs or 0 for phase in from_mapping(TrainConfig, settings, SETTINGS_FILE).in_phases()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there yet, or other JSON
        return 0


def _curve(path: Path) -> tuple[dict[str, list[float | None]], list[float]]:
    """Return the columns of epochs.csv that are drawn, and the seconds of each epoch."""
    rows = _rows(path)
    curve = {name: [_number(row.get(name)) for row in rows] for name in _CURVE}
    return curve, [_number(row.get("seconds")) or 0.0 for row in rows]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):  # not there yet, or saved otherwise by a spreadsheet
        return []


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # nor NaN, for which JSON has no word


def _shown(path: Path) -> str:
    """Return a path as a command in the folder of the server would take it."""
    with suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path.resolve())
