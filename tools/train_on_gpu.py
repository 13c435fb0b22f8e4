"""Train teachers and a student of them on one accelerator in minutes, everything in its memory (Keras on JAX).

    python tools/train_on_gpu.py pack fer2013.csv --photographs faces --to pack              # here, 40 to 60 MB
    KERAS_BACKEND=jax python tools/train_on_gpu.py train pack --to out --time-limit 9m       # there
    python tools/finish_network.py out/small.npz fer2013.csv --recipe mien --size 48 --margin 1 --to model \
        --how "tools/train_on_gpu.py"

`pack` stores FER-2013 as mosaics (Training as JPEG of quality 96, PublicTest as PNG), its FER+ votes and the grey faces
of a face set (`mien faces PHOTOS --to faces`), whose labels nobody needs. `train` needs NumPy, OpenCV, JAX, this
repository's src on PYTHONPATH, and the wheels of Keras 3, namex, optree, h5py, absl-py, rich and ml-dtypes, as far as
they are missing there (`pip download --no-deps`). To try it on a CPU: `--limit 16 --time-limit 3m`.

It trains `wide` and two `residual` on the labels and the votes, then `small` on these and on what the three teachers
say of the same varied pictures, photographs included (Beyer et al. 2022, arXiv:2106.05237); one of them sees the mirror
image. The learning rate falls with the time that is spent, not with a number of epochs planned beforehand, so every
network ends its own share of the time at a rate of zero, however long the others or their compilation took. NAME.npz
holds a network's averaged weights, also while it trains, with NAME.state.npz beside it until it is done: the same
command goes on after a kill, and keeps what is done. Teachers are written in half precision, as they have to travel;
targets.npz is what they say of the pictures as they are, for `tools/distil.py --targets`.

What nine minutes give, planned and not measured: on one H100 the first version of this script (JAX 0.11, 16 cores)
built and traced for 50 s and took .48 s for an epoch of `wide` and .93 s for one of `residual`. That makes some 100
epochs of each teacher, and for `small`, whose step is the teachers' forward passes for the most part, 150 or more.
Depthwise networks are left out: compiling EfficientNet-Lite0's grouped convolutions took seven minutes and held up
everything else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from augment_on_gpu import augmented
from distil import CANVAS, HEADS, HOW, load_weights, unlabelled_faces
from mien.files import whole_file
from mien.labels import FER2013, FERPLUS
from mien.train.schedule import seconds_of

ACROSS = 64  # pictures in a row of a mosaic
STUDENT = "small"
# Of the time that is left after the start; a second seed has its number after a dash.
SHARES = {"wide": 0.1, "residual": 0.2, "residual-2": 0.2, STUDENT: 0.5}
RESERVE_S, SAVE_EVERY_S = 8, 30
BATCH, UNLABELLED = 256, 48
PEAK, DECAY, MOMENTUM, EMA = 0.15, 5e-4, 0.9, 0.998
SMOOTHING, LABELS_SHARE = 0.1, 0.3  # the labels' share in what the student learns from
WARM, CLEAN_FROM = (
    0.04,
    0.88,
)  # shares of its time: until then the rate rises, from then on pictures are not mixed
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
    one.add_argument("--to", type=Path, default=Path("pack"))
    two = verbs.add_parser("train")
    two.add_argument("pack", type=Path)
    two.add_argument("--to", type=Path, default=Path("out"))
    two.add_argument("--time-limit", default="9m")
    two.add_argument("--limit", type=int, help="training pictures, to try it on a CPU")
    two.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.verb == "pack":
        pack(options.data, options.photographs, options.to)
    else:
        train(options.pack, options.to, seconds_of(options.time_limit), options.limit, options.seed)


# ---- what travels


def pack(data: Path, photographs: Path | None, to: Path) -> None:
    """Write the data set into the folder `to`, as little as can be carried."""
    from mien.data import open_dataset

    dataset = open_dataset(data)
    to.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {}
    for name, suffix, options in (
        ("train", ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 96]),
        ("validation", ".png", [cv2.IMWRITE_PNG_COMPRESSION, 9]),
    ):
        split = dataset.split(name)
        faces = np.stack([split.pictures.read(place).reshape(48, 48) for place in range(len(split))])
        for part, some in enumerate(np.array_split(faces, 4)):  # a JPEG has at most 65,535 rows
            cv2.imwrite(str(to / f"{name}{part}{suffix}"), _mosaic(some), options)
        assert split.votes is not None, "FER+'s votes must lie beside the data"
        facts |= {f"{name}_labels": split.labels, f"{name}_votes": split.votes}
    np.savez_compressed(to / "facts.npz", photographs=unlabelled_faces(photographs), **facts)
    print(f"{sum(file.stat().st_size for file in to.iterdir()) / 1e6:.1f} MB in {to}")


def _mosaic(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = faces.shape[1]
    whole = np.concatenate([faces, np.zeros((-len(faces) % ACROSS, side, side), np.uint8)])
    return whole.reshape(-1, ACROSS, side, side).transpose(0, 2, 1, 3).reshape(-1, ACROSS * side)


def _unpacked(pack: Path, name: str, count: int) -> NDArray[np.uint8]:
    """Return (count, CANVAS, CANVAS): the faces with their mirrored borders around them."""
    parts = []
    for file, size in zip(
        sorted(pack.glob(f"{name}[0-9].*")), map(len, np.array_split(np.arange(count), 4)), strict=True
    ):
        mosaic = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        faces = mosaic.reshape(-1, 48, ACROSS, 48).transpose(0, 2, 1, 3).reshape(-1, 48, 48)
        parts.append(faces[:size])
    around = (CANVAS - 48) // 2
    return np.pad(np.concatenate(parts), ((0, 0), (around, around), (around, around)), mode="reflect")


# ---- training


def train(pack: Path, to: Path, limit_s: float, limit: int | None, seed: int) -> None:
    """Train all of SHARES in turn; see the module for what is written and when."""
    import jax
    import keras

    from mien.train.networks import network
    from mien.train.networks.spec import NetworkRequest

    to.mkdir(parents=True, exist_ok=True)
    on_cpu = jax.default_backend() == "cpu"
    keras.config.set_dtype_policy("float32" if on_cpu else "mixed_bfloat16")
    data, held = _data(pack, np.load(pack / "facts.npz"), limit)
    models = {}
    for place, name in enumerate(SHARES):
        keras.utils.set_random_seed(seed + place)
        models[name] = network(name.split("-")[0]).build(NetworkRequest(heads=HEADS, preprocess=HOW))
    *teachers, _ = models.values()
    batch = min(BATCH, len(data["x"]))
    steps = len(data["x"]) // batch
    pool = ThreadPoolExecutor(len(models))
    jobs: dict[str, Any] = {}
    for name, model in models.items():
        if (kind := name.split("-")[0]) in jobs:
            continue  # another seed of the same network runs what was compiled for the first
        whose = teachers if kind == STUDENT else []
        example = jax.random.key(0), np.zeros(steps, np.float32), np.bool_(True)
        others = UNLABELLED * batch // BATCH if whose and len(data["unlabelled"]) else 0
        epoch = _epoch(model, whose, batch, others)
        known = [_values(one) for one in whose]
        lowered = jax.jit(epoch, donate_argnums=0).lower(_carry(model), known, data, example)
        answers = _answers(model).lower(*_values(model), held["x"])
        jobs[kind] = pool.submit(lowered.compile), pool.submit(answers.compile)
        _say(f"{name}: {model.count_params():,} parameters, traced")
    known = []
    for place, (name, model) in enumerate(models.items()):
        kind = name.split("-")[0]
        run, answers = (job.result() for job in jobs[kind])
        if kind == STUDENT and not (to / "targets.npz").exists():
            pictures = jax.numpy.concatenate([data["x"], data["unlabelled"]])
            told = [jobs[name.split("-")[0]][1].result() for name in models if name != STUDENT]
            both = list(zip(told, known, strict=True))
            _write_targets(to / "targets.npz", both, pictures, held["x"].shape[:2])
        left = limit_s - RESERVE_S - (time.monotonic() - START)
        budget = left * SHARES[name] / sum(list(SHARES.values())[place:])
        one = _Training(name, model, run, answers, to, steps, seed + place)
        known.append(one.train(budget, known if kind == STUDENT else [], data, held))


@dataclass(frozen=True)
class _Training:
    """One network, its compiled epoch and answers, and where it is written."""

    name: str
    model: Any
    run: Any
    answers: Any
    to: Path
    steps: int
    seed: int

    def train(self, budget_s: float, known: Any, data: Any, held: Any) -> tuple[list[Any], list[Any]]:
        """Train for this long, or for what is left of it after a kill; returns the averaged weights."""
        import jax

        key, carry = jax.random.key(self.seed + 17), _carry(self.model)
        done, spent = 0, 0.0  # epochs; share of the budget
        if self._state.exists():
            done, spent, carry = self._stored(carry)
            _say(f"{self.name}: going on after epoch {done}")
        elif self._file.exists():
            _say(f"{self.name}: done before")
            return self._finished()
        rest, began = 1 - spent, time.monotonic()
        tick, epoch_s, saved, said = began, 0.0, began, began
        while spent < 1:
            # An epoch that would leave less than half of one is the last, and its rate falls to zero.
            ahead = rest * epoch_s / budget_s if budget_s > 0 else 1.0
            then = 1.0 if done and spent + 1.5 * ahead >= 1 else min(1.0, spent + ahead)
            plan = jax.random.fold_in(key, done), _rates(spent, then, self.steps), np.bool_(then < CLEAN_FROM)
            carry, losses = self.run(carry, known, data, plan)
            loss, done = float(np.mean(losses)), done + 1
            if not np.isfinite(loss):
                raise SystemExit(f"{self.name}: the loss of epoch {done} is {loss}")
            epoch_s, tick = time.monotonic() - tick, time.monotonic()
            passed = (1 - rest) + rest * (tick - began) / max(budget_s, 1e-9)
            spent = 1.0 if then == 1 else min(passed, 0.999)
            if spent == 1 or tick - saved > SAVE_EVERY_S:
                self._write(carry, done, spent)
                saved = time.monotonic()
            if spent == 1 or done == 2 or tick - said > SAVE_EVERY_S:
                scores = _scores(self.answers, carry[3], carry[4], held)
                _say(
                    f"{self.name}: {100 * spent:.0f} % of its time, epoch {done} took {epoch_s:.2f} s, "
                    f"loss {loss:.3f}; {scores}"
                )
                said = time.monotonic()
        return carry[3], carry[4]

    @property
    def _file(self) -> Path:
        return self.to / f"{self.name}.npz"

    @property
    def _state(self) -> Path:
        return self.to / f"{self.name}.state.npz"

    def _write(self, carry: Any, done: int, spent: float) -> None:
        """Write the averaged weights by Keras path, and until the training is done all that it goes on from."""
        import jax

        kind = np.float32 if self.name == STUDENT else np.float16
        variables = [*self.model.trainable_variables, *self.model.non_trainable_variables]
        weights = {
            variable.path: np.asarray(value).astype(kind)
            for variable, value in zip(variables, [*carry[3], *carry[4]], strict=True)
            if "seed" not in variable.path  # of dropout's generator
        }
        parts = {f"{place}": np.asarray(part) for place, part in enumerate(jax.tree.leaves(carry))}
        _write(self._file, weights)
        if spent == 1:
            self._state.unlink(missing_ok=True)
        else:
            _write(self._state, {"at": np.array([done, spent]), **parts})

    def _stored(self, carry: Any) -> tuple[int, float, Any]:
        import jax
        import jax.numpy as jnp

        with np.load(self._state) as stored:
            done, spent = stored["at"]
            leaves, shape = jax.tree.flatten(carry)
            parts = [jnp.asarray(stored[f"{place}"]) for place in range(len(leaves))]
        return int(done), float(spent), jax.tree.unflatten(shape, parts)

    def _finished(self) -> tuple[list[Any], list[Any]]:
        load_weights(self.model, self._file)
        return _values(self.model)


def _write_targets(file: Path, teachers: list[tuple[Any, Any]], pictures: Any, blocks: Sequence[int]) -> None:
    """Write the teachers' mean answer to each picture and its mirror image, as `tools/distil.py` keeps them.

    teachers: what answers blocks of this shape, and its values.
    """
    import jax.numpy as jnp

    chunk = blocks[0] * blocks[1]
    means = [np.zeros((len(pictures), len(labels)), np.float32) for labels in HEADS.values()]
    for answers, values in teachers:
        for start in range(0, len(pictures), chunk):
            some = pictures[start : start + chunk]
            padded = jnp.pad(some, ((0, chunk - len(some)), (0, 0), (0, 0))).reshape(*blocks, CANVAS, CANVAS)
            for view in answers(*values, padded):
                for mean, head in zip(means, view, strict=True):
                    said = np.asarray(head, np.float32).reshape(chunk, -1)[: len(some)]
                    mean[start : start + chunk] += said / (2 * len(teachers))
    _write(file, {name: mean.astype(np.float16) for name, mean in zip(HEADS, means, strict=True)})


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


def _data(pack: Path, facts: Any, limit: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    import jax.numpy as jnp

    labels, votes = facts["train_labels"], facts["train_votes"].astype(np.float32)
    total = votes.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, votes / np.maximum(total, 1), 1 / len(FERPLUS)).astype(np.float32)
    data = {
        "x": _unpacked(pack, "train", len(labels))[:limit],
        "label": np.eye(len(FER2013), dtype=np.float32)[labels][:limit],
        "votes": shares[:limit],
        "known": (total[:, 0] > 0).astype(np.float32)[:limit],
        "unlabelled": facts["photographs"],
    }
    block = 512 if limit is None else limit
    count = len(facts["validation_labels"]) // block * block if limit is None else limit
    faces = _unpacked(pack, "validation", len(facts["validation_labels"]))[:count]
    held = {
        "x": jnp.asarray(faces.reshape(-1, block, CANVAS, CANVAS)),
        "labels": facts["validation_labels"][:count],
    }
    return {key: jnp.asarray(value) for key, value in data.items()}, held


def _values(model: Any) -> tuple[list[Any], list[Any]]:
    return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]


def _carry(model: Any) -> tuple[Any, ...]:
    """Weights, statistics, momentum, the averages of both, and the step; copies, because the carry is donated."""
    import jax.numpy as jnp

    def copies(values: list[Any]) -> list[Any]:
        return [jnp.array(value, copy=True) for value in values]

    weights, rest = _values(model)
    momentum = [jnp.zeros_like(weight) for weight in weights]
    return copies(weights), copies(rest), momentum, copies(weights), copies(rest), jnp.zeros((), jnp.int32)


def _epoch(model: Any, teachers: list[Any], batch: int, unlabelled: int) -> Callable[..., Any]:
    """Return one epoch as one compiled loop: SGD with Nesterov momentum, L2 on kernels, EMA of all weights."""
    import jax
    import jax.numpy as jnp

    def epoch(carry: Any, known: Any, data: Any, plan: Any) -> Any:
        key, rates, mix = plan
        order_key, step_key, other_key = jax.random.split(key, 3)
        rows = jax.random.permutation(order_key, len(data["x"]))[: len(rates) * batch].reshape(-1, batch)
        others = jax.random.randint(other_key, (len(rates), unlabelled), 0, max(1, len(data["unlabelled"])))

        def step(carry: Any, item: Any) -> Any:
            weights, rest, momentum, mean_weights, mean_rest, t = carry
            row, other, rate, key = item
            augment_key, beta_key, partner_key, mix_key = jax.random.split(key, 4)
            pictures = data["x"][row]
            if teachers and unlabelled:
                pictures = jnp.concatenate([pictures, data["unlabelled"][other]])
            x = augmented(augment_key, pictures)
            # Mixup (Zhang et al. 2018, arXiv:1710.09412) on half of the batches, labelled with labelled.
            share = jax.random.beta(beta_key, 0.3, 0.3, (len(x),))
            share = jnp.where((jax.random.uniform(mix_key) < 0.5) & mix, share, 1.0)
            partner = jax.random.permutation(partner_key, batch)
            if len(x) > batch:
                partner = jnp.concatenate(
                    [partner, jax.random.permutation(mix_key, jnp.arange(batch, len(x)))]
                )
            wide = share[:, None, None, None]
            x = wide * x + (1 - wide) * x[partner]
            mine, pair = share[:batch, None], partner[:batch]

            def mixed(values: Any) -> Any:
                return mine * values[row] + (1 - mine) * values[row][pair]

            label = mixed(data["label"]) * (1 - SMOOTHING) + SMOOTHING / len(FER2013)
            votes = mixed(data["votes"])
            voted = jnp.minimum(data["known"][row], jnp.where(mine[:, 0] < 1, data["known"][row][pair], 1))
            views = x, x[:, :, ::-1]  # every second teacher sees the mirror image
            said = [
                one.stateless_call(*values, views[place % 2], training=False)[0]
                for place, (one, values) in enumerate(zip(teachers, known, strict=True))
            ]
            soft = [jax.lax.stop_gradient(sum(heads) / len(teachers)) for heads in zip(*said, strict=True)]

            def loss_of(weights: Any) -> Any:
                answers, new = model.stateless_call(weights, rest, x, training=True)
                logs = [jnp.log(answer + 1e-8) for answer in answers]
                loss = -(label * logs[0][:batch]).sum(1).mean()
                loss -= (votes * logs[1][:batch]).sum(1) @ voted / jnp.maximum(voted.sum(), 1)
                if soft:
                    distilled = -sum((one * log).sum(1).mean() for one, log in zip(soft, logs, strict=True))
                    loss = LABELS_SHARE * loss + (1 - LABELS_SHARE) * distilled
                return loss, new

            (loss, rest), slopes = jax.value_and_grad(loss_of, has_aux=True)(weights)
            slopes = [g + DECAY * w if w.ndim > 1 else g for g, w in zip(slopes, weights, strict=True)]
            momentum = [MOMENTUM * m + g for m, g in zip(momentum, slopes, strict=True)]
            weights = [
                w - rate * (g + MOMENTUM * m) for w, g, m in zip(weights, slopes, momentum, strict=True)
            ]
            t = t + 1
            keep = jnp.minimum(EMA, (1 + t) / (10 + t))

            def average(old: list[Any], now: list[Any]) -> list[Any]:
                return [
                    o * keep + (1 - keep) * n if jnp.issubdtype(n.dtype, jnp.floating) else n
                    for o, n in zip(old, now, strict=True)
                ]

            carry = weights, rest, momentum, average(mean_weights, weights), average(mean_rest, rest), t
            return carry, loss

        return jax.lax.scan(step, carry, (rows, others, rates, jax.random.split(step_key, len(rates))))

    return epoch


def _answers(model: Any) -> Any:
    """Return what answers blocks of pictures, (blocks, n, CANVAS, CANVAS): heads, then of their mirrors."""
    import jax
    import jax.numpy as jnp

    cut = (CANVAS - HOW.size) // 2

    def answers(weights: Any, rest: Any, blocks: Any) -> Any:
        def one(block: Any) -> Any:
            x = block[:, cut : cut + HOW.size, cut : cut + HOW.size, None].astype(jnp.float32)
            return [
                model.stateless_call(weights, rest, view, training=False)[0] for view in (x, x[:, :, ::-1])
            ]

        return jax.lax.map(one, blocks)

    return jax.jit(answers)


def _scores(answers: Any, weights: Any, rest: Any, held: Any) -> str:
    plain, mirrored = (
        np.asarray(heads[0], np.float32).reshape(-1, len(FER2013))
        for heads in answers(weights, rest, held["x"])
    )
    labels = held["labels"]
    one, two = (np.mean(answer.argmax(1) == labels) for answer in (plain, plain + mirrored))
    return f"PublicTest's first {len(labels):,}: {100 * one:.2f} %, with the mirror image {100 * two:.2f} %"


def _say(line: str) -> None:
    print(f"[{time.monotonic() - START:6.1f} s] {line}", flush=True)


if __name__ == "__main__":
    main()
