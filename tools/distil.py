"""Go on training a network on what teachers say: soft targets of clean pictures, damage, faces of photographs.

    python tools/distil.py fer2013.csv --teachers out/wide.npz,out/residual.npz,mien --network small --from MODEL \
        --photographs faces.npz --to small.npz
    python tools/narrow.py small.npz fer2013.csv --to slim.npz
    python tools/distil.py fer2013.csv --teachers out/wide.npz,out/residual.npz,mien --network slim --from slim.npz \
        --photographs faces.npz --epochs 24 --to mien.npz

Teachers are weights of `tools/train_on_gpu.py` (NAME.npz or NAME-2.npz, NAME a network) or model folders; its
targets.npz, as --targets, stands for all of them. Each answers every picture and its mirror image once, undamaged, and
their mean is the target of each head beside the labels and the votes. So an epoch costs what one without teachers
costs, and the student learns to say of a damaged picture what the teachers say of the whole one. The faces of
photographs, grey and without labels, have the teachers alone. The state of every epoch is kept beside the result; the
same command goes on from it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import open_dataset
from mien.detect.base import align
from mien.faceset.table import FaceSet
from mien.files import whole_file
from mien.images.decode import read_image
from mien.labels import FER2013, FERPLUS
from mien.model.preprocess import Preprocess
from mien.train import backend
from mien.train.augment import augment
from mien.train.config import TrainConfig

HEADS = {"fer2013": FER2013, "votes": FERPLUS}
# All of the picture, see docs/models-changelog.md: 48 halves evenly to 3, and 44 does not.
HOW = Preprocess(size=48)
MARGIN = 0.9  # side of what the network takes over the longer side of the face box, the recipe's
CANVAS = 64  # pixels a side of the pictures here: the network's 48 and 8 around them
BATCH = 128
SMOOTHING = 0.1
MOMENTUM, DECAY, EMA, EMA_STEPS = 0.9, 3e-4, 0.998, 8
# Three pictures in ten are damaged, the others varied as in the recipe: with all of them damaged and a rate of .03
# the network lost three points of PublicTest after seven of 16 epochs, and was given up.
DAMAGED_SHARE = 0.3
DAMAGE = TrainConfig(
    rotation=12, wide_rotation=40, shift=0.0625, zoom=0.22, shear=0.08, contrast=0.4, brightness=30, gamma=0.7,
    side_light=0.7, low_contrast=0.08, sharpen=1.5, jpeg_quality=12, noise=8, blur=0, erasing=0.5,
)  # fmt: skip

VARIED = TrainConfig(rotation=12, shift=0.0625, zoom=0.2, contrast=0.3, brightness=30, blur=0.1, erasing=0.5)
# Sunglasses, masks, scarves and hands cover a whole band of a face; what teachers say of all of it stays the target, so
# the network learns how much is still known without it.
BAND_SHARE, BAND_HEIGHT, BAND_TOP = 0.15, (0.2, 0.45), 0.1

Floats = NDArray[np.float32]


def main() -> None:
    """Train, printing a line an epoch; writes the averaged weights by Keras path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--teachers", default="mien")
    parser.add_argument(
        "--targets",
        type=Path,
        help="where the teachers' answers are kept, or those to FER-2013's faces alone; made when missing",
    )
    parser.add_argument("--network", default="slim")
    parser.add_argument("--from", dest="start", default="mien", help="model folder, or weights by Keras path")
    parser.add_argument(
        "--photographs", type=Path, help=f"face set, or .npz with `x`, (n, {CANVAS}, {CANVAS}) uint8"
    )
    parser.add_argument(
        "--unlabelled",
        type=int,
        default=44,
        help=f"faces of photographs beside {BATCH} labelled ones (default: %(default)s)",
    )
    parser.add_argument("--learning-rate", type=float, default=0.03, help="its height (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--labels-share",
        type=float,
        default=0.5,
        help="of labels and votes in what is learnt; the rest is what teachers say (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    backend.prepare(TrainConfig(seed=options.seed, precision="auto"))
    dataset = open_dataset(options.data)
    faces = canvas(dataset.split("train"))
    pictures = np.concatenate([faces, unlabelled_faces(options.photographs)])
    targets = _kept_targets(options.targets, options.teachers.split(","), pictures, len(faces))
    student = student_of(options.network, options.start)
    _train(student, pictures, targets, dataset, options)


def canvas(split: Any) -> NDArray[np.uint8]:
    """Return the faces of a split of FER-2013 with their mirrored borders around them: (n, CANVAS, CANVAS)."""
    faces = np.stack([split.pictures.read(place).reshape(48, 48) for place in range(len(split))])
    around = (CANVAS - 48) // 2
    return np.pad(faces, ((0, 0), (around, around), (around, around)), mode="reflect")


def unlabelled_faces(source: Path | None) -> NDArray[np.uint8]:
    """Return the grey faces of a face set, cut as the network takes them with some room around: (n, CANVAS, CANVAS).

    source: a face set's folder, whose faces that are set aside are left out; an .npz that has them as `x`; or none.
    """
    if source is None:
        return np.zeros((0, CANVAS, CANVAS), np.uint8)
    if source.suffix == ".npz":
        stored: NDArray[np.uint8] = np.load(source)["x"]
        return stored
    faces, cut, margin = FaceSet.open(source), [], MARGIN * CANVAS / 48
    for face in faces.shown():
        picture = read_image(faces.crop_path(face))
        aligned = align(picture, face.in_crop(max(picture.shape[:2])), margin)
        how = cv2.INTER_AREA if len(aligned) > CANVAS else cv2.INTER_LINEAR
        cut.append(cv2.resize(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY), (CANVAS, CANVAS), interpolation=how))
    print(f"{source}: {len(cut):,} faces", flush=True)
    return np.stack(cut)


def load_weights(model: Any, file: Path) -> None:
    """Assign weights stored by Keras path; a number before it (`0000:`), as older files have, is passed over."""
    with np.load(file) as arrays:
        stored = {name.rpartition(":")[2]: arrays[name] for name in arrays.files}
    for variable in model.variables:
        if "seed" not in variable.path:  # of dropout's generator
            if variable.path not in stored:
                raise SystemExit(f"{file} has no {variable.path}; is it of a network {model.name!r}?")
            variable.assign(stored[variable.path].astype(np.float32))


def middle(pictures: NDArray[np.uint8]) -> Floats:
    """Cut what the network sees out of (n, CANVAS, CANVAS) pictures: (n, size, size, 1)."""
    cut = (CANVAS - HOW.size) // 2
    return pictures[:, cut : cut + HOW.size, cut : cut + HOW.size, None].astype(np.float32)


def built(name: str, file: Path | None = None) -> Any:
    """Return mien's network of that name with both heads, with the weights of a file that has them by Keras path."""
    from mien.train.networks import network
    from mien.train.networks.spec import NetworkRequest

    model = network(name).build(NetworkRequest(heads=HEADS, preprocess=HOW, l2=DECAY / 2))
    if file:
        load_weights(model, file)
    return model


def _kept_targets(
    file: Path | None, teachers: Sequence[str], pictures: NDArray[np.uint8], labelled: int
) -> list[Floats]:
    """Return what `_soft_targets` does, from the file where it holds as many answers as there are pictures.

    Where it holds those to the labelled pictures alone, teachers are asked about the others.
    """
    if file and file.exists():
        stored = [np.load(file)[name].astype(np.float32) for name in HEADS]
        if len(stored[0]) == labelled < len(pictures):
            others = _soft_targets(teachers, pictures[labelled:])
            return [np.concatenate(pair) for pair in zip(stored, others, strict=True)]
        if len(stored[0]) != len(pictures):
            raise SystemExit(f"{file} has answers to {len(stored[0]):,} pictures, not {len(pictures):,}")
        return stored
    answers = _soft_targets(teachers, pictures)
    if file:
        halves: dict[str, Any] = {
            name: one.astype(np.float16) for name, one in zip(HEADS, answers, strict=True)
        }
        with whole_file(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **halves)
    return answers


def _soft_targets(teachers: Sequence[str], pictures: NDArray[np.uint8]) -> list[Floats]:
    """Return the mean answer of the teachers to each picture and its mirror image, one (n, labels) array a head."""
    from mien.model.folder import model_path

    sums = [np.zeros((len(pictures), len(labels))) for labels in HEADS.values()]
    for teacher in teachers:
        model = built(Path(teacher).stem.split("-")[0], Path(teacher)) if teacher.endswith(".npz") else None
        folder = None if model else _most_exact(model_path(teacher))
        for start in range(0, len(pictures), 256):
            faces = middle(pictures[start : start + 256])
            for view in (faces, np.ascontiguousarray(faces[:, :, ::-1])):
                if model:
                    answer = model.predict_on_batch(view)
                else:  # a folder cuts and scales faces as its network takes them
                    said = folder.predict(list(view.astype(np.uint8)))  # type: ignore[union-attr]
                    answer = [said[name] for name in HEADS]
                for total, one in zip(sums, answer, strict=True):
                    total[start : start + 256] += np.asarray(one)
        print(f"{teacher}: answers to {len(pictures):,} pictures and their mirror images", flush=True)
    return [(total / (2 * len(teachers))).astype(np.float32) for total in sums]


def _most_exact(folder: Path) -> Any:
    from mien.model.classifier import Classifier
    from mien.model.folder import MODEL_FILE

    return Classifier(folder, "float32" if (folder / MODEL_FILE).is_file() else "auto")


def student_of(name: str, start: str) -> Any:
    """Return that network with the weights of a trained one, whatever size it was trained at."""
    from mien.train import transfer

    if start.endswith(".npz"):
        return built(name, Path(start))
    student, old = built(name), transfer.open_network(start)[0]
    known = {layer.name: layer for layer in old.layers}
    for layer in student.layers:
        if layer.weights:
            layer.set_weights(known[layer.name].get_weights())
    return student


def _train(model: Any, pictures: NDArray[np.uint8], soft: list[Floats], dataset: Any, options: Any) -> None:
    import keras

    split, valid = dataset.split("train"), dataset.split("validation")
    held, wanted = middle(canvas(valid)), _wanted(split, soft, options.labels_share)
    steps, labelled = len(split) // BATCH, len(split)
    rare = _by_rareness(soft[0][labelled:])
    optimizer = keras.optimizers.SGD(options.learning_rate, momentum=MOMENTUM, nesterov=True)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer, loss=["categorical_crossentropy"] * 2, loss_weights=[1.0, 1.0], jit_compile=backend.jit()
    )
    state = options.to.with_suffix(".state.npz")
    variables = [*model.weights, *optimizer.variables]
    mean, first, taken = [np.array(weight) for weight in model.get_weights()], 0, 0
    if state.exists():
        stored = np.load(state)
        first = int(stored["epoch"])
        taken = first * steps
        mean = [stored[f"mean{place}"] for place in range(len(mean))]
        for place, variable in enumerate(variables):
            variable.assign(stored[f"value{place}"])
    for epoch in range(first, options.epochs):
        began, losses = time.monotonic(), []
        rng = np.random.default_rng((options.seed, epoch))
        rows = rng.permutation(labelled)[: steps * BATCH].reshape(steps, BATCH)
        if len(pictures) > labelled:
            others = labelled + rng.choice(len(rare), (steps, options.unlabelled), p=rare)
            rows = np.concatenate([rows, others], axis=1)

        def batch(
            step: int, rows: NDArray[np.intp] = rows, seed: Sequence[int] = (options.seed, epoch)
        ) -> Any:
            chosen = rows[step]
            rng = np.random.default_rng((*seed, step))
            damaged = rng.random(len(chosen)) < DAMAGED_SHARE
            covered = with_bands(pictures[chosen], rng)[..., None]
            varied = np.empty((len(chosen), *HOW.shape), np.float32)
            for some, config in ((damaged, DAMAGE), (~damaged, VARIED)):
                varied[some] = augment(covered[some], rng, config, HOW.size)
            return varied, [head[chosen] for head in wanted]

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(batch, 0)
            for step in range(steps):
                inputs, targets = ahead.result()
                if step + 1 < steps:
                    ahead = pool.submit(batch, step + 1)
                at = (epoch + step / steps) / options.epochs
                warm = min(1.0, epoch + (step + 1) / steps)
                optimizer.learning_rate = options.learning_rate / 2 * (1 + np.cos(np.pi * at)) * warm
                logs = model.train_on_batch(inputs, targets, return_dict=True)
                losses.append(float(logs["loss"]))
                taken += 1
                if taken % EMA_STEPS == 0:
                    keep = min(EMA, (1 + taken) / (10 + taken)) ** EMA_STEPS
                    mean = [m + (1 - keep) * (w - m) for m, w in zip(mean, model.get_weights(), strict=True)]
        latest = model.get_weights()
        model.set_weights(mean)
        answers = model.predict(held, batch_size=256, verbose=0)[0]
        averaged: dict[str, Any] = {v.path: np.asarray(v) for v in model.weights if "seed" not in v.path}
        model.set_weights(latest)
        kept: dict[str, Any] = {f"mean{place}": value for place, value in enumerate(mean)}
        kept |= {f"value{place}": np.asarray(variable) for place, variable in enumerate(variables)}
        for file, arrays in ((options.to, averaged), (state, {"epoch": np.array(epoch + 1), **kept})):
            with whole_file(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **arrays)
        right = float(np.mean(answers.argmax(axis=1) == valid.labels))
        print(
            f"{epoch + 1}/{options.epochs} loss {np.mean(losses):.3f} validation {100 * right:.2f} % "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )


def with_bands(pictures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return copies of (n, CANVAS, CANVAS) pictures, some with a band of one level from side to side."""
    covered = pictures.copy()
    for row in np.flatnonzero(rng.random(len(covered)) < BAND_SHARE):
        height = rng.uniform(*BAND_HEIGHT)
        top = rng.uniform(BAND_TOP, 1 - height)
        covered[row, round(top * CANVAS) : round((top + height) * CANVAS)] = rng.integers(0, 256)
    return covered


def _by_rareness(answers: Floats) -> NDArray[np.float64]:
    """Return how likely each picture is drawn, (n,): by the root of how rare is what the teachers see in it."""
    rare = (answers / np.sqrt(answers.sum(axis=0, dtype=np.float64))).sum(axis=1)
    chances: NDArray[np.float64] = rare / rare.sum()
    return chances


def _wanted(split: Any, soft: list[Floats], labels_share: float) -> list[Floats]:
    """Mix labels and votes into the teachers' answers, where there are any."""
    labels = np.eye(len(FER2013), dtype=np.float32)[split.labels]
    labels = labels * (1 - SMOOTHING) + SMOOTHING / len(FER2013)
    total = split.votes.sum(axis=1, keepdims=True)
    votes = np.where(total > 0, split.votes / np.maximum(total, 1), soft[1][: len(split)])
    wanted = [head.copy() for head in soft]
    for head, known in zip(wanted, (labels, votes), strict=True):
        head[: len(split)] = labels_share * known + (1 - labels_share) * head[: len(split)]
    return [head.astype(np.float32) for head in wanted]


if __name__ == "__main__":
    main()
