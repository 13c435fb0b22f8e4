"""`Analyzer` and `mien.load`: the same picture through every door gives the same numbers."""

from __future__ import annotations

import io
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import mien
from mien.detect.base import Detection, align
from mien.errors import ConfigError, DataError, ImageError, ModelError
from mien.images import decode_image, from_pillow
from mien.model.classifier import Classifier
from mien.model.preprocess import Preprocess, to_model_inputs
from mien.model.views import SURE
from mien.predict.analyzer import Analyzer
from mien.predict.results import Face

from ..model.tiny_onnx import LABELS, METADATA, expected, write_folder


class Given:
    """A face detector that answers what it was given: boxes inside the picture."""

    name, searches, note, metadata = "given", True, "", {"name": "given"}

    def __init__(self, *faces: Detection) -> None:
        self.faces = faces

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        return tuple(face for face in self.faces if face.box[0] < image.shape[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny")


@pytest.fixture
def whole(folder: Path) -> Analyzer:
    return mien.load(folder, detector="whole")


def picture(seed: int, height: int = 40, width: int = 30, top: int = 256) -> np.ndarray:
    """Smoothly varying colours, not square, never black or white all over."""
    random = np.random.default_rng(seed).integers(0, top, (6, 5, 3), dtype=np.uint8)
    return cv2.resize(random, (width, height), interpolation=cv2.INTER_LINEAR)


def in_colour(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def numbers(faces: tuple[Face, ...]) -> list[list[float]]:
    return [[*face.probabilities.values(), *face.box] for face in faces]


def test_every_door_gives_the_numbers_of_the_network_by_itself(whole: Analyzer, tmp_path: Path) -> None:
    image = picture(1)
    path = tmp_path / "Gesicht ü 顔.png"
    path.write_bytes(png(image))
    (share,) = expected(to_model_inputs([image], METADATA.preprocess))
    wanted = [[*share, 0, 0, 30, 40]]
    for faces in (
        whole.analyze(image),
        whole.analyze_file(path),
        whole.analyze_file(str(path)),
        whole.analyze_bytes(png(image)),
        whole.analyze_pil(Image.open(path)),
        whole.analyze_pil(Image.fromarray(image)),
        *whole.analyze_batch([image]),
        whole.analyze_batch([picture(2), image, picture(3, 200, 90)])[1],
    ):
        np.testing.assert_allclose(numbers(faces), wanted, atol=1e-6)
    assert faces[0].emotion == LABELS[int(share.argmax())]
    assert faces[0].head == "light"


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "RGB", "transparent P", "turned"])
def test_a_pillow_image_is_the_same_picture_as_its_png(whole: Analyzer, mode: str) -> None:
    base, file = Image.fromarray(picture(4, top=200)), io.BytesIO()
    options: dict = {}
    if mode == "I;16":
        levels = np.linspace(0, 65535, 1200).reshape(40, 30).astype(np.uint16)
        image = Image.fromarray(levels)
    elif mode == "transparent P":
        image = base.convert("P")
        options = {"transparency": int(np.bincount(np.asarray(image).ravel()).argmax())}
    elif mode == "turned":
        image, exif = base, Image.Exif()
        exif[274] = 6
        options = {"exif": exif}
    else:
        image = base.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(picture(5)).convert("L"))
    image.save(file, "PNG", **options)
    pixels = from_pillow(Image.open(io.BytesIO(file.getvalue())))
    np.testing.assert_array_equal(in_colour(pixels), in_colour(decode_image(file.getvalue(), "it")))
    through_pillow = whole.analyze_pil(Image.open(io.BytesIO(file.getvalue())))
    assert numbers(through_pillow) == numbers(whole.analyze_bytes(file.getvalue()))
    assert through_pillow[0].box[2:] == ((40, 30) if mode == "turned" else (30, 40))


def test_what_is_no_pillow_image_is_refused(whole: Analyzer) -> None:
    with pytest.raises(ImageError, match="Pillow image is needed here, got ndarray"):
        whole.analyze_pil(picture(1))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="float32 values"):
        whole.analyze_pil(Image.new("F", (8, 8)))
    with pytest.raises(ImageError, match=r"-1 to -1 has no known scale"):
        whole.analyze_pil(Image.new("I", (8, 8), -1))
    half = io.BytesIO(png(picture(1, 400, 400))[:2000])
    with pytest.raises(ImageError, match="cannot be decoded"):
        whole.analyze_pil(Image.open(half))


def test_two_faces_are_levelled_and_cut_with_the_margin_of_the_model(tmp_path: Path) -> None:
    metadata = replace(METADATA, preprocess=Preprocess(size=16, colour="grey", margin=1.5))
    classifier = Classifier(write_folder(tmp_path / "wide", metadata))
    points = ((12.0, 14.0), (22.0, 14.0), (17.0, 20.0), (13.0, 26.0), (21.0, 26.0))
    large = Detection((5.0, 5.0, 24.0, 30.0), 0.9, points)
    small = Detection((60.0, -3.0, 16.0, 16.0))
    image = picture(6, 60, 80)
    first, second = Analyzer(classifier, Given(large, small)).analyze(image)
    inputs = to_model_inputs([align(image, face, 1.5) for face in (large, small)], metadata.preprocess)
    for face, found, shares in zip((first, second), (large, small), expected(inputs), strict=True):
        assert tuple(face.probabilities) == LABELS
        np.testing.assert_allclose(list(face.probabilities.values()), shares, atol=1e-6)
        assert (face.box, face.score, face.landmarks) == (found.box, found.score, found.landmarks)


def test_a_batch_keeps_faces_with_their_pictures(folder: Path) -> None:
    detector = Given(Detection((0.0, 0.0, 20.0, 20.0)), Detection((50.0, 0.0, 20.0, 20.0)))
    analyzer = Analyzer(Classifier(folder), detector)
    images = [picture(7, 30, 40), np.zeros((0, 0, 3), np.uint8), picture(8, 30, 90), picture(9)]
    batch = analyzer.analyze_batch(images)
    assert [len(faces) for faces in batch] == [1, 0, 2, 1]
    for image, faces in zip(images, batch, strict=True):
        np.testing.assert_allclose(numbers(faces), numbers(analyzer.analyze(image)), atol=1e-6)
    assert analyzer.analyze_batch([]) == ()


def test_no_face_is_an_empty_tuple(folder: Path) -> None:
    assert mien.load(folder, detector="haar").analyze(np.full((50, 50), 128, np.uint8)) == ()


def test_grey_with_and_without_a_channel_is_the_same(whole: Analyzer) -> None:
    grey = picture(10)[:, :, 0]
    assert whole.analyze(grey) == whole.analyze(grey[:, :, None])


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((8, 8), np.float32), "float32; levels from 0 to 1 become such by (255 * image)"),
        (np.zeros((8, 8, 4), np.uint8), "(8, 8, 4) of uint8; leave the fourth channel out"),
        (np.zeros((3, 8, 8), np.uint8), "put the channels last: image.transpose(1, 2, 0)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "use analyze_batch"),
        (np.zeros(8, np.uint8), "(8,) of uint8; bring it into that shape"),
        (np.zeros((8, 8, 2), np.uint8), "(8, 8, 2) of uint8; bring it into that shape"),
        ("photo.jpg", "got str; for files"),
    ],
)
def test_what_is_no_picture_is_one_line(whole: Analyzer, image: object, said: str) -> None:
    with pytest.raises(DataError) as caught:
        whole.analyze(image)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4)])
def test_one_picture_is_no_batch_of_its_rows(whole: Analyzer, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="use analyze for one picture"):
        whole.analyze_batch(np.zeros(shape, np.uint8))
    assert len(whole.analyze_batch(np.zeros((2, 8, 8), np.uint8))) == 2
    assert len(whole.analyze_batch(np.zeros((2, 8, 8, 3), np.uint8))) == 2


class _Tensor:
    """What libraries of networks have: a shape, and a way to become an array. ready: whether that works."""

    def __init__(self, values: np.ndarray, *, ready: bool = True) -> None:
        self._values, self.shape, self._ready = values, values.shape, ready

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        if not self._ready:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self._values


def test_a_tensor_of_another_library_is_an_array(whole: Analyzer) -> None:
    assert whole(_Tensor(picture(10))) == whole.analyze(picture(10))
    with pytest.raises(
        DataError, match=r"_Tensor is no array \(can't convert cuda.*; bring it to the CPU first"
    ):
        whole(_Tensor(picture(10), ready=False))
    with pytest.raises(DataError, match=r"of an open file give its content: file\.read\(\)"):
        whole(io.BytesIO(b""))


def test_threads_share_one_analyzer(whole: Analyzer) -> None:
    images = [picture(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(whole.analyze, images)) == [whole.analyze(image) for image in images]


def test_below_the_threshold_the_decision_is_uncertain_and_the_numbers_stay(tmp_path: Path) -> None:
    image = np.full((16, 16), 102, np.uint8)  # just above the level at which both labels are as likely
    given = Given(Detection((0, 0, 16, 16), 0.9))
    (head,) = METADATA.heads
    strict = write_folder(tmp_path / "strict", replace(METADATA, heads=(replace(head, threshold=0.9),)))
    (sure,) = Analyzer(Classifier(write_folder(tmp_path / "tiny")), given).analyze(image)
    (unsure,) = Analyzer(Classifier(strict), given).analyze(image)
    assert sure.emotion == unsure.emotion == "bright"
    assert sure.probability == unsure.probability == pytest.approx(0.52, abs=0.01)
    assert (sure.uncertain, unsure.uncertain) == (False, True)


def test_two_views_are_the_mean_of_the_face_and_its_mirror_image() -> None:
    single, both = (mien.load(detector="whole", tta=views) for views in ("single", "flip"))
    face = to_model_inputs([picture(3, 60, 60)], single.metadata.preprocess)
    views = [single.probabilities(view) for view in (face, np.ascontiguousarray(face[:, :, ::-1]))]
    assert np.abs(views[0] - views[1]).max() > 0.01  # else the next line would say nothing
    for analyzer in (both, pickle.loads(pickle.dumps(both))):
        np.testing.assert_allclose(analyzer.probabilities(face), (views[0] + views[1]) / 2, atol=1e-6)
    with pytest.raises(ConfigError, match="tta must be one of auto, single, adaptive, flip, got 'ten'"):
        mien.load(tta="ten")


def test_only_faces_of_which_the_network_is_unsure_are_looked_at_twice() -> None:
    single, both, unsure = (
        mien.load(detector="whole", tta=views) for views in ("single", "flip", "adaptive")
    )
    crops = [picture(seed, 60, 60) for seed in range(24)]
    faces = to_model_inputs(crops, single.metadata.preprocess)
    one, two = single.probabilities(faces), both.probabilities(faces)
    doubtful = one.max(axis=1) < SURE
    assert 0 < doubtful.sum() < len(faces)
    wanted = np.where(doubtful[:, None], two, one)
    np.testing.assert_allclose(unsure.probabilities(faces), wanted, atol=1e-6)
    # Whatever stands beside a face in a batch changes nothing.
    each = np.concatenate([unsure.probabilities(faces[place : place + 1]) for place in range(len(faces))])
    np.testing.assert_allclose(each, wanted, atol=1e-6)


def test_whether_a_network_is_asked_twice_hangs_on_its_training(tmp_path: Path) -> None:
    assert mien.load().tta == "adaptive"  # the network that ships
    for place, (settings, views) in enumerate(
        (
            ({"augment": True, "flip": True}, "adaptive"),
            ({"augment": True, "flip": False}, "single"),
            ({"augment": False, "flip": True}, "single"),
            ({}, "single"),
        )
    ):
        folder = write_folder(tmp_path / str(place), replace(METADATA, training={"settings": settings}))
        analyzer = mien.load(folder, detector="whole")
        assert analyzer.tta == analyzer.settings()["tta"] == views
        assert mien.load(folder, detector="whole", tta="flip").tta == "flip"


def test_load_takes_a_run_a_folder_and_a_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder = write_folder(run / "model")
    wanted = numbers(mien.load(folder, detector="whole").analyze(picture(1)))
    for model in (run, str(run), folder / "model.onnx"):
        assert numbers(mien.load(model, detector="whole", head="light").analyze(picture(1))) == wanted


def test_load_says_what_to_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model nowhere"):
        mien.load("nowhere")
    with pytest.raises(ModelError, match="there is no head 'votes'; this model has: light"):
        mien.load(folder, detector="whole", head="votes")
    with pytest.raises(ConfigError, match="there is no face detector 'eyes'"):
        mien.load(folder, detector="eyes")
    with pytest.raises(ConfigError, match=r"there is no face detector \['mien'\]"):
        mien.load(folder, detector=["mien"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a path must be a str or Path, got int"):
        mien.load(folder, detector_file=3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="cannot read the YuNet file"):
        mien.load(folder, detector_file=tmp_path / "missing.onnx")
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ModelError, match="its training has not finished; let it finish"):
        mien.load(tmp_path)
    (tmp_path / "best.keras").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"mien export .*best\.keras --to DIR"):
        mien.load(tmp_path / "best.keras")


def face(**changed: object) -> Face:
    values = {
        "emotion": "happy",
        "probability": 0.75,
        "probabilities": {"happy": 0.75, "sad": 0.25},
        "head": "expression",
        "box": (1.0, 2.0, 3.0, 4.0),
    }
    return Face(**{**values, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"probabilities": {"happy": 0.75, "sad": 0.3}}, "sum to one"),
        ({"probabilities": {"happy": 1.25, "sad": -0.25}}, "from 0 to 1"),
        ({"probabilities": {"happy": float("nan"), "sad": 0.25}}, "from 0 to 1"),
        ({"emotion": "sad"}, "emotion must be one of"),
        ({"emotion": "angry"}, "emotion must be one of"),
        ({"probability": 0.7}, "emotion must be one of"),
        ({"box": (1.0, 2.0, 0.0, 4.0)}, "face box"),
        ({"box": 3}, "face box"),
        ({"box": ("1", "2", "3", "4")}, "face box"),
        ({"score": 1.5}, "score"),
        ({"score": "0.5"}, "score"),
    ],
)
def test_a_face_that_contradicts_itself_is_refused(changed: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        face(**changed)


def test_a_face_cannot_be_changed_and_can_be_stored() -> None:
    given = {"happy": 0.75, "sad": 0.25}
    points = tuple((float(x), 1.0) for x in range(5))
    one = face(probabilities=given, score=0.5, landmarks=points, uncertain=True)
    given["happy"] = 0.0
    assert one.probabilities["happy"] == 0.75
    with pytest.raises(TypeError):
        one.probabilities["happy"] = 1.0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        one.emotion = "sad"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(one)) == one
    assert len({one, face()}) == 2
    assert json.loads(json.dumps(one.to_dict())) == {
        "emotion": "happy",
        "probability": 0.75,
        "uncertain": True,
        "reasons": [],
        "probabilities": {"happy": 0.75, "sad": 0.25},
        "head": "expression",
        "prior": "everyday",
        "box": [1, 2, 3, 4],
        "score": 0.5,
        "landmarks": [[0, 1], [1, 1], [2, 1], [3, 1], [4, 1]],
    }


def test_an_analyzer_says_in_a_line_what_it_is(folder: Path) -> None:
    said = repr(mien.load(folder, detector="whole", head=METADATA.heads[0].name))
    assert (
        said
        == f"Analyzer({METADATA.name}, detector=whole, head={METADATA.heads[0].name}: {', '.join(LABELS)})"
    )
    assert "prior=balanced" in repr(mien.load(prior="balanced"))


def test_the_public_names_are_there() -> None:
    assert {name: getattr(mien, name).__name__ for name in ("Analyzer", "Face", "load")} == {
        "Analyzer": "Analyzer",
        "Face": "Face",
        "load": "load",
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mien.nothing  # noqa: B018


def test_the_detector_of_a_networks_training_finds_its_faces(tmp_path: Path) -> None:
    cut = {"faces": "crop", "detector": "whole"}
    folder = write_folder(tmp_path / "cut", replace(METADATA, training={"settings": cut}))
    assert mien.load(folder).detector.name == "whole"
    assert mien.load(folder, detector="mien").detector.name == "mien"
    gone = write_folder(
        tmp_path / "gone",
        replace(METADATA, training={"settings": {**cut, "detector": "mien", "detector_file": "no/detector"}}),
    )
    with pytest.raises(ModelError, match=r"found with no/detector, which is not there.*--detector mien"):
        mien.load(gone)
    uncut = write_folder(tmp_path / "uncut", replace(METADATA, training={"settings": {"detector": "whole"}}))
    assert mien.load(uncut).detector.name == "mien"
