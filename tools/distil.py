"""Train `face-mobilenet` or its large form on labels, votes and what teachers say, in PyTorch.

    python tools/distil.py fer2013.csv --network face-mobilenet-large --from faces.npz \
        --targets docs/reports/mien/soft-targets.npz --photographs faces --epochs 12 --to large.npz
    python tools/distil.py fer2013.csv --from faces.npz --targets docs/reports/mien/soft-targets.npz --teachers large \
        --photographs faces --epochs 24 --to small.npz

--from: weights by Keras path, of `tools/face_weights.py` or of this tool. --teachers: model folders
(`tools/finish_network.py` makes them); each answers every picture and its mirror image once, undamaged. --targets: what
others have said of FER-2013's Training faces. The mean of both is the target of each head beside the labels and the
votes. So the network learns to say of a damaged picture what its teachers say of the whole one. The faces of
photographs (a face set, `mien faces PHOTOS --to faces`), grey and without labels, have the teachers alone.

PyTorch, because on a processor with bfloat16 it trains this network in a third of TensorFlow's time. `pip install
torch`. The state of every epoch is kept beside the result; the same command goes on from it. What comes out is an .npz
by Keras path, for `tools/finish_network.py`.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from mien.data import open_dataset
from mien.files import whole_file
from mien.labels import FER2013
from mien.model.classifier import Classifier
from mien.model.metadata import model_path
from mien.train.augment import augment, centre
from mien.train.config import TrainConfig
from mien.train.networks.face_mobilenet import DROPOUT, EPSILON, LARGE, SMALL, STEM
from training_faces import HEADS, Picture, fer2013_faces, photographed_faces


@dataclass(frozen=True)
class Form:
    """A network and how it looks at a face: scaled to `resize` pixels, of which the middle `size` are used."""

    stages: tuple[tuple[int, int], ...]
    size: int
    resize: int
    border: int  # pixels kept around the face, so that shifts and turns bring in what is there

    @property
    def canvas(self) -> int:
        return self.resize + 2 * self.border


FORMS = {
    "face-mobilenet": Form(SMALL, 64, 70, 12),
    "face-mobilenet-large": Form(LARGE, 96, 100, 18),
}


@dataclass(frozen=True)
class Data:
    """pictures: (n, canvas, canvas), the first `labelled` of which are of FER-2013. wanted: (n, labels) a head."""

    pictures: Picture
    wanted: list[torch.Tensor]
    labelled: int
    held: Any  # the split to validate on


BATCH, UNLABELLED = 128, 24
SMOOTHING = 0.1
DECAY, EMA, EMA_STEPS, WARM_STEPS, HEADS_RATE = 0.02, 0.998, 4, 200, 3.0
# Three pictures in ten are damaged, the others only varied: with all damaged an earlier network lost three points.
DAMAGED_SHARE = 0.3
DAMAGE = TrainConfig(
    rotation=12, wide_rotation=40, shift=0.0625, zoom=0.22, shear=0.08, contrast=0.4, brightness=30, gamma=0.7,
    side_light=0.7, low_contrast=0.08, sharpen=1.5, jpeg_quality=12, noise=8, blur=0, erasing=0.5,
)  # fmt: skip
VARIED = TrainConfig(rotation=12, shift=0.0625, zoom=0.2, contrast=0.3, brightness=30, blur=0.1, erasing=0.5)

Floats = NDArray[np.float32]


def main() -> None:
    """Train, printing a line an epoch; writes the averaged weights by Keras path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--network", choices=FORMS, default="face-mobilenet")
    parser.add_argument("--from", dest="start", type=Path, required=True)
    parser.add_argument("--teachers", default="", help="model folders, with commas")
    parser.add_argument("--targets", type=Path, help="answers to the Training faces: arrays fer2013, votes")
    parser.add_argument("--photographs", type=Path, help="face set")
    parser.add_argument("--labels-share", type=float, default=0.4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)  # one thread varies the next batch, PyTorch has the others
    torch.manual_seed(options.seed)
    form, dataset = FORMS[options.network], open_dataset(options.data)
    train, held = dataset.split("train"), dataset.split("validation")
    faces = fer2013_faces(train)
    photographs = photographed_faces(options.photographs, form.canvas, form.resize)
    teachers = [name for name in options.teachers.split(",") if name]
    if len(photographs) and not teachers:
        raise SystemExit("the faces of photographs have no labels; name --teachers who answer for them")
    crops = [*faces, *centre(photographs, form.resize)]
    soft = _soft(teachers, crops, options.targets, len(faces))
    pictures = np.stack([*(_canvas(face, form) for face in faces), *photographs])
    network = Network(form)
    network.take(options.start)
    data = Data(pictures, _wanted(train, soft, options.labels_share), len(faces), held)
    _train(network, form, data, options)


# ---- pictures and targets


def _canvas(face: Picture, form: Form) -> Picture:
    """Scale a face as `Preprocess` does and mirror its border around it."""
    scaled = cv2.resize(face, (form.resize, form.resize), interpolation=cv2.INTER_LINEAR)
    return np.pad(scaled, form.border, mode="reflect")


def _soft(teachers: Sequence[str], crops: list[Picture], targets: Path | None, labelled: int) -> list[Floats]:
    """Return the mean of what teachers and targets say, one (n, labels) array a head; photographs: teachers alone."""
    said = [np.zeros((len(crops), len(labels)), np.float32) for labels in HEADS.values()]
    for teacher in teachers:
        model = Classifier(model_path(teacher), "float32")
        for start in range(0, len(crops), 512):
            for view in (crops[start : start + 512], [one[:, ::-1] for one in crops[start : start + 512]]):
                answers = model.predict([np.ascontiguousarray(one) for one in view])
                for total, name in zip(said, HEADS, strict=True):
                    total[start : start + 512] += answers[name] / (2 * len(teachers))
        print(f"{teacher}: answers to {len(crops):,} pictures and their mirror images", flush=True)
    if targets:
        with np.load(targets) as stored:
            for total, name in zip(said, HEADS, strict=True):
                if len(stored[name]) < labelled:  # those of photographs may follow; teachers answer for them
                    raise SystemExit(
                        f"{targets} has answers to {len(stored[name]):,} pictures, not {labelled:,}"
                    )
                share = 0.5 if teachers else 1.0
                total[:labelled] = share * stored[name][:labelled] + (1 - share) * total[:labelled]
    return said


def _wanted(split: Any, soft: list[Floats], labels_share: float) -> list[torch.Tensor]:
    """Mix labels and votes into what teachers say."""
    labels = np.eye(len(FER2013), dtype=np.float32)[split.labels]
    labels = labels * (1 - SMOOTHING) + SMOOTHING / len(FER2013)
    total = split.votes.sum(axis=1, keepdims=True)
    votes = np.where(total > 0, split.votes / np.maximum(total, 1), soft[1][: len(split)])
    for head, known in zip(soft, (labels, votes), strict=True):
        head[: len(split)] = labels_share * known + (1 - labels_share) * head[: len(split)]
    return [torch.from_numpy(head.astype(np.float32)) for head in soft]


# ---- the network, as Keras has it


class _Convolution(nn.Module):  # type: ignore[misc]  # PyTorch is not installed where types are checked
    """A convolution padded as TensorFlow's 'same': where the stride is 2, nothing is put before an even side."""

    def __init__(self, inputs: int, outputs: int, *, side: int, stride: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs // groups, side, side))
        self.side, self.stride, self.groups = side, stride, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = 1 if self.stride == 2 and x.shape[-1] % 2 == 0 else 0
        if self.stride == 1 or self.groups == 1:
            x = functional.pad(x, (0, 1, 0, 1)) if first else x
            around = 0 if first else self.side // 2
            return functional.conv2d(x, self.weight, None, self.stride, around, 1, self.groups)
        # The gradient of a depthwise convolution of stride 2 takes ten times that of stride 1 (PyTorch 2.13, CPU).
        x = functional.conv2d(x, self.weight, None, 1, 1, 1, self.groups)
        return x[:, :, first::2, first::2].contiguous(memory_format=torch.channels_last)


class Network(nn.Module):  # type: ignore[misc]
    """The Keras network of the same name; layers by the names that they have there."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self._add("conv1", 1, STEM, side=3, stride=2)
        filters = STEM
        for number, (wider, stride) in enumerate(form.stages, start=1):
            self._add(f"conv_dw_{number}", filters, filters, side=3, stride=stride, groups=filters)
            self._add(f"conv_pw_{number}", filters, wider)
            filters = wider
        self.dropout = nn.Dropout(DROPOUT)
        self.heads = nn.ModuleDict({name: nn.Linear(filters, len(labels)) for name, labels in HEADS.items()})
        self.folded = False  # whether the weights have scales and biases instead of batch normalisation

    def _add(
        self, name: str, inputs: int, outputs: int, *, side: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        self.layers[name] = _Convolution(inputs, outputs, side=side, stride=stride, groups=groups)
        self.layers[f"{name}_bn"] = nn.BatchNorm2d(outputs, EPSILON, 0.05)

    def forward(self, levels: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of both heads. levels: (n, 1, size, size) in [0, 255]."""
        *_, (_, _, x) = self.outputs(levels)
        features = self.dropout(x.float().mean((2, 3)))
        return [head(features) for head in self.heads.values()]

    def outputs(self, levels: torch.Tensor) -> Iterator[tuple[torch.Tensor, Any, torch.Tensor]]:
        """Yield of each layer what goes into its batch normalisation, that, and what comes out of the layer."""
        deviation, mean = torch.var_mean(levels, (1, 2, 3), unbiased=False, keepdim=True)
        x = ((levels - mean) * torch.rsqrt(deviation + 25)).contiguous(memory_format=torch.channels_last)
        for name, layer in self.layers.items():
            if isinstance(layer, nn.BatchNorm2d):
                continue
            before = layer(x)
            norm = self.layers[f"{name}_bn"]
            x = functional.relu6(norm(before))
            yield before, norm, x

    def measure(self, levels: torch.Tensor) -> None:
        """Give folded normalisations the mean and deviation of these pictures; what they say stays the same."""
        self.eval()
        with torch.no_grad():
            for before, norm, _ in self.outputs(levels):
                mean, variance = before.mean((0, 2, 3)), before.var((0, 2, 3), unbiased=False)
                norm.weight.copy_((variance + EPSILON).sqrt())
                norm.bias.add_(mean)
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
        self.folded = False

    def named(self) -> Iterator[tuple[str, torch.Tensor, tuple[int, ...]]]:
        """Yield Keras path, tensor, and how its axes lie in Keras."""
        for name, layer in self.layers.items():
            if isinstance(layer, nn.BatchNorm2d):
                yield f"{name}/gamma", layer.weight, (0,)
                yield f"{name}/beta", layer.bias, (0,)
                yield f"{name}/moving_mean", layer.running_mean, (0,)
                yield f"{name}/moving_variance", layer.running_var, (0,)
            else:
                yield f"{name}/kernel", layer.weight, (2, 3, 0, 1) if layer.groups > 1 else (2, 3, 1, 0)
        for name, head in self.heads.items():
            yield f"{name}/kernel", head.weight, (1, 0)
            yield f"{name}/bias", head.bias, (0,)

    def arrays(self) -> dict[str, Floats]:
        return {
            path: np.ascontiguousarray(tensor.detach().numpy().transpose(order))
            for path, tensor, order in self.named()
        }

    def take(self, file: Path) -> None:
        """Take weights by Keras path: all of them, or kernels and biases of the trunk, and the rest is neutral."""
        with np.load(file) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        self.folded = "conv1_bn/moving_mean" not in stored
        for path, parameter, order in self.named():
            tensor = parameter.detach()
            if path in stored:
                tensor.copy_(torch.from_numpy(stored[path].transpose(np.argsort(order)).copy()))
            elif not self.folded or (
                path.endswith(("_bn/beta", "/kernel")) and path.partition("/")[0] not in HEADS
            ):
                raise SystemExit(f"{file} has no {path}")
            elif path.endswith("moving_variance"):
                tensor.fill_(1 - EPSILON)


# ---- training


def _train(network: Network, form: Form, data: Data, options: Any) -> None:
    """Train, and write a file an epoch."""
    pictures, wanted = data.pictures, data.wanted
    rng = np.random.default_rng(options.seed)
    network.to(memory_format=torch.channels_last)
    if network.folded:
        some = augment(pictures[rng.integers(0, len(pictures), 512)][..., None], rng, VARIED, form.size)
        network.measure(_tensor(some))
    mean = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(_groups(network), lr=options.rate)
    state, first = options.to.with_suffix(".state.pt"), 0
    if state.exists():
        stored = torch.load(state, weights_only=True)
        for part, name in ((network, "network"), (mean, "mean"), (optimizer, "optimizer")):
            part.load_state_dict(stored[name])
        first = stored["epoch"]
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(mean.state_dict().values(), network.state_dict().values(), strict=True)
        if ours.dtype.is_floating_point
    ]
    averaged, latest = ([pair[place] for pair in pairs] for place in (0, 1))
    validation = np.stack([_canvas(face, form) for face in fer2013_faces(data.held)])
    steps = data.labelled // BATCH
    for epoch in range(first, options.epochs):
        began, losses = time.monotonic(), 0.0
        network.train()
        for step, (inputs, rows) in enumerate(_batches(data, form, (options.seed, epoch))):
            done = epoch * steps + step
            falling = (1 + math.cos(math.pi * done / (steps * options.epochs))) / 2
            for group in optimizer.param_groups:
                group["lr"] = options.rate * group["times"] * falling * min(1.0, (done + 1) / WARM_STEPS)
            with torch.autocast("cpu", torch.bfloat16):
                answers = network(inputs)
            loss = torch.stack(
                [
                    -(head[rows] * functional.log_softmax(one.float(), 1)).sum(1).mean()
                    for head, one in zip(wanted, answers, strict=True)
                ]
            ).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item()
            if (done + 1) % EMA_STEPS == 0:
                keep = min(EMA, (2 + done) / (11 + done)) ** EMA_STEPS
                torch._foreach_lerp_(averaged, latest, 1 - keep)
        right = float(
            (_answers(mean, validation, form).argmax(1) == torch.from_numpy(data.held.labels)).float().mean()
        )
        with whole_file(options.to) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **mean.arrays())  # type: ignore[arg-type]
        kept = {
            "network": network.state_dict(),
            "mean": mean.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        with whole_file(state) as temporary:
            torch.save({**kept, "epoch": epoch + 1}, temporary)
        print(
            f"{epoch + 1}/{options.epochs} loss {losses / steps:.3f} validation {100 * right:.2f} % "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )


def _groups(network: Network) -> list[dict[str, Any]]:
    """Kernels decay, the rest does not; the heads are new, so they learn faster."""
    trunk = [tensor for tensor in network.layers.parameters() if tensor.ndim > 1]
    heads = [head.weight for head in network.heads.values()]
    rest = [tensor for tensor in network.parameters() if tensor.ndim == 1]
    return [
        {"params": params, "weight_decay": decay, "times": times}
        for params, decay, times in ((trunk, DECAY, 1.0), (heads, DECAY, HEADS_RATE), (rest, 0.0, 1.0))
    ]


def _batches(
    data: Data, form: Form, seed: tuple[int, int]
) -> Iterator[tuple[torch.Tensor, NDArray[np.intp]]]:
    """Yield an epoch's varied pictures and their rows; the next batch is made while one is learnt."""
    pictures, labelled = data.pictures, data.labelled
    rng, steps = np.random.default_rng(seed), labelled // BATCH
    order = rng.permutation(labelled)[: steps * BATCH].reshape(steps, BATCH)
    if len(pictures) > labelled:
        order = np.concatenate([order, rng.integers(labelled, len(pictures), (steps, UNLABELLED))], axis=1)

    def made(step: int) -> torch.Tensor:
        rng = np.random.default_rng((*seed, step))
        damaged = rng.random(len(order[step])) < DAMAGED_SHARE
        varied = np.empty((len(damaged), form.size, form.size, 1), np.float32)
        for some, config in ((damaged, DAMAGE), (~damaged, VARIED)):
            varied[some] = augment(pictures[order[step][some]][..., None], rng, config, form.size)
        return _tensor(varied)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(made, 0)
        for step in range(steps):
            inputs = ahead.result()
            if step + 1 < steps:
                ahead = pool.submit(made, step + 1)
            yield inputs, order[step]


def _tensor(pictures: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32))


def _answers(network: Network, canvases: Picture, form: Form) -> torch.Tensor:
    """Return the logits of the first head."""
    network.eval()
    parts = np.array_split(canvases, math.ceil(len(canvases) / 256))
    with torch.no_grad():
        return torch.cat([network(_tensor(centre(some[..., None], form.size)))[0] for some in parts])


if __name__ == "__main__":
    main()
