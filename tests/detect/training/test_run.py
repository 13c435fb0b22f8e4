"""`mien train-detector` from end to end on drawn faces: a detector that opens, a resume that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import mien
from mien.cli.main import main
from mien.detect.mien import SHIPPED, MienDetector, read_detector
from mien.detect.training.config import DetectorConfig
from mien.detect.training.network import build
from mien.detect.training.photos import Photo, Photos, read_photos
from mien.detect.training.run import hard_negatives, train_detector
from mien.detect.training.sampler import Sampler
from mien.errors import ConfigError, ModelError
from mien.locks import locked
from mien.terminal import ProgressBar

from .detector_photos import write_set

SAMPLES = Path(mien.__file__).parent / "samples"
TINY = {
    "epochs": 2,
    "crops": 8,
    "batch_size": 4,
    "side": 64,
    "check_every": 1,
    "ema": 0.5,
    "learning_rate": 1e-3,
}


class Killed(ProgressBar):
    """Stops the training in its second epoch, as Ctrl-C would."""

    def step(self, what: str, *_: object) -> None:
        if what.startswith("epoch 2"):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the data, and the run of a training in one go."""
    place = tmp_path_factory.mktemp("detector")
    data = write_set(place / "set")
    train_detector(DetectorConfig(**TINY), data, place / "run")
    return data, place / "run"


@pytest.mark.slow
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    data, whole = trained
    config = DetectorConfig(**TINY)
    with pytest.raises(KeyboardInterrupt):
        train_detector(config, data, tmp_path / "run", show=Killed(quiet=True))
    assert (tmp_path / "run" / "checkpoint" / "state.npz").is_file()
    done = train_detector(config, data, tmp_path / "run")
    assert done.trained
    assert done.progress.epoch == 2
    assert (done.detector / "detector.onnx").read_bytes() == (
        whole / "detector" / "detector.onnx"
    ).read_bytes()
    assert not train_detector(config, data, tmp_path / "run").trained
    with pytest.raises(ConfigError, match="crops: 8 there, 9 asked"):
        train_detector(DetectorConfig(**{**TINY, "crops": 9}), data, tmp_path / "run")


def test_the_run_says_what_it_is_and_its_detector_opens(trained: tuple[Path, Path]) -> None:
    _, run = trained
    rows = (run / "epochs.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("epoch,phase,loss,ap,recall_20_40")
    assert len(rows) == 3
    metadata = read_detector(run / "detector").metadata
    assert metadata.training["epochs"] == 2
    assert metadata.training["bytes"] == (run / "detector" / "detector.onnx").stat().st_size <= 300_000
    assert "face detector" in (run / "detector" / "CARD.md").read_text(encoding="utf-8")
    # It has learnt nothing: everything may be a face.
    detector = MienDetector(run / "detector", threshold=0.001)
    assert detector.metadata["sha256"] == metadata.sha256


def test_a_training_that_starts_from_a_detector_begins_with_its_weights(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """At a rate of next to nothing it ends with them as well."""
    data, run = trained
    config = DetectorConfig(
        **{
            **TINY,
            "epochs": 1,
            "learning_rate": 1e-9,
            "init_from": str(run / "detector"),
            "weight_decay": 0.0,
        }
    )
    done = train_detector(config, data, tmp_path / "run")
    before, after = (_kernel(folder) for folder in (run / "detector", done.detector))
    np.testing.assert_allclose(after, before, atol=1e-3)
    fresh = build().get_layer("stem").kernel
    assert np.abs(before - np.asarray(fresh).transpose(3, 2, 0, 1)).max() > 0.05


def test_what_is_kept_lies_between_where_a_training_started_and_where_it_ended(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = trained
    settings = {**TINY, "check_every": 2, "init_from": str(run / "detector")}
    ends = {
        share: _kernel(
            train_detector(
                DetectorConfig(**settings, start_share=share), data, tmp_path / str(share)
            ).detector
        )
        for share in (0.0, 0.75)
    }
    start = _kernel(run / "detector")
    assert np.abs(ends[0.0] - start).max() > 1e-3
    np.testing.assert_allclose(ends[0.75], 0.75 * start + 0.25 * ends[0.0], atol=5e-4)  # of half precision
    with pytest.raises(ConfigError, match="start_share needs a detector to start from"):
        DetectorConfig(**TINY, start_share=0.5)


def test_a_run_is_replaced_only_when_the_new_one_can_start(tmp_path: Path) -> None:
    data, out = write_set(tmp_path / "set"), tmp_path / "run"
    (out / "detector").mkdir(parents=True)
    (out / "settings.json").write_text('{"settings": {"crops": 8}}', encoding="utf-8")
    (out / "detector" / "detector.onnx").write_bytes(b"hours of work")
    config = DetectorConfig(**TINY, init_from=str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"cannot read .*detector\.json"):
        train_detector(config, data, out, retrain=True)
    assert (out / "detector" / "detector.onnx").read_bytes() == b"hours of work"
    with (
        locked(out, "being trained"),
        pytest.raises(ConfigError, match="is being trained by another process"),
    ):
        train_detector(DetectorConfig(**TINY), data, out, retrain=True)


def test_photographs_with_other_landmarks_are_other_photographs(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    before = read_photos(data, "train").fingerprint()
    labels = data / "labels.jsonl"
    rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    face = next(row["faces"][0] for row in rows if row["split"] == "train" and row["faces"])
    face["landmarks"][0][0] += 1
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_photos(data, "train").fingerprint() != before


def _kernel(folder: Path) -> np.ndarray:
    stored = {one.name: one for one in onnx.load(folder / "detector.onnx").graph.initializer}
    return onnx.numpy_helper.to_array(stored["stem/kernel/half"]).astype(np.float32)


@pytest.mark.parametrize(
    "shape", [(0, 0, 3), (1, 1, 3), (9, 9), (10, 10_000, 3), (3000, 12), (480, 640, 3), (700, 33, 1)]
)
def test_odd_pictures_are_searched_without_an_error(
    trained: tuple[Path, Path], shape: tuple[int, ...]
) -> None:
    detector = MienDetector(trained[1] / "detector", threshold=0.01)
    for level in (0, 255):
        for face in detector.detect(np.full(shape, level, np.uint8)):
            x, y, width, height = face.box
            assert 0 <= x + width / 2 <= shape[1]
            assert 0 <= y + height / 2 <= shape[0]


def test_grey_and_colour_give_the_same_faces(trained: tuple[Path, Path]) -> None:
    data, run = trained
    picture = cv2.imread(str(data / "0.png"), cv2.IMREAD_GRAYSCALE)
    detector = MienDetector(run / "detector", threshold=0.005)
    assert detector.detect(picture) == detector.detect(np.repeat(picture[:, :, None], 3, 2))


def test_a_detector_that_was_changed_or_is_none_is_refused(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in (trained[1] / "detector").iterdir()}
    metadata = json.loads(files["detector.json"])
    wrong: dict[str, dict[str, bytes]] = {
        "was changed|one of both": {**files, "detector.onnx": files["detector.onnx"] + b"x"},
        "cannot read .*detector.onnx": {
            name: data for name, data in files.items() if name != "detector.onnx"
        },
        "cannot read .*detector.json": {
            name: data for name, data in files.items() if name != "detector.json"
        },
        "it is damaged": {**files, "detector.json": b"{"},
        "of format 9": {**files, "detector.json": json.dumps({**metadata, "format": 9}).encode()},
        "threshold of a face detector": {
            **files,
            "detector.json": json.dumps({**metadata, "threshold": 2.0}).encode(),
        },
    }
    for number, (message, contents) in enumerate(wrong.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=message):
            MienDetector(folder)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        MienDetector(trained[1] / "detector", threshold=1.5)


def test_the_command_reports_wrong_input_in_one_line(
    tmp_path: Path, trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = trained
    calls = {
        "DATA must be a folder": ["train-detector", str(tmp_path / "none")],
        "side must be a multiple of 32": ["train-detector", str(data), "--side", "100"],
        "labels.jsonl": ["train-detector", str(tmp_path), "--to", str(tmp_path / "run")],
        "no face detector and no file": ["evaluate-detector", str(data), "--detectors", "nobody"],
        "is not a report of mien evaluate-detector": ["evaluate-detector", str(data), "--to", str(run)],
    }
    for message, call in calls.items():
        assert main(call) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert message in error[0]


def test_several_detectors_are_measured_in_one_table(
    tmp_path: Path, trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = trained
    out = tmp_path / "report"
    detectors = f"{run / 'detector'},haar"
    assert main(["evaluate-detector", str(data), "--detectors", detectors, "--to", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "average precision, IoU 0.5" in shown
    assert "recall, 32-64 px (" in shown
    ours, haar = json.loads((out / "detectors.json").read_text(encoding="utf-8"))["detectors"]
    assert ours["photographs"] == haar["photographs"] == 4
    assert 0 <= ours["ap"] <= 1
    assert haar["landmarks"] is None
    assert ours["ms 320x320"] > 0
    assert (out / "2-haar-missed.png").is_file() or haar["recall 16-32 px"] == 1


def test_hard_negatives_are_looked_for_in_photographs_with_faces_too() -> None:
    """Two portraits side by side, one of them without a label: what is found there is the hard negative."""
    portrait = cv2.resize(cv2.imread(str(SAMPLES / "grace-hopper.jpg"))[:, :, ::-1], (256, 256))
    picture = np.ascontiguousarray(np.concatenate([portrait, portrait], axis=1))
    first, second = sorted(MienDetector(SHIPPED).detect(picture), key=lambda face: face.box[0])
    no_boxes = np.empty((0, 4), np.float32)
    for label, other in ((first, second), (second, first)):
        boxes, points = np.asarray([label.box], np.float32), np.asarray([label.landmarks], np.float32)
        rows = [
            Photo("two", "", "", "train", 512, 256, boxes, np.ones(1, np.float32), points, ignore)
            for ignore in (no_boxes, np.asarray([other.box], np.float32))
        ]
        photos = Photos(rows, np.tile(picture.ravel(), 2), np.array([0, picture.size]))
        found = hard_negatives(SHIPPED, Sampler(photos, DetectorConfig()))
        x, y, width, height = other.box
        np.testing.assert_allclose(found[0, 1:], [(x + width / 2) / 512, (y + height / 2) / 256], atol=0.03)
        assert found[0, 0] > 0.5
        assert found[1, 0] < 0.3  # neither a face nor a box to ignore counts
