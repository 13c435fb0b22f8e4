"""Train teachers and a student of them on one accelerator in minutes, everything in its memory (Keras on JAX).

    python tools/train_on_gpu.py pack fer2013.csv --photographs faces.npz --to pack        # here, 60 MB
    KERAS_BACKEND=jax python tools/train_on_gpu.py train pack --to out --time-limit 9m      # there
    python tools/finish_network.py out/small.npz fer2013.csv --network small --to run       # here again

`pack` stores FER-2013 as mosaics (Training as JPEG of quality 96, PublicTest as PNG), its FER+ votes and, where they
are given, grey faces of photographs without labels. `train` needs NumPy, OpenCV, JAX, Keras (wheels: keras, namex,
optree), and this repository's src on PYTHONPATH. It trains `wide` and `residual` on the labels, then `small` on the
labels and on what both teachers say of the same varied pictures (Beyer et al. 2022, arXiv:2106.05237), photographs
included.
The time is shared out beforehand, epochs are planned by the second epoch, and each network is written when it is done.

Measured on one H100 with JAX 0.11 and 16 cores, by the first version of this script: building and tracing 50 s; an
epoch of `wide` .48 s, of `residual` .93 s. Depthwise networks are left out: compiling EfficientNet-Lite0's grouped
convolutions took seven minutes and held up everything else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.labels import FER2013, FERPLUS
from mien.model.preprocess import Preprocess
from mien.train.schedule import seconds_of

HEADS = {"fer2013": FER2013, "votes": FERPLUS}
HOW = Preprocess(size=44, resize=48)
CANVAS = 64  # pixels a side of the stored pictures: the network's 48 and 8 around them
ACROSS = 64  # pictures in a row of a mosaic
SHARES = {"wide": 0.15, "residual": 0.3, "small": 0.55}  # of the time that is left after the start
BATCH, UNLABELLED = 256, 48
PEAK, DECAY, MOMENTUM, EMA = 0.15, 5e-4, 0.9, 0.998
SMOOTHING, LABELS_SHARE = 0.1, 0.3  # the labels' share in what the student learns from
CLEAN_FROM = 0.88  # share of the epochs after which pictures are no longer mixed
START = time.monotonic()


def main() -> None:
    """Pack, or train what was packed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("pack")
    one.add_argument("data", type=Path)
    one.add_argument("--photographs", type=Path, help=f".npz with `x`, (n, {CANVAS}, {CANVAS}) uint8")
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
    extra = np.load(photographs)["x"] if photographs else np.zeros((0, CANVAS, CANVAS), np.uint8)
    np.savez_compressed(to / "facts.npz", photographs=extra, **facts)
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
    """Train the three networks; writes out/NAME.npz, weights by their Keras paths, when each is done."""
    import jax
    import keras

    from mien.train.networks import network
    from mien.train.networks.spec import NetworkRequest

    to.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    on_cpu = jax.default_backend() == "cpu"
    keras.config.set_dtype_policy("float32" if on_cpu else "mixed_bfloat16")
    facts = np.load(pack / "facts.npz")
    data, held = _data(pack, facts, limit)
    networks = {name: network(name).build(NetworkRequest(heads=HEADS, preprocess=HOW)) for name in SHARES}
    teachers = [networks["wide"], networks["residual"]]
    steps = len(data["x"]) // BATCH
    pool = ThreadPoolExecutor(len(SHARES))
    jobs: dict[str, Any] = {}
    for name, model in networks.items():
        student = name == "small"
        epoch = _epoch(model, teachers if student else [], UNLABELLED if len(data["unlabelled"]) else 0)
        known = [_values(one) for one in teachers] if student else []
        lowered = jax.jit(epoch, donate_argnums=0).lower(
            _carry(model), known, data, (jax.random.key(0), np.zeros(steps, np.float32), np.bool_(True))
        )
        predict = _predict(model)
        evaluate = predict.lower(*_values(model), held["x"])
        jobs[name] = pool.submit(lowered.compile), pool.submit(evaluate.compile)
        _say(f"{name}: {model.count_params():,} parameters, traced")
    for name, model in networks.items():
        run, predict = (job.result() for job in jobs[name])
        if name == next(iter(networks)):
            left = limit_s - (time.monotonic() - START)
        known = [_values(one) for one in teachers] if name == "small" else []
        carry = _Stage(name, run, predict, SHARES[name] * left, steps, seed).train(
            _carry(model), known, data, held
        )
        for variables, values in (
            (model.trainable_variables, carry[3]),
            (model.non_trainable_variables, carry[4]),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        weights: dict[str, Any] = {
            variable.path: np.asarray(variable.value)
            for variable in model.variables
            if "seed" not in variable.path  # of dropout's generator
        }
        np.savez(to / f"{name}.npz", **weights)


@dataclass(frozen=True)
class _Stage:
    """One network's compiled epoch and evaluation, and its share of the time."""

    name: str
    run: Any
    predict: Any
    budget_s: float
    steps: int
    seed: int

    def train(self, carry: Any, known: Any, data: Any, held: Any) -> Any:
        """Train within the budget; returns the carry, whose averaged weights are the ones to keep."""
        import jax

        began, key = time.monotonic(), jax.random.key(self.seed + 17)
        epochs, done, tick = None, 0, began
        while epochs is None or done < epochs:
            rates = _rates(done, epochs, self.steps)
            mix = np.bool_(epochs is None or done < CLEAN_FROM * epochs)
            plan = jax.random.fold_in(key, done), rates, mix
            carry, losses = self.run(carry, known, data, plan)
            loss, done = float(np.mean(losses)), done + 1
            epoch_s, tick = time.monotonic() - tick, time.monotonic()
            if not np.isfinite(loss):
                raise SystemExit(f"{self.name}: the loss of epoch {done} is {loss}")
            if done == 2:
                epochs = max(3, 2 + int((began + self.budget_s - tick) / (1.03 * epoch_s)))
                _say(f"{self.name}: {epoch_s:.2f} s an epoch, {epochs} planned")
            if epochs and (done % max(1, epochs // 6) == 0 or done == epochs):
                scores = _scores(self.predict, carry[3], carry[4], held)
                _say(f"{self.name}: {done}/{epochs} loss {loss:.3f} {scores}")
        return carry


def _rates(done: int, epochs: int | None, steps: int) -> NDArray[np.float32]:
    """Two epochs of warm-up, whose time tells how many fit; then one cosine to zero."""
    at = done + np.arange(steps) / steps
    rates = PEAK * at / 2 if epochs is None else PEAK / 2 * (1 + np.cos(np.pi * (at - 2) / (epochs - 2)))
    return np.asarray(rates, np.float32)


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
    count = len(facts["validation_labels"]) // 512 * 512 if limit is None else 512
    faces = _unpacked(pack, "validation", len(facts["validation_labels"]))[:count]
    held = {
        "x": jnp.asarray(faces.reshape(-1, 512, CANVAS, CANVAS)),
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


def _epoch(model: Any, teachers: list[Any], unlabelled: int) -> Callable[..., Any]:
    """Return one epoch as one compiled loop: SGD with Nesterov momentum, L2 on kernels, EMA of all weights."""
    import jax
    import jax.numpy as jnp

    def epoch(carry: Any, known: Any, data: Any, plan: Any) -> Any:
        key, rates, mix = plan
        order_key, step_key, other_key = jax.random.split(key, 3)
        rows = jax.random.permutation(order_key, len(data["x"]))[: len(rates) * BATCH].reshape(-1, BATCH)
        others = jax.random.randint(other_key, (len(rates), unlabelled), 0, max(1, len(data["unlabelled"])))

        def step(carry: Any, item: Any) -> Any:
            weights, rest, momentum, mean_weights, mean_rest, t = carry
            row, other, rate, key = item
            augment_key, beta_key, partner_key, mix_key = jax.random.split(key, 4)
            pictures = data["x"][row]
            if teachers and unlabelled:
                pictures = jnp.concatenate([pictures, data["unlabelled"][other]])
            x = _augmented(augment_key, pictures)
            # Mixup (Zhang et al. 2018, arXiv:1710.09412) on half of the batches, labelled with labelled.
            share = jax.random.beta(beta_key, 0.3, 0.3, (len(x),))
            share = jnp.where((jax.random.uniform(mix_key) < 0.5) & mix, share, 1.0)
            partner = jax.random.permutation(partner_key, BATCH)
            if len(x) > BATCH:
                partner = jnp.concatenate(
                    [partner, jax.random.permutation(mix_key, jnp.arange(BATCH, len(x)))]
                )
            wide = share[:, None, None, None]
            x = wide * x + (1 - wide) * x[partner]
            mine, pair = share[:BATCH, None], partner[:BATCH]

            def mixed(values: Any) -> Any:
                return mine * values[row] + (1 - mine) * values[row][pair]

            label = mixed(data["label"]) * (1 - SMOOTHING) + SMOOTHING / len(FER2013)
            votes = mixed(data["votes"])
            voted = jnp.minimum(data["known"][row], jnp.where(mine[:, 0] < 1, data["known"][row][pair], 1))
            said = [
                one.stateless_call(*values, x, training=False)[0]
                for one, values in zip(teachers, known, strict=True)
            ]
            soft = [jax.lax.stop_gradient(sum(heads) / len(teachers)) for heads in zip(*said, strict=True)]

            def loss_of(weights: Any) -> Any:
                answers, new = model.stateless_call(weights, rest, x, training=True)
                logs = [jnp.log(answer + 1e-8) for answer in answers]
                loss = -(label * logs[0][:BATCH]).sum(1).mean()
                loss -= (votes * logs[1][:BATCH]).sum(1) @ voted / jnp.maximum(voted.sum(), 1)
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


def _augmented(key: Any, pictures: Any) -> Any:
    """Vary pictures on the device as `mien.train.augment` does on the host: place, light, lens, sensor, cover.

    pictures: (n, CANVAS, CANVAS) uint8. Returns (n, size, size, 1) float32, levels in [0, 255].
    """
    import jax
    import jax.numpy as jnp

    count, side = len(pictures), HOW.size
    keys: Iterator[Any] = iter(jax.random.split(key, 40))

    def uniform(low: float, high: float) -> Any:
        return jax.random.uniform(next(keys), (count, 1, 1), minval=low, maxval=high)

    def some(share: float) -> Any:
        return uniform(0, 1) < share

    grid = jnp.arange(side) - (side - 1) / 2
    across, down = grid[None, None, :], grid[None, :, None]
    angle = jnp.deg2rad(jnp.where(some(1 / 7), uniform(-40, 40), uniform(-12, 12)))
    scale = jnp.exp(uniform(float(np.log(0.8)), float(np.log(1.25))))
    stretch, flip = jnp.exp(uniform(-0.07, 0.07)), jnp.where(some(0.5), -1.0, 1.0)
    x0 = across * flip * scale * stretch + down * scale / stretch * uniform(-0.08, 0.08)
    y0 = down * scale / stretch + 0 * across
    middle = (CANVAS - 1) / 2
    x0, y0 = (
        jnp.cos(angle) * x0 - jnp.sin(angle) * y0 + middle + uniform(-4, 4),
        jnp.sin(angle) * x0 + jnp.cos(angle) * y0 + middle + uniform(-4, 4),
    )
    x = _bilinear(pictures.astype(jnp.float32), y0, x0)
    x = jnp.where(some(0.3), 255 * (jnp.clip(x, 0, 255) / 255 + 1e-6) ** jnp.exp(uniform(-0.7, 0.7)), x)
    mean = x.mean((1, 2), keepdims=True)
    x = (x - mean) * uniform(0.6, 1.4) + mean + uniform(-30, 30)
    towards = uniform(0, 2 * np.pi)
    light = (across * jnp.cos(towards) + down * jnp.sin(towards)) / (side / 2)
    x = jnp.clip(jnp.where(some(0.3), x * (1 + uniform(0, 0.7) * light), x), 0, 255)
    kernel = jnp.exp(-0.5 * ((grid[:, None] - grid[None, :])[None] / uniform(0.3, 1.6)) ** 2)
    kernel = kernel / kernel.sum(2, keepdims=True)
    soft = jnp.einsum("nij,njk,nlk->nil", kernel, x, kernel)
    which = uniform(0, 1)
    x = jnp.where(which < 0.3, soft, jnp.where(which < 0.6, x + uniform(0, 1.5) * (x - soft), x))
    left = uniform(0.08, 0.5)
    x = jnp.where(some(0.3), jnp.round(x * left) / left, x)
    x = jnp.clip(x + uniform(0, 8) * jax.random.normal(next(keys), x.shape), 0, 255)
    area, ratio = uniform(0.02, 0.2), jnp.exp(uniform(-1.2, 1.2))
    height, width = side * jnp.sqrt(area * ratio), side * jnp.sqrt(area / ratio)
    top, start = uniform(0, 1) * (side - height), uniform(0, 1) * (side - width)
    row, column = jnp.arange(side)[None, :, None], jnp.arange(side)[None, None, :]
    inside = (row >= top) & (row < top + height) & (column >= start) & (column < start + width)
    return jnp.where(inside & some(0.5), uniform(0, 255), x)[..., None]


def _bilinear(pictures: Any, y: Any, x: Any) -> Any:
    """Read (n, side, side) pictures at places (n, h, w); beyond the border, at the border."""
    import jax.numpy as jnp

    count, side, _ = pictures.shape
    y, x = jnp.clip(y, 0, side - 1.001), jnp.clip(x, 0, side - 1.001)
    top, left = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    down, across = y - top, x - left
    flat = pictures.reshape(count, -1)

    def at(row: Any, column: Any) -> Any:
        return jnp.take_along_axis(flat, (row * side + column).reshape(count, -1), axis=1).reshape(y.shape)

    upper = at(top, left) * (1 - across) + at(top, left + 1) * across
    lower = at(top + 1, left) * (1 - across) + at(top + 1, left + 1) * across
    return upper * (1 - down) + lower * down


def _predict(model: Any) -> Any:
    import jax
    import jax.numpy as jnp

    cut = (CANVAS - HOW.size) // 2

    def predict(weights: Any, rest: Any, blocks: Any) -> Any:
        def one(block: Any) -> Any:
            x = block[:, cut : cut + HOW.size, cut : cut + HOW.size, None].astype(jnp.float32)
            plain = model.stateless_call(weights, rest, x, training=False)[0][0]
            return plain, model.stateless_call(weights, rest, x[:, :, ::-1], training=False)[0][0]

        return jax.lax.map(one, blocks)

    return jax.jit(predict)


def _scores(predict: Any, weights: Any, rest: Any, held: Any) -> str:
    plain, mirrored = (np.asarray(one).reshape(-1, len(FER2013)) for one in predict(weights, rest, held["x"]))
    labels = held["labels"]
    one, two = (np.mean(answer.argmax(1) == labels) for answer in (plain, plain + mirrored))
    return f"PublicTest's first {len(labels):,}: {100 * one:.2f} %, with the mirror image {100 * two:.2f} %"


def _say(line: str) -> None:
    print(f"[{time.monotonic() - START:6.1f} s] {line}", flush=True)


if __name__ == "__main__":
    main()
