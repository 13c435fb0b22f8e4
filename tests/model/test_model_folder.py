"""The model folder says everything that one must know, and a changed byte is noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import mien
from mien.errors import ModelError
from mien.model.classifier import Classifier
from mien.model.folder import CARD_FILE, model_path, read_model_folder, shipped_models, write_metadata
from mien.model.metadata import Blend, Head, Metadata

from .tiny_onnx import METADATA, write_folder


def test_facts_survive_a_round_trip_exactly(tmp_path: Path) -> None:
    assert Metadata.from_dict(METADATA.to_dict()) == METADATA
    assert Metadata.from_json(METADATA.to_json(), tmp_path) == METADATA
    assert read_model_folder(write_folder(tmp_path / "model")).metadata == METADATA


def test_paths_of_the_machine_do_not_travel_and_their_run_knows_them(tmp_path: Path) -> None:
    settings = {
        "init_from": "runs/first",
        "teacher": ["/home/ann/runs/a", "b"],
        "detector_file": "/home/ann/det",
    }
    data = {"path": "/home/ann/lab:/home/ann/web", "name": "lab+web", "classes": ["/", "sad"]}
    command = "mien train '/home/ann/my faces' --to=/home/ann/run --teacher /home/ann/runs/a,b"
    training = {"settings": settings, "data": data, "command": command}
    (tmp_path / "run").mkdir()
    write_folder(tmp_path / "run" / "model", replace(METADATA, training=training))
    for file in (tmp_path / "run" / "model").iterdir():
        assert b"/home/ann" not in file.read_bytes()
    told = read_model_folder(tmp_path / "run" / "model").metadata.training
    assert told == {
        "settings": {"init_from": "runs/first", "teacher": ["a", "b"], "detector_file": "det"},
        "data": {"path": "lab:web", "name": "lab+web", "classes": ["/", "sad"]},
        "command": "mien train 'my faces' --to=run --teacher a,b",
    }
    (tmp_path / "run" / "settings.json").write_text(json.dumps(training))
    known = read_model_folder(tmp_path / "run" / "model").metadata.training
    assert known == {**told, "settings": settings, "data": data}
    other = {**training, "settings": {**settings, "epochs": 3}, "data": {**data, "name": "other"}}
    (tmp_path / "run" / "settings.json").write_text(json.dumps(other))  # of another training
    assert read_model_folder(tmp_path / "run" / "model").metadata.training == told


def test_numbers_of_numpy_and_nan_become_json() -> None:
    metadata = Metadata(
        name="x", preprocess=METADATA.preprocess, heads=METADATA.heads,
        scores=({"accuracy": np.float32(0.5), "ece": float("nan"), "confusion": np.eye(2, dtype=int)},),
    )  # fmt: skip
    assert json.loads(metadata.to_json())["scores"] == [
        {"accuracy": 0.5, "ece": None, "confusion": [[1, 0], [0, 1]]}
    ]


def test_uncalibrated_facts_keep_the_labels_only() -> None:
    metadata = Metadata(
        name="x", preprocess=METADATA.preprocess,
        heads=(Head(name="a", labels=("p", "q"), temperature=2.0, smoothing=0.1, threshold=0.4),),
    )  # fmt: skip
    assert metadata.uncalibrated().heads == (Head(name="a", labels=("p", "q")),)
    scores = ({"head": "a", "accuracy": 0.5, "ece": 0.1}, {"head": "mixed", "accuracy": 0.6})
    assert replace(metadata, scores=scores).uncalibrated().scores == ({"head": "a", "accuracy": 0.5},)


def _changed(**changes: Any) -> dict[str, Any]:
    return {**METADATA.to_dict(), **changes}


def _head(**changes: Any) -> dict[str, Any]:
    return _changed(heads=[{**METADATA.heads[0].to_dict(), **changes}])


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in METADATA.to_dict().items() if key != name}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (_without("format"), "no format number"),
        (_changed(format=2), "format 2, this version of mien reads up to 1; update mien"),
        (_without("heads"), "heads is missing"),
        (_changed(heads=[{"name": "light"}]), "head 'light': labels is missing"),
        (_changed(heads=[{"name": "light", "labels": "ab"}]), "labels must be a list of names, got 'ab'"),
        (_changed(heads=[{"name": "light", "labels": ["a"]}]), "it needs two or more, each once"),
        (_changed(heads=[{"name": "light", "labels": ["a", "a"]}]), "it needs two or more, each once"),
        (_changed(heads=[]), "one or more heads of different names, got"),
        (_changed(heads=METADATA.to_dict()["heads"] * 2), "got ['light', 'light']"),
        (_changed(heads=["light"]), "must be an object with fields, got 'light'"),
        (_head(temperature=0), "temperature must be above 0, got 0"),
        (_head(temperature="1"), "temperature must be a number, got '1'"),
        (_head(smoothing=1), "smoothing must be from 0 to below 1, got 1"),
        (_head(threshold=2), "threshold must be from 0 to 1, got 2"),
        (_changed(colour="blue"), "unknown field colour"),
        (_changed(preprocess={"size": 4}), "from 8 to 1024 pixels, got 4"),
        (_changed(preprocess={"sise": 48}), "unknown settings sise"),
    ],
)  # fmt: skip
def test_facts_that_cannot_be_used_are_refused_in_one_line(stored: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        Metadata.from_dict(stored)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_changed_byte_of_the_network_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"is not the file that model\.json describes"):
        read_model_folder(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"not a model folder: {name} is missing"):
        read_model_folder(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_damaged_model_json_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json"):
        read_model_folder(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"there is no model folder .*; make one with: .* --to '.*/my model'$"
    ):
        read_model_folder(tmp_path / "my model")


def test_the_default_head_is_the_first_and_others_go_by_name() -> None:
    heads = (Head(name="a", labels=("p", "q")), Head(name="b", labels=("r", "s")))
    metadata = Metadata(name="x", preprocess=METADATA.preprocess, heads=heads)
    assert (metadata.head(), metadata.head("b")) == heads
    with pytest.raises(ModelError, match="no head 'c'; this model has: a, b"):
        metadata.head("c")


def test_a_shipped_name_is_no_folder_that_happens_to_lie_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mien").mkdir()  # a clone, say
    monkeypatch.chdir(tmp_path)
    assert model_path("mien") == shipped_models()["mien"]
    assert model_path("./mien") == Path("mien")


@pytest.mark.parametrize("name", ["mien", "mien-large"])
def test_what_ships_is_small_and_answers_as_its_card_says(name: str) -> None:
    folder = read_model_folder(shipped_models()[name])
    assert folder.metadata.name == name and folder.int8 is not None
    assert folder.int8.stat().st_size < 8 * 2**20
    assert (folder.onnx is None) == (name == "mien-large")
    card, scores = (folder.path / CARD_FILE).read_text(), folder.metadata.scores
    assert f"# {name}\n" in card and f"{100 * scores[0]['accuracy']:.1f}" in card
    assert not Path(folder.metadata.training["data"]["path"]).is_absolute()
    smile = mien.load(name)(Path(mien.__file__).parent / "samples" / "eileen-collins.jpg")
    assert [face.emotion for face in smile] == ["happy"]


def test_a_model_goes_by_path_or_is_refused_with_the_shipped_names(tmp_path: Path) -> None:
    assert model_path(str(tmp_path)) == tmp_path
    with pytest.raises(ModelError, match="there is no model no-such-model; shipped with mien: "):
        model_path("no-such-model")


def _blended(**changes: Any) -> Metadata:
    heads = (
        Head(name="label", labels=("angry", "happy")),
        Head(name="votes", labels=("happy", "contempt", "angry")),
    )
    values = {"name": "both", "labels": ("angry", "happy"), "shares": {"label": 0.25, "votes": 0.75}}
    return Metadata(
        name="x", preprocess=METADATA.preprocess, heads=heads, blend=Blend(**{**values, **changes})
    )


def test_a_blend_mixes_by_share_and_is_the_default(tmp_path: Path) -> None:
    metadata = _blended(temperature=2.0)
    assert Metadata.from_json(metadata.to_json(), tmp_path) == metadata
    assert (metadata.head().name, metadata.head("votes").labels[0]) == ("both", "happy")
    assert metadata.uncalibrated().blend is None
    assert metadata.blend is not None
    label, votes = np.array([[0.2, 0.8], [0.0, 1.0]]), np.array([[0.1, 0.5, 0.4], [0.0, 1.0, 0.0]])
    mixed = metadata.blend.of({"label": label, "votes": votes}, metadata.heads)
    mean = np.array([0.25 * 0.2 + 0.75 * 0.4 / 0.5, 0.25 * 0.8 + 0.75 * 0.1 / 0.5]) ** 0.5
    np.testing.assert_allclose(mixed[0], mean / mean.sum(), rtol=1e-6)
    even = np.array([0.75 * 0.5, 0.25 + 0.75 * 0.5]) ** 0.5  # votes are sure of a label that is left out
    np.testing.assert_allclose(mixed[1], even / even.sum(), rtol=1e-6)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)


def test_a_blend_takes_a_part_of_the_prior_out(tmp_path: Path) -> None:
    metadata = _blended(temperature=2.0, prior={"happy": 0.9, "angry": 0.1}, adjustment=0.5)
    assert Metadata.from_json(metadata.to_json(), tmp_path) == metadata
    assert metadata.blend is not None
    label, votes = np.array([[0.2, 0.8]]), np.array([[0.1, 0.5, 0.4]])
    mean = np.array([0.25 * 0.2 + 0.75 * 0.4 / 0.5, 0.25 * 0.8 + 0.75 * 0.1 / 0.5])
    weighed = (mean / np.array([0.1, 0.9]) ** 0.5) ** 0.5
    mixed = metadata.blend.of({"label": label, "votes": votes}, metadata.heads)
    np.testing.assert_allclose(mixed[0], weighed / weighed.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": {"label": 0.5, "votes": 0.6}}, "numbers that sum to one"),
        ({"shares": {"label": 1.0}}, "two heads or more"),
        ({"shares": {"label": 0.5, "smile": 0.5}}, "'smile', which does not know all"),
        ({"labels": ("happy", "contempt")}, "'label', which does not know all"),
        ({"adjustment": 1.5}, "adjustment must be from 0 to 1, got 1.5"),
        ({"adjustment": 0.5}, "prior must give each of its labels a share above 0"),
        ({"adjustment": 0.5, "prior": {"angry": 1.0, "happy": 0.0}}, "prior must give each of its labels"),
        ({"adjustment": 0.5, "prior": {"angry": "half", "happy": 0.5}}, "prior must give each of its labels"),
    ],
)
def test_a_blend_that_cannot_be_mixed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _blended(**changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('"scores": 5', "scores of the model must be a list, got int"),
        ('"scores": ' + "[" * 100_000 + "]" * 100_000, "the metadata are not JSON"),
        ('"scores": [' + "9" * 5_000 + "]", "the metadata are not JSON"),
        ('"network": []', "network of the model must be an object, got list"),
        ('"name": 3', "name of the model must be text, got int"),
    ],
    ids=["number", "deep", "digits", "list", "name"],
)
def test_metadata_of_another_kind_are_one_line(tmp_path: Path, change: str, words: str) -> None:
    folder = write_folder(tmp_path / "tiny")
    file = folder / "model.json"
    text = file.read_text(encoding="utf-8").rstrip()
    file.write_text(f"{text[:-1]}, {change}}}", encoding="utf-8")  # the last of two with one name counts
    with pytest.raises(ModelError, match=words) as caught:
        read_model_folder(folder)
    assert "\n" not in str(caught.value)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    """No hash covers them: whoever changes them changes the answers, and the check of the folder says nothing."""
    folder = write_folder(tmp_path / "tiny")
    network = onnx.load(folder / "model.onnx")
    onnx.save(
        network, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert (folder / "weights.bin").stat().st_size > 0
    write_metadata(folder, METADATA)
    with pytest.raises(ModelError, match="keeps weights in other files"):
        Classifier(folder)
