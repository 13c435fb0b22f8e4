"""Train teachers and a student of them on one accelerator in minutes, everything in its memory (PyTorch).

    python tools/train_on_gpu.py pack fer2013.csv --photographs faces --to pack              # here, 42 MB
    KERAS_BACKEND=torch python tools/train_on_gpu.py train pack --to out --time-limit 9m     # there
    python tools/finish_network.py out/slim.npz fer2013.csv --recipe mien --network slim --size 48 --margin 1 \
        --to model --how "tools/train_on_gpu.py"

`pack` stores FER-2013 as mosaics (Training as JPEG, PublicTest as PNG), its FER+ votes, the grey faces of a face set
(`mien faces PHOTOS --to faces`), whose labels nobody needs, and the weights that the student begins with. `train` needs
PyTorch, NumPy, OpenCV, Pillow, h5py and this repository's src on PYTHONPATH, and the wheels of Keras 3, namex, optree
and simplejpeg where they are missing (`pip download --no-deps`). To try it on a CPU: `--limit 64 --time-limit 90s`.

It trains `wide` and two `residual` on the labels and the votes, then `slim` on these and on what the three teachers say
of the same pictures at the same places, photographs included (Beyer et al. 2022, arXiv:2106.05237): of the whole
picture, while the student sees it damaged. Each of 16 places of a picture is asked about once, and kept. The learning
rate falls with the time that is spent, not with a number of epochs planned beforehand, so every network ends its own
share of the time at a rate of zero. NAME.npz holds a network's averaged weights, also while it trains, with
NAME.state.pt beside it until it is done: the same command goes on after a kill, and keeps what is done. Teachers are
written in half precision, as they have to travel; targets.npz is what they say of the pictures as they are, for
`tools/distil.py --targets`.

What 400 seconds on one H200 gave: docs/models-changelog.md. In JAX, as it was before, the first epoch had not been
compiled after two minutes; here the first step is taken after four seconds.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from augment_on_gpu import as_they_are, placed, places, turned, varied
from distil import CANVAS, HEADS, student_of, unlabelled_faces
from mien.files import whole_file
from mien.labels import FER2013, FERPLUS
from mien.train.config import seconds_of
from torch_networks import Network

ACROSS = 64  # pictures in a row of a mosaic
JPEG_QUALITY = 92
STUDENT = "slim"
# Of the time that is left after the start; a second seed has its number after a dash.
SHARES = {"wide": 0.15, "residual": 0.28, "residual-2": 0.28, STUDENT: 0.29}
RESERVE_S, SAVE_EVERY_S, SAY_EVERY_S = 8, 90, 30
BATCH, UNLABELLED, WARM_STEPS = 256, 48, 4
DROPOUT = {"wide": 0.4, "residual": 0.3}
PEAK, MOMENTUM, EMA = 0.15, 0.9, 0.998
SMOOTHING, LABELS_SHARE = 0.1, 0.3  # the labels' share in what the student learns from
# Teachers never see the damage that their student learns to see through; a little keeps them from trusting details.
TEACHER = {"decay": 5e-4, "damaged": 0.15, "turned": 0.05}
LEARNER = {"decay": 2e-4, "damaged": 0.4, "turned": 0.15}
VIEWS = 16  # places of each picture at which the teachers are asked once
# Shares of a network's time: until WARM the rate rises, from CLEAN_FROM on pictures are not mixed.
WARM, CLEAN_FROM = 0.04, 0.88
START = time.monotonic()


def main() -> None:
    """Pack, or train what was packed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("pack")
    one.add_argument("data", type=Path)
    one.add_argument("--photographs", type=Path, help="face set, or .npz, as for tools/distil.py")
    one.add_argument("--student-from", default="mien", help="whose weights the student begins with")
    one.add_argument("--to", type=Path, default=Path("pack"))
    two = verbs.add_parser("train")
    two.add_argument("pack", type=Path)
    two.add_argument("--to", type=Path, default=Path("out"))
    two.add_argument("--time-limit", default="9m")
    two.add_argument("--limit", type=int, help="training pictures, to try it on a CPU")
    two.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.verb == "pack":
        pack(options.data, options.photographs, options.student_from, options.to)
    else:
        train(options.pack, options.to, seconds_of(options.time_limit), options.limit, options.seed)


# ---- what travels


def pack(data: Path, photographs: Path | None, student_from: str | None, to: Path) -> None:
    """Write the data set and the student's first weights into the folder `to`, as little as can be carried."""
    from mien.data import open_dataset

    dataset = open_dataset(data)
    to.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {}
    packed: list[tuple[str, NDArray[np.uint8], str]] = []
    for name, suffix in (("train", ".jpg"), ("validation", ".png")):
        split = dataset.split(name)
        faces = np.stack([split.pictures.read(place).reshape(48, 48) for place in range(len(split))])
        packed.append((name, faces, suffix))
        assert split.votes is not None, "FER+'s votes must lie beside the data"
        facts |= {f"{name}_labels": split.labels, f"{name}_votes": split.votes}
    packed.append(("photographs", others := unlabelled_faces(photographs), ".jpg"))
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_PNG_COMPRESSION, 9]
    for name, faces, suffix in packed:
        for part, some in enumerate(np.array_split(faces, 4)):  # a JPEG has at most 65,535 rows
            if len(some):
                cv2.imwrite(str(to / f"{name}{part}{suffix}"), _mosaic(some), options)
    np.savez_compressed(to / "facts.npz", photographs=len(others), **facts)
    if student_from:
        weights = student_of(STUDENT, student_from).variables
        known: dict[str, Any] = {
            one.path: np.asarray(one).astype(np.float16) for one in weights if "seed" not in one.path
        }
        np.savez_compressed(to / f"{STUDENT}.npz", **known)
    print(f"{sum(file.stat().st_size for file in to.iterdir()) / 1e6:.1f} MB in {to}")


def _mosaic(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = faces.shape[1]
    whole = np.concatenate([faces, np.zeros((-len(faces) % ACROSS, side, side), np.uint8)])
    return whole.reshape(-1, ACROSS, side, side).transpose(0, 2, 1, 3).reshape(-1, ACROSS * side)


def _unpacked(pack: Path, name: str, count: int, side: int = 48) -> NDArray[np.uint8]:
    """Return (count, CANVAS, CANVAS): the faces with their mirrored borders around them, where they are smaller."""
    parts = [np.zeros((0, side, side), np.uint8)]
    sizes = map(len, np.array_split(np.arange(count), 4))
    for file, size in zip(sorted(pack.glob(f"{name}[0-9].*")), sizes, strict=count > 0):
        mosaic = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        faces = mosaic.reshape(-1, side, ACROSS, side).transpose(0, 2, 1, 3).reshape(-1, side, side)
        parts.append(faces[:size])
    around = (CANVAS - side) // 2
    return np.pad(np.concatenate(parts), ((0, 0), (around, around), (around, around)), mode="reflect")


# ---- training


def train(pack: Path, to: Path, limit_s: float, limit: int | None, seed: int) -> None:
    """Train all of SHARES in turn; see the module for what is written and when."""
    to.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    data, held = _data(pack, np.load(pack / "facts.npz"), limit, device)
    _say(f"{len(data['x']):,} pictures on {device}")
    teachers: list[nn.Module] = []
    for place, name in enumerate(SHARES):
        torch.manual_seed(seed + place)
        taught = name == STUDENT
        kind = name.split("-")[0]
        network = Network(kind, 0.0 if taught else DROPOUT[kind])  # a student is to say what its teachers say
        if taught and (pack / f"{STUDENT}.npz").exists():
            network.load(pack / f"{STUDENT}.npz")
        network = network.to(device, memory_format=torch.channels_last)
        views: Callable[[int], Any] = lambda _: None  # noqa: E731
        if taught:
            _say(f"the mean of {len(teachers)} teachers: {_scores(teachers, held)}")
            if not (to / "targets.npz").exists():
                _write_targets(to / "targets.npz", teachers, data["x"])
            views = _Views(teachers, data["x"])
        left = limit_s - RESERVE_S - (time.monotonic() - START)
        budget = left * SHARES[name] / sum(list(SHARES.values())[place:])
        teachers.append(_Training(name, network, to, data, held).train(budget, views))


class _Views:
    """What the teachers say of every picture at places that are drawn anew for each of the first epochs."""

    def __init__(self, teachers: list[nn.Module], pictures: Any) -> None:
        self.teachers, self.pictures = list(teachers), pictures
        self.kept: dict[int, Any] = {}

    def __call__(self, epoch: int) -> Any:
        view = epoch % VIEWS
        if view not in self.kept:
            where = places(len(self.pictures), self.pictures)
            self.kept[view] = where, *_told(self.teachers, self.pictures, where)
        return self.kept[view]


def _told(teachers: Sequence[nn.Module], pictures: Any, where: Any) -> list[Any]:
    """Return the teachers' mean answer to pictures at these places, one (n, labels) array a head."""
    parts = []
    # cuDNN would try each new number of pictures out for seconds.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False):
        for some, at in zip(pictures.split(1024), where.split(1024), strict=True):
            x = placed(some, at)
            said = [[head.softmax(1) for head in one(x)] for one in teachers]
            parts.append([sum(heads) / len(heads) for heads in zip(*said, strict=True)])
    return [torch.cat(heads) for heads in zip(*parts, strict=True)]


def _write_targets(file: Path, teachers: Sequence[nn.Module], pictures: Any) -> None:
    """Write the teachers' mean answer to each picture and its mirror image, as `tools/distil.py` keeps them."""
    both = [
        _told(teachers, pictures, as_they_are(len(pictures), pictures, mirrored=flip))
        for flip in (False, True)
    ]
    means = [(sum(heads) / 2).cpu().numpy().astype(np.float16) for heads in zip(*both, strict=True)]
    _write(file, dict(zip(HEADS, means, strict=True)))


class _Training:
    """One network, and where it is written: NAME.npz, and NAME.state.pt until it is done."""

    def __init__(self, name: str, network: Network, to: Path, data: Any, held: Any) -> None:
        self.name, self.network, self.data, self.held = name, network, data, held
        self.file, self.state = to / f"{name}.npz", to / f"{name}.state.pt"
        self.mean = copy.deepcopy(network).eval().requires_grad_(False)
        self.batch = min(BATCH, data["labelled"])
        self.steps = data["labelled"] // self.batch
        self.step = _Step(network.train(), self.mean, data, self.batch, name == STUDENT)

    def train(self, budget_s: float, views: Callable[[int], Any]) -> nn.Module:
        """Train for this long, or for what is left of it after a kill; returns the network of averaged weights.

        views: what teachers say, by epoch.
        """
        done, spent = 0, 0.0  # epochs; share of the budget
        if self.state.exists():
            done, spent = self._stored()
            _say(f"{self.name}: going on after epoch {done}")
        elif self.file.exists():
            _say(f"{self.name}: done before")
            self.mean.load(self.file)
            return self.mean
        rest, began = 1 - spent, time.monotonic()
        tick, epoch_s, saved, said = began, 0.0, began, began
        while spent < 1:
            # An epoch that would leave less than half of one is the last, and its rate falls to zero.
            ahead = rest * epoch_s / budget_s if budget_s > 0 else 1.0
            then = 1.0 if done and spent + 1.5 * ahead >= 1 else min(1.0, spent + ahead)
            loss = self.step.epoch(_rates(spent, then, self.steps), then < CLEAN_FROM, views(done))
            done += 1
            if not math.isfinite(loss):
                raise SystemExit(f"{self.name}: the loss of epoch {done} is {loss}")
            epoch_s, tick = time.monotonic() - tick, time.monotonic()
            passed = (1 - rest) + rest * (tick - began) / max(budget_s, 1e-9)
            spent = 1.0 if then == 1 else min(passed, 0.999)
            if spent == 1 or tick - saved > SAVE_EVERY_S:
                self._write(done, spent)
                saved = time.monotonic()
            if spent == 1 or done == 2 or tick - said > SAY_EVERY_S:
                _say(
                    f"{self.name}: {100 * spent:.0f} % of its time, epoch {done} took {epoch_s:.2f} s, "
                    f"loss {loss:.3f}; {_scores([self.mean], self.held)}"
                )
                said = time.monotonic()
        return self.mean

    def _write(self, done: int, spent: float) -> None:
        """Write the averaged weights by Keras path, and until the training is done all that it goes on from."""
        kind = np.float32 if self.name == STUDENT else np.float16
        _write(self.file, {path: value.astype(kind) for path, value in self.mean.weights().items()})
        if spent == 1:
            self.state.unlink(missing_ok=True)
            return
        with whole_file(self.state) as temporary:
            parts = self.network.state_dict(), self.mean.state_dict(), self.step.momentum, self.step.taken
            torch.save((done, spent, *parts), temporary)

    def _stored(self) -> tuple[int, float]:
        done, spent, network, mean, momentum, taken = torch.load(self.state)
        self.network.load_state_dict(network)
        self.mean.load_state_dict(mean)
        for mine, one in zip(self.step.momentum, momentum, strict=True):
            mine.copy_(one)
        self.step.taken = taken
        return done, spent


class _Step:
    """One step of training: SGD with Nesterov momentum, L2 on kernels, a running mean of all weights.

    On a GPU the step is recorded once as a CUDA graph and then replayed, since starting its hundreds of small kernels
    one by one takes longer than running them.
    """

    def __init__(self, network: Network, mean: nn.Module, data: Any, batch: int, taught: bool) -> None:
        self.network, self.data, self.batch, self.taught = network, data, batch, taught
        self.weights = list(network.parameters())
        self.kernels = [place for place, weight in enumerate(self.weights) if weight.ndim > 1]
        self.momentum = [torch.zeros_like(weight) for weight in self.weights]
        now, then = network.state_dict(keep_vars=True), mean.state_dict(keep_vars=True)
        moving = [name for name, value in now.items() if value.is_floating_point()]
        self.now, self.then = [now[name].detach() for name in moving], [then[name] for name in moving]
        self.how = LEARNER if taught else TEACHER
        device, self.taken = data["x"].device, 0
        others = UNLABELLED * batch // BATCH if taught and len(data["x"]) > data["labelled"] else 0
        count = batch + others
        self.rows = torch.zeros(count, dtype=torch.long, device=device)
        self.partner = torch.zeros(count, dtype=torch.long, device=device)
        self.share = torch.ones(count, device=device)
        self.rate, self.new = torch.zeros((), device=device), torch.zeros((), device=device)
        self.told: Any = None
        self.loss = torch.zeros((), device=device)
        self.graph: Any = None
        self.warmed = 0  # steps taken before the recording

    def epoch(self, rates: NDArray[np.float32], mix: bool, told: Any) -> float:
        """Take an epoch's steps at these rates; returns the mean loss.

        told: places of all pictures and what teachers say of each there, one array a head; or none.
        """
        device, steps, (batch, count) = self.rows.device, len(rates), (self.batch, len(self.rows))
        labelled, every = self.data["labelled"], len(self.data["x"])
        rows = torch.randperm(labelled, device=device)[: steps * batch].reshape(steps, batch)
        others = torch.randint(labelled, max(every, labelled + 1), (steps, count - batch), device=device)
        rows = torch.cat([rows, others], dim=1)
        drawn = torch.rand(steps, count, device=device)
        drawn[:, batch:] += 1  # labelled with labelled, the others among themselves
        partner = drawn.argsort(dim=1)
        # Mixup (Zhang et al. 2018, arXiv:1710.09412) on half of the batches.
        share = torch.distributions.Beta(0.3, 0.3).sample((steps, count)).to(device)
        share[(torch.rand(steps) < (0.5 if mix else 0.0)).logical_not()] = 1.0
        means = [
            min(EMA, (1 + taken) / (10 + taken)) for taken in range(self.taken + 1, self.taken + steps + 1)
        ]
        self.taken += steps
        new = 1 - torch.tensor(means, device=device)
        rate = torch.from_numpy(rates).to(device)
        if told is not None:
            if self.told is None:
                self.told = [torch.empty_like(one) for one in told]
            for mine, one in zip(self.told, told, strict=True):
                mine.copy_(one)
        total = torch.zeros((), device=device)
        for step in range(steps):
            self.rows.copy_(rows[step])
            self.partner.copy_(partner[step])
            self.share.copy_(share[step])
            self.rate.copy_(rate[step])
            self.new.copy_(new[step])
            self._take()
            total += self.loss
        return float(total) / steps

    def _take(self) -> None:
        if self.rows.device.type == "cpu":
            self._run()
        elif self.graph is not None:
            self.graph.replay()
        elif self.warmed < WARM_STEPS:  # algorithms are chosen and memory is taken before the recording
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._run()
            torch.cuda.current_stream().wait_stream(stream)
            self.warmed += 1
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._run()
            self.graph = graph
            self.graph.replay()

    def _run(self) -> None:
        with torch.no_grad():
            where = self.told[0][self.rows] if self.taught else places(len(self.rows), self.data["x"])
            x = varied(
                placed(self.data["x"][self.rows], turned(where, self.how["turned"])), self.how["damaged"]
            )
            share = self.share[:, None]
            x = share[:, None] * x + (1 - share[:, None]) * x[self.partner]
            batch = self.batch
            rows, pair = self.rows[:batch], self.partner[:batch]
            mine = share[:batch]

            def mixed(values: Any) -> Any:
                return mine * values[rows] + (1 - mine) * values[rows][pair]

            label = mixed(self.data["label"]) * (1 - SMOOTHING) + SMOOTHING / len(FER2013)
            votes, known = mixed(self.data["votes"]), self.data["known"][rows]
            voted = torch.minimum(known, torch.where(mine[:, 0] < 1, known[pair], torch.ones_like(known)))
            soft = [
                share * head[self.rows] + (1 - share) * head[self.rows][self.partner]
                for head in (self.told[1:] if self.taught else [])
            ]
        logs = [head.log_softmax(1) for head in self.network(x)]
        loss = -(label * logs[0][:batch]).sum(1).mean()
        loss = loss - (votes * logs[1][:batch]).sum(1) @ voted / voted.sum().clamp(min=1)
        if soft:
            distilled = -sum((one * log).sum(1).mean() for one, log in zip(soft, logs, strict=True))
            loss = LABELS_SHARE * loss + (1 - LABELS_SHARE) * distilled
        slopes = list(torch.autograd.grad(loss, self.weights))
        with torch.no_grad():
            kernels = [self.weights[place] for place in self.kernels]
            torch._foreach_add_([slopes[place] for place in self.kernels], kernels, alpha=self.how["decay"])
            torch._foreach_mul_(self.momentum, MOMENTUM)
            torch._foreach_add_(self.momentum, slopes)
            torch._foreach_add_(slopes, self.momentum, alpha=MOMENTUM)
            torch._foreach_mul_(slopes, self.rate)
            torch._foreach_sub_(self.weights, slopes)
            moved = torch._foreach_sub(self.now, self.then)
            torch._foreach_mul_(moved, self.new)
            torch._foreach_add_(self.then, moved)
            self.loss.copy_(loss)


def _write(file: Path, arrays: dict[str, Any]) -> None:
    with whole_file(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _rates(at: float, then: float, steps: int) -> NDArray[np.float32]:
    """Return each step's rate between two shares of the time: a linear rise, then one cosine to zero.

    The first epoch, of which nobody knows how long it takes (then = at), keeps to a tenth of the rise's height.
    """
    if then == at:
        return np.full(steps, PEAK / 10, np.float32)
    share = at + (then - at) * (np.arange(steps) + 1) / steps
    falling = PEAK / 2 * (1 + np.cos(np.pi * np.clip((share - WARM) / (1 - WARM), 0, 1)))
    return np.where(share < WARM, PEAK * share / WARM, falling).astype(np.float32)


def _data(pack: Path, facts: Any, limit: int | None, device: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is learnt from, its first `labelled` pictures with labels, and PublicTest."""
    labels, votes = facts["train_labels"], facts["train_votes"].astype(np.float32)
    total = votes.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, votes / np.maximum(total, 1), 1 / len(FERPLUS)).astype(np.float32)
    faces = _unpacked(pack, "train", len(labels))[:limit]
    others = _unpacked(pack, "photographs", int(facts["photographs"]), CANVAS)[:limit]
    arrays = {
        "x": np.concatenate([faces, others]),
        "label": np.eye(len(FER2013), dtype=np.float32)[labels][:limit],
        "votes": shares[:limit],
        "known": (total[:, 0] > 0).astype(np.float32)[:limit],
    }
    held = _unpacked(pack, "validation", len(facts["validation_labels"]))[:limit]
    data: dict[str, Any] = {key: torch.from_numpy(value).to(device) for key, value in arrays.items()}
    return data | {"labelled": len(faces)}, {
        "x": torch.from_numpy(held).to(device),
        "labels": facts["validation_labels"][:limit],
    }


def _scores(networks: Sequence[nn.Module], held: Any) -> str:
    """Say how well the mean of their answers does, alone and with the mirror image's."""
    labels = held["labels"]
    plain, mirrored = (
        _told(networks, held["x"], as_they_are(len(labels), held["x"], mirrored=flip))[0].cpu().numpy()
        for flip in (False, True)
    )
    one, two = (np.mean(answer.argmax(1) == labels) for answer in (plain, plain + mirrored))
    return f"PublicTest {100 * one:.2f} %, with the mirror image {100 * two:.2f} %"


def _say(line: str) -> None:
    print(f"[{time.monotonic() - START:6.1f} s] {line}", flush=True)


if __name__ == "__main__":
    main()
