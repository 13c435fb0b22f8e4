"""TrainConfig: every training setting, its default, its meaning and its check."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mien.data.dataset import DataConfig
from mien.errors import ConfigError
from mien.model.calibration import CLASS_WEIGHTS
from mien.model.metadata import Metadata
from mien.settings import (
    ABOVE_0,
    BELOW_1,
    BETWEEN,
    COMMON,
    FROM_0,
    SEED,
    SHARE,
    above_0_to,
    at_least,
    from_mapping,
    from_to,
    setting,
    to_mapping,
)

_common = partial(setting, group=COMMON)
_network = partial(setting, group="expert settings: the network")
_faces = partial(setting, group="expert settings: faces and labels")
_augment = partial(setting, group="expert settings: augmentation")
_optimise = partial(setting, group="expert settings: optimisation")
_run = partial(setting, group="expert settings: running")
SMALL_SET = 5000  # training pictures below which a set is treated as small
# What a later phase of a recipe may change; the network, the data and the batches stay as they are.
PHASE_SETTINGS = (
    "epochs", "learning_rate", "schedule", "patience", "class_weights", "unfreeze", "optimizer", "mixup_until",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig):
    """What `mien train` does. Checked when it is made; raises ConfigError with one line."""

    # network
    network: str = _common("small", "network by name; `mien train --list` shows them")
    size: int | None = _common(
        None, "pixels a side of the network's input; unset: the network's own", within=ABOVE_0
    )
    resize: int | None = _network(
        None,
        "pixels a side that a face is scaled to before its centre of that size is cut out; unset: size",
        within=ABOVE_0,
    )
    colour: str | None = _network(
        None, "colour of the input; unset: the network's own", choices=("grey", "rgb", "bgr")
    )
    dropout: float | None = _network(None, "dropout rate; unset: the network's own", within=BELOW_1)
    l2: float | None = _network(None, "L2 penalty on kernels, in the loss; unset: the network's own")
    weights: str = _network(
        "imagenet", "backbones only: 'imagenet' (Keras downloads them), 'none', or a local weight file"
    )
    unfreeze: int = _network(
        0, "backbones and --from: layers unfrozen, counted from the top; -1: all", within=at_least(-1)
    )
    feature_views: int = _network(
        0,
        "in phases whose base is frozen: compute its features once for this many variations of each picture and train "
        "the head on those, seconds an epoch; 0: look at new variations every epoch",
        within=FROM_0,
    )
    init_from: str | None = _common(
        None,
        "start from this trained model (run, model folder, .keras): new head first, then the trunk",
        flag="--from",
    )
    input_range: tuple[float, ...] = _network(
        (),
        "with --from a network that mien did not save: values of black and white in its input; unset: its own",
    )
    # faces and labels
    faces: str | None = _common(
        None,
        "'whole': each picture is a face; 'crop': find and crop the face; unset: as for the network that --from names, "
        "else whole",
        choices=("whole", "crop"),
    )
    detector: str | None = _common(
        None,
        "with --faces crop: face detector, mien (ships with it), yunet or haar; recorded in the run; unset: that of "
        "the network that --from names, else mien",
    )
    detector_file: str | None = _faces(
        None, "with --detector: a detector of your own (a folder of mien train-detector), or a YuNet file"
    )
    limit: int | None = _faces(
        None, "train on this many pictures, drawn at random with the seed; unset: all", within=ABOVE_0
    )
    votes_weight: float = _faces(
        0.5, "weight of the FER+ votes head where the data has votes; 0: no such head", within=FROM_0
    )
    blend: float | None = _faces(
        None,
        "with a votes head: its share in the answer `expression`, which mixes both heads and becomes the default; "
        "unset: no such answer",
        within=BETWEEN,
    )
    logit_adjustment: float = _faces(
        0.0,
        "with --blend: how much of each class's share in the training pictures is taken out of that answer, so that "
        "rare ones are named more often; 0: nothing, 1: all (tau in Menon et al. 2021)",
        within=SHARE,
    )
    margin: float | None = _faces(
        None,
        "side of the crop over the face box's longer side, where faces are cut out; unset: that of the network that "
        "--from names, else 1",
    )
    class_weights: str = _faces(
        "sqrt",
        "weight of a picture by its class: none, sqrt (inverse root of the class count), full (inverse count)",
        choices=tuple(CLASS_WEIGHTS),
    )
    label_smoothing: float = _faces(
        0.1, "share of each target spread evenly over the classes", within=BELOW_1
    )
    teacher: tuple[str, ...] = _common(
        (),
        "learn from these trained networks as well (runs or model folders): the mean of their answers is a soft target "
        "(Hinton et al. 2015)",
    )
    teacher_views: str = _faces(
        "clean",
        "with --teacher: clean: its answers to each picture and its mirror image, computed once and kept in the run "
        "folder; varied: its answers to every variation, anew in every epoch (Beyer et al. 2022)",
        choices=("clean", "varied"),
    )
    teacher_weight: float = _faces(
        0.7,
        "with --teacher: weight of the teachers' answers in the targets, the rest is the labels'",
        within=above_0_to(1),
    )
    teacher_temperature: float = _faces(
        2.0,
        "with --teacher: what the teachers' logits are divided by; higher shows more of what else they see",
        within=ABOVE_0,
    )
    # augmentation
    augment: bool = _augment(True, "whether training pictures are varied at all")
    flip: bool = _augment(True, "mirror half of the pictures")
    rotation: float = _augment(12.0, "rotate by up to this many degrees", within=FROM_0)
    wide_rotation: float = _augment(
        0.0, "rotate one picture in seven by up to this many degrees instead; 0: none", within=FROM_0
    )
    shift: float = _augment(0.08, "shift by up to this share of the side", within=BELOW_1)
    zoom: float = _augment(0.2, "scale by 1 minus to 1 plus this", within=BELOW_1)
    shear: float = _augment(0.0, "shear by up to this, as the tangent of the angle", within=FROM_0)
    contrast: float = _augment(0.3, "contrast times 1 minus to 1 plus this", within=BELOW_1)
    brightness: float = _augment(30.0, "brightness plus or minus this many levels of 255", within=FROM_0)
    gamma: float = _augment(0.0, "gamma of some pictures, exp(-this) to exp(this)", within=FROM_0)
    side_light: float = _augment(
        0.0, "light from one side on some pictures: 1 minus to 1 plus this at the edges", within=BELOW_1
    )
    low_contrast: float = _augment(
        0.0,
        "some pictures keep half of their levels, or as little as this share; 0: none",
        within=from_to(0, 0.5),
    )
    sharpen: float = _augment(
        0.0, "unsharp mask on some pictures, of up to this amount; some are blurred instead", within=FROM_0
    )
    jpeg_quality: int = _augment(
        0, "some pictures are compressed, down to this JPEG quality; 0: none", within=from_to(0, 90)
    )
    noise: float = _augment(
        0.0, "Gaussian noise of up to this standard deviation in levels of 255", within=FROM_0
    )
    blur: float = _augment(
        0.1, "probability that a picture is softened by shrinking and enlarging it", within=SHARE
    )
    erasing: float = _augment(
        0.5, "probability that a random rectangle is overwritten (Zhong et al. 2017)", within=SHARE
    )
    fill: str = _augment(
        "reflect", "what fills the border after a warp", choices=("reflect", "nearest", "zero")
    )
    mixup: float = _augment(
        0.2, "alpha of mixup's Beta distribution (Zhang et al. 2018); 0: off", within=FROM_0
    )
    cutmix: float = _augment(
        0.0, "alpha of CutMix's Beta distribution (Yun et al. 2019); 0: off", within=FROM_0
    )
    mixup_prob: float = _augment(0.5, "share of the batches that are mixed", within=SHARE)
    mixup_until: float = _augment(
        0.85, "mixup and CutMix end after this share of the epochs; 1: never", within=SHARE
    )
    # optimisation
    epochs: int | None = _common(
        None,
        "passes over the training pictures in each phase (--from has two); unset: 30, and up to 150 for sets of under "
        "5,000 pictures",
        within=ABOVE_0,
    )
    batch_size: int | None = _common(
        None,
        "pictures per optimiser step; unset: 128, down to 16 so that an epoch has at least 16 steps",
        within=ABOVE_0,
    )
    optimizer: str | None = _optimise(
        None,
        "optimiser; unset: sgd, but adamw for sets of under 5,000 pictures and on a pretrained base",
        choices=("sgd", "adam", "adamw"),
    )
    learning_rate: float | None = _common(
        None,
        "peak learning rate; unset: sgd 0.08 for 128 pictures a step, in proportion; adam 0.001; adamw 0.003; a tenth "
        "where layers of a pretrained base learn",
        within=ABOVE_0,
    )
    schedule: str = _optimise(
        "cosine",
        "cosine: warm up, then one cosine to zero; plateau: divide when validation loss stalls; constant",
        choices=("cosine", "plateau", "constant"),
    )
    warmup: float = _optimise(
        0.1, "cosine only: share of the epochs spent warming up, at most five epochs", within=BELOW_1
    )
    plateau_patience: int = _optimise(
        3, "plateau only: epochs without a better validation loss before it acts", within=ABOVE_0
    )
    plateau_factor: float = _optimise(
        0.5, "plateau only: what the learning rate is multiplied by", within=ABOVE_0
    )
    plateau_floor: float = _optimise(1e-6, "plateau only: lowest learning rate", within=FROM_0)
    weight_decay: float | None = _optimise(
        None,
        "decoupled weight decay, not on biases and normalisation; unset: 0.005 for sgd, 0.02 for adamw, 0 for adam",
        within=FROM_0,
    )
    ema: float = _optimise(
        0.998,
        "decay per step of the moving average of weights that is validated and kept; 0: off",
        within=BELOW_1,
    )
    patience: int = _optimise(
        0, "stop after this many epochs without a better validation loss; 0: never", within=FROM_0
    )
    monitor: str = _optimise(
        "accuracy", "which epoch is kept as best, on validation", choices=("accuracy", "loss", "last")
    )
    time_limit: str | None = _common(None, "plan the epochs to fit this much time, such as 90m or 1h30m")
    folds: int = _common(
        0,
        "K: train K networks, each without one of K parts of the pictures, and one on all, which ships; its accuracy "
        "is that of the K on what they had not seen; for small sets. 0: set validation pictures aside instead",
    )
    # running
    seed: int = _common(0, "seed of weights, order and augmentation", within=SEED)
    precision: str = _run(
        "auto",
        "auto: mixed (bfloat16) on GPUs, and for our own networks on processors with AVX-512 BF16 or AMX; else float32",
        choices=("auto", "float32", "mixed"),
    )
    devices: str = _run(
        "all",
        "devices of this machine that share each batch: all, or how many; several need the JAX backend",
    )
    h5: bool = _run(False, "also save the best network as .h5")
    int8: bool = _run(
        False, "also write an int8 form of the network, unless it loses more than 0.3 points on validation"
    )
    tracker: str | None = _run(
        None,
        "also log settings, epochs and the model with this experiment tracker, which must be installed",
        choices=("mlflow", "wandb", "tensorboard"),
    )
    phases: tuple[Mapping[str, Any], ...] = _run(
        (), "later phases, each with settings to change", option=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.devices != "all" and not (
            self.devices.isascii() and self.devices.isdigit() and int(self.devices)
        ):
            raise ConfigError(f"devices must be all, or a number from 1, got {self.devices!r}")
        if self.time_limit is not None:
            seconds_of(self.time_limit)
        for phase in self.phases:
            if unknown := sorted(set(phase) - set(PHASE_SETTINGS)):
                raise ConfigError(
                    f"a phase cannot change {', '.join(unknown)}; it can change {', '.join(PHASE_SETTINGS)}"
                )

    @property
    def whole_levels(self) -> bool:
        """Whether training pictures stay at whole levels of 0-255: nothing asked for makes fractions of them."""
        fractions = (
            self.contrast, self.brightness, self.gamma, self.side_light, self.low_contrast, self.sharpen,
            self.jpeg_quality, self.noise, self.erasing,
        )  # fmt: skip
        return not (self.mixup or self.cutmix or (self.augment and any(fractions)))

    def cutting_like(self, start: Metadata | None) -> TrainConfig:
        """Return this config with everything set that says how faces are cut out.

        start: of the network that --from names, whose faces were cut in the only way that it knows; None: no such
        network, or one that says nothing of it.
        """
        known = start.face_detector if start else None
        faces = self.faces or ("crop" if known else "whole")
        detector, file = self.detector, self.detector_file
        if faces == "crop" and known and not (detector or file):
            detector, file = known
        margin = self.margin if self.margin is not None else start.preprocess.margin if start else 1.0
        return replace(self, faces=faces, detector=detector or "mien", detector_file=file, margin=margin)

    def for_pictures(self, count: int, *, pretrained: bool = False) -> TrainConfig:
        """Return this config with everything set that depends on the number of training pictures.

        pretrained: whether the network stands on trained weights: then AdamW as well, and gently where those learn too.
        SGD's rate, which is for a whole network from scratch, is far too high for a head on features that never change.

        A small set gets smaller batches and more passes, because what a network needs is optimiser steps: about
        2,000 of them where 150 passes allow it. It also gets AdamW: 30 passes over 272 drawn faces of four classes
        took the small network to 92.5 % of 80 test faces with it (87.5 % at a rate of 0.001), and to 72.5 % with SGD.
        """
        small = count < SMALL_SET
        batch = self.batch_size or max(16, min(128, 2 ** int(math.log2(max(count // 16, 16)))))
        steps = math.ceil(count / batch)
        optimizer = self.optimizer or ("adamw" if small or pretrained else "sgd")
        decay = {"sgd": 0.005, "adam": 0.0, "adamw": 0.02}[optimizer]
        rate = {"sgd": 0.08 * batch / 128, "adam": 0.001, "adamw": 0.003}[optimizer]
        if pretrained and self.unfreeze:
            rate /= 10
        return replace(
            self,
            batch_size=batch,
            epochs=self.epochs or (max(30, min(150, 2000 // steps)) if small else 30),
            optimizer=optimizer,
            learning_rate=self.learning_rate or rate,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
        )

    @property
    def rate(self) -> float:
        """The peak learning rate, once `for_pictures` has set it."""
        assert self.learning_rate is not None
        return self.learning_rate

    def in_phases(self) -> tuple[TrainConfig, ...]:
        """Return one config a phase: this one first, then each later phase with its changes laid over the last."""
        configs = [replace(self, phases=())]
        for phase in self.phases:
            configs.append(from_mapping(TrainConfig, {**to_mapping(configs[-1]), **phase}, "phase"))
        return tuple(configs)


def seconds_of(text: str) -> float:
    """Read `90m`, `1h30m`, `45s` or plain minutes such as `90` as seconds; ConfigError otherwise."""
    number = r"(\d+(?:\.\d+)?)"
    plain = text.strip() + ("m" if re.fullmatch(number, text.strip()) else "")
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", plain)
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    total = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if total <= 0:
        raise ConfigError(f"time_limit must look like 90m, 1h30m or 45s, got {text!r}")
    return total
