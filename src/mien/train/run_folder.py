"""The run folder: names of its files, what it says about itself, and whether a run lies there already."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._version import __version__
from mien.data.dataset import Dataset, Split
from mien.errors import ConfigError, DataError
from mien.files import (
    LOCK_FILE,
    plain_name,
    read_arrays,
    remove_all_left_behind,
    shell_word,
    whole_file,
    write_arrays,
    write_table,
)
from mien.model.folder import BEST_FILE, METADATA_FILE, MODEL_FOLDER, SETTINGS_FILE
from mien.settings import to_mapping
from mien.train import checkpoint
from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig

EPOCHS_FILE, CURVES_FILE = "epochs.csv", "curves.png"
LAST_FILE, H5_FILE = "last.keras", "best.h5"
BATCH_FILE, BATCH_NAMES_FILE, SEEN_FILE = "batch.png", "batch.csv", "trained-on.npz"
MISTAKES_FILE, TEACHERS_FILE, TEACHERS_PARTS = "mistakes.csv", "teachers.npz", "teachers.parts"
OUT_OF_FOLD = "out-of-fold"  # stands for the split in what is said of a run with folds
FOLDS_FOLDER, ANSWERS_FILE = "folds", "out-of-fold.npz"
CHECKPOINT, REPORT_FOLDER, TENSORBOARD = "checkpoint", "report", "tensorboard"
_SOURCES, _BEFORE = "sources", "before"  # in SEEN_FILE

_EXPLAINED = f"""# A mien run

| file | what it is |
|---|---|
| `{SETTINGS_FILE}` | every setting as it was used, versions, what data (with its fingerprint), the command |
| `{EPOCHS_FILE}`, `{CURVES_FILE}` | every epoch's loss, accuracy and learning rate, as table and picture; they grow |
| `{BATCH_FILE}`, `{BATCH_NAMES_FILE}` | pictures as the network sees them, with their targets; their names |
| `{MISTAKES_FILE}` | what the newest epoch's network gets wrong on validation; with `--folds` out of fold |
| `{SEEN_FILE}` | fingerprints of the pictures that it was trained on, so that nobody scores it on them |
| `{TEACHERS_FILE}` | with `--teacher`: what the teachers said of each training picture; at first `{TEACHERS_PARTS}/` |
| `{BEST_FILE}` | the network of the best epoch on validation, for `keras.models.load_model` |
| `{LAST_FILE}` | the network of the last epoch |
| `{MODEL_FOLDER}/` | the model folder: what other mien commands and programs use, with its card |
| `{REPORT_FOLDER}/` | how good it is: `report.html` is made to be looked at |
| `{REPORT_FOLDER}-DATA/` | the same, by `mien evaluate` |
| `{CHECKPOINT}/` | what a training that was interrupted needs to go on; the same command does |
| `{FOLDS_FOLDER}/`, `{ANSWERS_FILE}` | with `--folds`: each fold's run, and the answers to what it had not seen |
| `{H5_FILE}` | with `--h5`: `{BEST_FILE}` in the older format |
| `{TENSORBOARD}/` | with `--tracker tensorboard`: logs, for `tensorboard --logdir` |
"""


def default_folder(
    data: Path, what: str, runs: Path = Path("runs"), settings: Mapping[str, Any] | None = None
) -> Path:
    """Return where a run goes unless the user says otherwise.

    what: the recipe's or the network's name. settings: what the user chose besides. Other settings have another folder,
    the same ones always the same, so that a command that is given again finds its run: one or two of them by name,
    more by a short hash.
    """
    chosen = {name: value for name, value in (settings or {}).items() if name not in _NOT_IN_NAMES}
    parts = [f"{name.replace('_', '-')}-{_said(value)}" for name, value in sorted(chosen.items())]
    told = "-".join(parts)
    if len(parts) > 2 or len(told) > 40 or not re.fullmatch(r"[\w.,+-]*", told):
        told = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
    return runs / f"{plain_name(data)}-{what}{'-' if told else ''}{told}"


# What does not change the network that comes out (beyond rounding).
_NOT_IN_NAMES = ("tracker", "h5", "devices")
_MAY_CHANGE = ("devices",)  # when a run goes on


def described(config: TrainConfig, dataset: Dataset, data: Path) -> dict[str, Any]:
    """Return what makes a run the same run: the resolved settings, and the data by content."""
    # Of soft labels: what a network learns to be common; the largest shares alone, which are counted, say less.
    shares = {
        name: dict(
            zip(dataset.classes, (split.amounts(len(dataset.classes)) / len(split)).tolist(), strict=True)
        )
        for name, split in dataset.splits.items()
        if split.shares is not None and len(split)
    }
    about = {
        "path": str(data),
        "name": dataset.name,
        "notes": list(dataset.notes),
        "classes": list(dataset.classes),
        "counts": {name: split.counts(dataset.classes) for name, split in dataset.splits.items()},
        **({"shares": shares} if shares else {}),
        "fingerprint": dataset.fingerprint,
    }
    return {"settings": to_mapping(config), "data": about}


def begin(out: Path, settings: Mapping[str, Any], explained: str = _EXPLAINED) -> None:
    """Write settings.json and the page that explains the folder; remove what a kill left half written in it."""
    for folder in (out, out / CHECKPOINT):  # the state of a large network has hundreds of megabytes
        remove_all_left_behind(folder, but=REPORT_FOLDER)
    with whole_file(out / SETTINGS_FILE) as temporary:
        temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")
    with whole_file(out / "README.md") as temporary:
        temporary.write_text(explained, encoding="utf-8")


def clear(out: Path) -> None:
    """Remove a run; ConfigError when `out` is something else, which is not ours to remove."""
    if not out.exists():
        return
    if not (out / SETTINGS_FILE).exists():
        if _inside(out):
            raise _not_a_run(out)
        return
    # A kill in between leaves a run still, and none to go on with: the state goes first, the settings last.
    for path in sorted(_inside(out), key=lambda path: (path.name == SETTINGS_FILE, path.name != CHECKPOINT)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def finished(
    out: Path, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Progress | None:
    """Return the progress of a finished run with these settings, None where there is none or it is unfinished.

    defaults: what settings were, by name, that a run of an earlier version does not name; unset: those of TrainConfig.
    Raises ConfigError when `out` holds something else, or at least an epoch of a run with other settings or data.
    """
    if not (out / SETTINGS_FILE).exists():
        if out.exists() and (not out.is_dir() or _inside(out)):
            raise _not_a_run(out)
        return None
    if not isinstance(stored := _read_json(out / SETTINGS_FILE), dict):
        raise ConfigError(
            f"{out / SETTINGS_FILE} is damaged, so that nobody can tell which run lies there; name another place with "
            "--to, or use --retrain to replace it"
        )
    file, metadata = out / CHECKPOINT / checkpoint.STATE_FILE, out / MODEL_FOLDER / METADATA_FILE
    # Without a whole epoch there is nothing to lose: its learning rate was too high, or it was stopped at once.
    if (differing := _differences(stored, settings, defaults or to_mapping(TrainConfig()))) and file.exists():
        further = (
            f" (with --from {shell_word(out)} it goes on from that network)" if metadata.exists() else ""
        )
        raise ConfigError(
            f"{out} holds a run with other settings ({'; '.join(differing)}); name another place with --to{further}, "
            "or use --retrain to replace it"
        )
    if not (file.exists() and metadata.exists()):
        return None
    progress, _, _ = checkpoint.load(file)
    # A model of fewer epochs is from a Ctrl-C; the training went on, and was killed before it exported its own.
    exported = _read_json(metadata)  # exported once more where it is damaged
    epochs = exported.get("training", {}).get("epochs") if isinstance(exported, dict) else None
    return progress if progress.finished and epochs == progress.epoch else None


def _read_json(path: Path) -> Any:
    """Return what a JSON file says; None where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None


def note_epochs(out: Path, history: list[dict[str, Any]]) -> None:
    """Write epochs.csv: one row an epoch."""
    names = list(history[0])
    write_table(out / EPOCHS_FILE, [names, *([row[name] for name in names] for row in history)])


def write_mistakes(
    out: Path, split: Split, classes: Sequence[str], answers: NDArray[np.floating[Any]], epoch: int
) -> None:
    """Write mistakes.csv: a row for each picture of a split that was answered wrongly, the surest first.

    answers: (n, classes) probabilities, not calibrated. epoch: after which they were given.
    """
    best = answers.argmax(axis=1)
    wrong = np.flatnonzero(best != split.labels)
    rows: list[Sequence[object]] = [("epoch", "name", "label", "answer", "probability")]
    for row in wrong[np.argsort(-answers[wrong, best[wrong]], kind="stable")].tolist():
        names = split.names[row], classes[int(split.labels[row])], classes[int(best[row])]
        rows.append((epoch, *names, f"{answers[row, best[row]]:.4f}"))
    write_table(out / MISTAKES_FILE, rows)


def write_batch_names(out: Path, names: Iterable[str]) -> None:
    """Write batch.csv: the names of the pictures in batch.png, row by row."""
    write_table(out / BATCH_NAMES_FILE, [("name",), *((name,) for name in names)])


def write_seen(
    out: Path,
    keys: Mapping[str, Collection[bytes]],
    sources: Collection[str] = (),
    before: Collection[bytes] = (),
) -> None:
    """Store the fingerprints of the pictures of each split, 16 bytes each (see `mien.data`).

    sources: content keys of the photographs out of which faces of a face set were cut that are learnt. before: what the
    networks had learnt that the training learns from.
    """
    arrays: dict[str, NDArray[Any]] = {
        name: np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)
        for name, values in {**keys, **({_BEFORE: sorted(before)} if before else {})}.items()
    }
    if sources:
        arrays[_SOURCES] = np.array(sorted(sources), np.str_)
    write_arrays(out / SEEN_FILE, arrays)


def seen(out: Path, split: str = "train") -> frozenset[bytes]:
    """Return the fingerprints of the pictures that the run's network was fitted on; none where nobody stored them.

    Raises DataError where the file is damaged: a score on what was learnt would look like one on what is new.
    """
    return frozenset(row.tobytes() for row in _seen_arrays(out).get(split, ()))


def _seen_arrays(out: Path) -> dict[str, NDArray[Any]]:
    path = out / SEEN_FILE
    stored = read_arrays(path)
    if stored is None and path.exists():
        raise DataError(
            f"{path} is damaged, so that nobody can say which pictures the network has learnt; copy it again, or "
            "remove it to have every picture taken for new"
        )
    return stored or {}


def learnt(*runs: Path) -> frozenset[bytes]:
    """Return the fingerprints of all that the runs' networks have learnt, in their training or before it."""
    return frozenset[bytes]().union(*(seen(run) | learnt_before(run) for run in runs))


def learnt_before(out: Path) -> frozenset[bytes]:
    """Return the fingerprints of what the networks had learnt that the run learnt from (`--from`, `--teacher`)."""
    return seen(out, _BEFORE)


def run_of(model: Path) -> Path | None:
    """Return the folder that says what a model learnt: a run or an ensemble, or the run in which its file lies."""
    folders = (model, *list(model.absolute().parents)[:1])
    return next((folder for folder in folders if (folder / SEEN_FILE).is_file()), None)


def pass_on_learnt(model: Path, folder: Path) -> None:
    """Have a model folder that leaves its run say what its network has learnt, where that is known."""
    if run := run_of(model):
        content = (run / SEEN_FILE).read_bytes()
        with whole_file(folder / SEEN_FILE) as temporary:
            temporary.write_bytes(content)


def seen_sources(*runs: Path) -> frozenset[str]:
    """Return the content keys of the photographs out of which the runs' faces were cut; none without a face set."""
    stored = map(_seen_arrays, runs)
    return frozenset[str]().union(*(one[_SOURCES].tolist() for one in stored if _SOURCES in one))


def _inside(folder: Path) -> list[Path]:
    """Return what lies in a folder, the lock of whoever works on it left out."""
    return [path for path in folder.iterdir() if path.name != LOCK_FILE]


def _not_a_run(out: Path) -> ConfigError:
    return ConfigError(f"{out} is there and is not a mien run; name another place with --to")


def _differences(
    stored: Mapping[str, Any], settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    old, new = stored.get("settings", {}), settings["settings"]
    found = [
        f"{name}: {_said(old.get(name, defaults.get(name)))} there, {_said(value)} asked"
        for name, value in new.items()
        if name not in _MAY_CHANGE and old.get(name, defaults.get(name)) != value
    ]
    was, now = stored.get("data", {}), settings["data"]
    if was.get("fingerprint") != now["fingerprint"]:
        same = was.get("path") == now["path"]
        found.append(
            "the data has changed" if same else f"data: {was.get('path')} there, {now['path']} asked"
        )
        version = stored.get("versions", {}).get("mien", __version__)
        if same and version != __version__:  # which may have set other pictures aside for validation
            found[-1] += f", or mien {version}, which made the run, read or divided it in another way"
    return found


def _said(value: Any) -> str:
    if value is None or value == []:
        return "unset"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
