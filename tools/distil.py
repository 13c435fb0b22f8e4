"""Go on training `small`, or a wider network that begins with its answers, on what teachers say (PyTorch, bfloat16).

    python tools/distil.py fer2013.csv --teachers soft-targets.npz --from mien --widths 32,96,192,384,512 \
        --photographs faces.npz --time-limit 100m --to wider.npz
    python tools/distil.py fer2013.csv --teachers soft-targets.npz,wider.targets.npz --from mien \
        --photographs faces.npz --time-limit 60m --to small.npz

A teacher is a shipped name, a model folder, or the answers that another run kept; their mean is the target beside
labels and votes. Teachers answer every picture and its mirror image once, undamaged, so an epoch costs what one without
teachers costs, and the network learns to say of a damaged picture what they say of the whole one. The faces of
photographs, grey and without labels, have the teachers alone; those of PublicTest are only judged on, but with
--with-validation, for a last training when everything is fixed, they are learnt from as well.

With --widths, filters are added to every stage: with random kernels, and kernels of zero behind them, so that at first
all answers stay what they were and the training before is kept (as in Net2Net, Chen et al. 2016, arXiv:1511.05641).
Such a network is a teacher, too slow to ship.

NAME.npz holds the averaged weights by Keras path, as `tools/finish_network.py` takes them; NAME.targets.npz what they
say of every picture, for --teachers; from NAME.state.pt the same command goes on. The learning rate falls with the time
that is spent. Needs `torch` beside the extra `train`; bfloat16 is fast where the processor has AMX.
"""

# mypy: disable-error-code="misc, untyped-decorator, no-any-return"
# PyTorch is not there when types are checked.

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fer2013_faces import CANVAS, HEADS, HOW, unlabelled_faces
from mien.data import open_dataset
from mien.data.dataset import Split
from mien.files import whole_file
from mien.labels import FER2013
from mien.model.classifier import Classifier
from mien.model.metadata import MODEL_FILE, model_path
from mien.train.augment import augment
from mien.train.config import TrainConfig
from mien.train.schedule import seconds_of

BATCH, UNLABELLED = 128, 24
LABELS_SHARE, SMOOTHING = 0.5, 0.1  # of what is learnt the labels' and votes' share, beside the teachers'
MOMENTUM, DECAY, DROPOUT, EMA, EMA_STEPS = 0.9, 5e-4, 0.4, 0.998, 8
FLAT = (
    25.0  # added to a picture's variance before it is divided by it: the first layer's, see networks/small.py
)
# Three pictures in ten are damaged, the others varied as in the recipe: with all of them damaged and a rate of .03
# the network lost three points of PublicTest after seven of 16 epochs, and was given up.
DAMAGED_SHARE = 0.3
DAMAGE = TrainConfig(
    rotation=12, wide_rotation=40, shift=0.0625, zoom=0.22, shear=0.08, contrast=0.4, brightness=30, gamma=0.7,
    side_light=0.7, low_contrast=0.08, sharpen=1.5, jpeg_quality=12, noise=8, blur=0, erasing=0.5,
)  # fmt: skip

VARIED = TrainConfig(rotation=12, shift=0.0625, zoom=0.2, contrast=0.3, brightness=30, blur=0.1, erasing=0.5)

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]


def main() -> None:
    """Train, printing a line an epoch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--teachers", required=True, help="separated by commas")
    parser.add_argument("--from", dest="start", default="mien", help="model folder, or weights by Keras path")
    parser.add_argument("--widths", help="filters of each stage (default: those of --from)")
    parser.add_argument(
        "--photographs", type=Path, help=f"face set, or .npz with `x`, (n, {CANVAS}, {CANVAS}) uint8"
    )
    parser.add_argument("--with-validation", action="store_true", help="learn from PublicTest as well")
    parser.add_argument("--learning-rate", type=float, default=0.04, help="its height (default: %(default)s)")
    parser.add_argument("--time-limit", default="60m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(0)  # pictures are varied in a thread of their own, beside those of the network
    torch.manual_seed(options.seed)
    known = stored_weights(options.start)
    widths = [int(word) for word in options.widths.split(",")] if options.widths else _widths(known)
    network = Network(widths)
    network.take(known)
    pictures = read_pictures(options.data, options.photographs)
    soft = np.mean([answers_of(teacher, pictures) for teacher in options.teachers.split(",")], axis=0)
    _train(network, pictures, learnt_from(pictures, soft), options)
    answers = network.answers(pictures.x, mirrored=True).astype(np.float16)
    _write(options.to.with_suffix(".targets.npz"), dict(zip(HEADS, _by_head(answers), strict=True)))


# ---- pictures and what is known of them


@dataclass(frozen=True)
class Pictures:
    """Grey faces, (n, CANVAS, CANVAS) uint8: Training's, then those of photographs, then PublicTest's.

    known: (n, 15), labels and votes as shares, NaN where there are none. training, validation: how many each has.
    labels: (validation,) of PublicTest.
    """

    x: NDArray[np.uint8]
    known: Floats
    training: int
    labels: NDArray[np.intp]

    @property
    def validation(self) -> int:
        return len(self.labels)


def read_pictures(data: Path, photographs: Path | None) -> Pictures:
    """Read FER-2013 with the votes that lie beside it, and the faces of photographs."""
    dataset = open_dataset(data)
    train, validation = dataset.split("train"), dataset.split("validation")
    others = unlabelled_faces(photographs)
    unknown = np.full((len(others), 15), np.nan, np.float32)
    return Pictures(
        np.concatenate([_canvas(train), others, _canvas(validation)]),
        np.concatenate([_known(train), unknown, _known(validation)]),
        len(train),
        validation.labels,
    )


def _canvas(split: Split) -> NDArray[np.uint8]:
    faces = np.stack([split.pictures.read(place).reshape(48, 48) for place in range(len(split))])
    around = (CANVAS - 48) // 2
    return np.pad(faces, ((0, 0), (around, around), (around, around)), mode="reflect")


def _known(split: Split) -> Floats:
    if split.votes is None:
        raise SystemExit("FER+'s votes, fer2013new.csv, must lie beside the data")
    labels = np.eye(len(FER2013))[split.labels] * (1 - SMOOTHING) + SMOOTHING / len(FER2013)
    total = split.votes.sum(axis=1, keepdims=True)
    votes = np.where(total > 0, split.votes / np.maximum(total, 1), np.nan)
    return np.concatenate([labels, votes], axis=1).astype(np.float32)


def answers_of(teacher: str, pictures: Pictures) -> Floats:
    """Return what a teacher says of each picture and its mirror image, their mean: (n, 15).

    Kept answers may lack those to PublicTest, as `tools/train_on_gpu.py` writes them: NaN.
    """
    if teacher.endswith(".npz"):
        stored = np.load(teacher)
        kept = np.concatenate([stored[name].astype(np.float32) for name in HEADS], axis=1)
        missing = len(pictures.x) - len(kept)
        if missing not in (0, pictures.validation):
            raise SystemExit(f"{teacher} has answers to {len(kept):,} pictures, not {len(pictures.x):,}")
        return np.pad(kept, ((0, missing), (0, 0)), constant_values=np.nan)
    network = Classifier(model_path(teacher), "float32")
    parts = []
    for start in range(0, len(pictures.x), 256):
        middle = _middle(pictures.x[start : start + 256])[..., None]
        views = [network.probabilities(view) for view in (middle, np.ascontiguousarray(middle[:, :, ::-1]))]
        parts.append(
            np.mean([np.concatenate([view[name] for name in HEADS], axis=1) for view in views], axis=0)
        )
    print(f"{teacher}: answers to {len(pictures.x):,} pictures and their mirror images", flush=True)
    return np.concatenate(parts).astype(np.float32)


def learnt_from(pictures: Pictures, soft: Floats) -> Floats:
    """Mix labels and votes into the teachers' answers, where there are any: (n, 15)."""
    mixed = LABELS_SHARE * pictures.known + (1 - LABELS_SHARE) * soft
    return np.where(np.isnan(pictures.known), soft, mixed).astype(np.float32)


def _middle(pictures: NDArray[np.uint8]) -> Floats:
    cut = (CANVAS - HOW.size) // 2
    return pictures[:, cut : cut + HOW.size, cut : cut + HOW.size].astype(np.float32)


def _by_head(answers: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(answers, [len(FER2013)], axis=1)


# ---- the network


def stored_weights(source: str) -> Weights:
    """Return weights by Keras path from an .npz or a model folder; kernels as PyTorch has them, (out, in, 3, 3).

    A number before a path (`0000:`), as older files have it, is passed over.
    """
    if source.endswith(".npz"):
        with np.load(source) as arrays:
            stored = {name.rpartition(":")[2]: arrays[name].astype(np.float32) for name in arrays.files}
        return {
            name: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array for name, array in stored.items()
        }
    graph = onnx.load(model_path(source) / MODEL_FILE).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _widths(known: Weights) -> list[int]:
    return [len(known[name]) for name in sorted(known) if name.endswith("_2_conv/kernel")]


class _Conv3x3(torch.autograd.Function):
    """A convolution of stride 1 with kernels of 3x3, zeros around, where maps are small and filters many.

    There oneDNN's bfloat16 kernels for the gradient of the weights run at a tenth of a matrix product's speed (40 to
    180 beside 585 GFLOP/s on two cores with AMX; 512 filters on 3x3 places: 94 ms beside 11), so it is one.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Tensor) -> Tensor:
        context.save_for_backward(x, kernel)
        return functional.conv2d(x, kernel, None, 1, 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = context.saved_tensors
        (filters, channels), (height, width) = kernel.shape[:2], x.shape[2:]
        down = gradients[0].contiguous(memory_format=torch.channels_last)
        to_x = torch.ops.aten.convolution_backward(
            down, x, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        flat = down.permute(0, 2, 3, 1).reshape(-1, filters).t()
        shifted = (padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
        to_kernel = torch.stack([flat @ part.reshape(-1, channels) for part in shifted], dim=-1)
        return to_x, to_kernel.view_as(kernel)


class Convolution(nn.Conv2d):
    """3x3, without bias."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__(channels, filters, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        side, many = x.shape[2], self.in_channels >= 192
        if torch.is_grad_enabled() and (side <= 8 or (side <= 12 and many)):
            kernel = self.weight.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
            convolved: Tensor = _Conv3x3.apply(x.to(torch.bfloat16), kernel)
            return convolved
        return super().forward(x)


class Network(nn.Module):
    """`small`, with any widths; takes levels, (n, 1, 44, 44), and gives the logits of both heads, (n, 15)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        channels = [1, *(width for width in widths for _ in range(2))]
        self.convolutions = nn.ModuleList(map(Convolution, channels, channels[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels[1:])
        self.dropout = nn.Dropout(DROPOUT)
        self.heads = nn.Linear(widths[-1], sum(map(len, HEADS.values())))
        self.to(memory_format=torch.channels_last)

    def forward(self, levels: Tensor) -> Tensor:
        places = (1, 2, 3)
        x = levels - levels.mean(places, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(places, keepdim=True) + FLAT)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
                x = functional.relu(norm(convolution(x)))
                if layer % 2 and layer + 1 < len(self.norms):
                    x = functional.max_pool2d(x, 2)
        logits: Tensor = self.heads(self.dropout(x.float().mean((2, 3))))
        return logits

    def _stored(self) -> list[tuple[str, Tensor]]:
        """Return every stored array's Keras path and the tensor that holds it."""
        pairs = []
        for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            name = f"stage{layer // 2 + 1}_{layer % 2 + 1}"
            pairs += [
                (f"{name}_conv/kernel", convolution.weight),
                (f"{name}_norm/gamma", norm.weight),
                (f"{name}_norm/beta", norm.bias),
                (f"{name}_norm/moving_mean", norm.running_mean),
                (f"{name}_norm/moving_variance", norm.running_var),
            ]
        return pairs

    @torch.no_grad()
    def take(self, known: Weights) -> None:
        """Take over a narrower network's weights, or one's of the same widths; the answers are that network's."""
        for name, tensor in self._stored():
            given = torch.tensor(known[name])
            if any(old > new for old, new in zip(given.shape, tensor.shape, strict=True)):
                raise SystemExit(f"{name} has {tuple(given.shape)} weights, more than {tuple(tensor.shape)}")
            if tensor.ndim == 4:
                tensor[: len(given), given.shape[1] :] = 0
                tensor[: given.shape[0], : given.shape[1]] = given
            else:
                tensor[: len(given)] = given
        self.heads.weight.zero_()
        kernels = np.concatenate([known[f"{name}/kernel"] for name in HEADS], axis=1).T
        self.heads.weight[:, : kernels.shape[1]] = torch.tensor(kernels)
        self.heads.bias[:] = torch.tensor(np.concatenate([known[f"{name}/bias"] for name in HEADS]))

    def weights(self) -> dict[str, Floats]:
        """Return the weights by Keras path, kernels as Keras has them, (3, 3, in, out)."""
        stored = {name: tensor.detach().numpy() for name, tensor in self._stored()}
        stored = {name: one.transpose(2, 3, 1, 0) if one.ndim == 4 else one for name, one in stored.items()}
        kernels, biases = _by_head(self.heads.weight.detach().numpy().T), self.heads.bias.detach().numpy()
        for name, kernel, bias in zip(HEADS, kernels, _by_head(biases[None]), strict=True):
            stored |= {f"{name}/kernel": kernel, f"{name}/bias": bias[0]}
        return stored

    @torch.no_grad()
    def answers(self, pictures: NDArray[np.uint8], *, mirrored: bool = False) -> Floats:
        """Return both heads' probabilities, (n, 15); of pictures and their mirror images the mean."""
        self.eval()
        parts = []
        for start in range(0, len(pictures), 256):
            x = torch.from_numpy(_middle(pictures[start : start + 256]))[:, None]
            views = [self(view) for view in ((x, x.flip(3)) if mirrored else (x,))]
            shares = [torch.cat([one.softmax(1) for one in _split(view)], 1) for view in views]
            parts.append(torch.stack(shares).mean(0).numpy())
        return np.concatenate(parts)


def _split(logits: Tensor) -> tuple[Tensor, ...]:
    return logits.split([len(labels) for labels in HEADS.values()], dim=1)


# ---- the training


def _train(network: Network, pictures: Pictures, wanted: Floats, options: Any) -> None:
    labelled, end = np.arange(pictures.training), len(pictures.x) - pictures.validation
    if options.with_validation:
        labelled = np.append(labelled, np.arange(end, len(pictures.x)))
        if np.isnan(wanted[end:]).any():
            raise SystemExit(
                "--with-validation needs teachers that answer PublicTest too; leave the others out"
            )
    steps, limit = len(labelled) // BATCH, seconds_of(options.time_limit)
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    free = [weight for weight in network.parameters() if weight.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}],
        lr=options.learning_rate, momentum=MOMENTUM, nesterov=True,
    )  # fmt: skip
    mean = {name: value.clone() for name, value in network.state_dict().items() if value.is_floating_point()}
    state, epoch, spent = options.to.with_suffix(".state.pt"), 0, 0.0
    if state.exists():
        stored = torch.load(state, weights_only=True)
        network.load_state_dict(stored["network"])
        optimizer.load_state_dict(stored["optimizer"])
        mean, epoch, spent = stored["mean"], stored["epoch"], stored["spent"]
    print(f"begins with {_right(network, pictures):.2f} % of validation", flush=True)
    while spent < limit:
        began, losses = time.monotonic(), []
        rng = np.random.default_rng((options.seed, epoch))
        rows = rng.permutation(labelled)[: steps * BATCH].reshape(steps, BATCH)
        if end > pictures.training:
            rows = np.concatenate([rows, rng.integers(pictures.training, end, (steps, UNLABELLED))], axis=1)

        def batch(
            step: int, rows: NDArray[np.intp] = rows, seed: tuple[int, ...] = (options.seed, epoch)
        ) -> tuple[Tensor, Tensor, Tensor]:
            chosen, rng = rows[step], np.random.default_rng((*seed, step))
            damaged = rng.random(len(chosen)) < DAMAGED_SHARE
            varied = np.empty((len(chosen), *HOW.shape), np.float32)
            for some, config in ((damaged, DAMAGE), (~damaged, VARIED)):
                varied[some] = augment(pictures.x[chosen[some]][..., None], rng, config, HOW.size)
            weights = np.where(np.arange(len(chosen)) < BATCH, 1, 1 - LABELS_SHARE).astype(np.float32)
            return tuple(map(torch.from_numpy, (varied.transpose(0, 3, 1, 2), wanted[chosen], weights)))

        network.train()
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(batch, 0)
            for step in range(steps):
                levels, targets, weights = ahead.result()
                if step + 1 < steps:
                    ahead = pool.submit(batch, step + 1)
                at = min(1.0, (spent + time.monotonic() - began) / limit)
                warm = min(1.0, epoch + (step + 1) / steps)
                for group in optimizer.param_groups:
                    group["lr"] = options.learning_rate / 2 * float(1 + np.cos(np.pi * at)) * warm
                pairs = zip(_split(network(levels)), _split(targets), strict=True)
                loss = sum(functional.cross_entropy(said, wish, reduction="none") for said, wish in pairs)
                loss = (loss * weights).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                taken = epoch * steps + step + 1
                if taken % EMA_STEPS == 0:
                    keep = min(EMA, (1 + taken) / (10 + taken)) ** EMA_STEPS
                    latest = network.state_dict()
                    torch._foreach_lerp_(list(mean.values()), [latest[name] for name in mean], 1 - keep)
        epoch += 1
        latest = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict({**latest, **mean})
        right = _right(network, pictures)
        _write(options.to, network.weights())
        spent += time.monotonic() - began
        network.load_state_dict(latest)
        with whole_file(state) as temporary:
            kept = {"network": latest, "optimizer": optimizer.state_dict(), "mean": mean}
            torch.save({**kept, "epoch": epoch, "spent": spent}, temporary)
        print(
            f"epoch {epoch}, {spent / limit:.0%}: loss {np.mean(losses):.3f}, validation {right:.2f} %, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
    network.load_state_dict({**network.state_dict(), **mean})


def _right(network: Network, pictures: Pictures) -> float:
    """Return the percentage of PublicTest that the first head names as it is labelled."""
    said = network.answers(pictures.x[-pictures.validation :])[:, : len(FER2013)].argmax(axis=1)
    return float(100 * np.mean(said == pictures.labels))


def _write(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with whole_file(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
