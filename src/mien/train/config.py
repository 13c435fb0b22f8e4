"""TrainConfig: every training setting, its default, its meaning and its check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mien.data.dataset import DataConfig
from mien.errors import ConfigError
from mien.settings import from_mapping, setting, to_mapping

SMALL_SET = 5000  # training pictures below which a set is treated as small
# What a later phase of a recipe may change; the network, the data and the batches stay as they are.
PHASE_SETTINGS = (
    "epochs", "learning_rate", "schedule", "patience", "class_weights", "unfreeze", "optimizer", "mixup_off_epoch",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig):
    """What `mien train` does. Checked when it is made; raises ConfigError with one line."""

    # network
    network: str = setting("small", "network by name; `mien train --list` shows them")
    size: int | None = setting(None, "pixels a side of the network's input; unset: the network's own")
    resize: int | None = setting(
        None, "pixels a side that a face is scaled to before its centre of that size is cut out; unset: size"
    )
    colour: str | None = setting(
        None, "colour of the input; unset: the network's own", choices=("grey", "rgb", "bgr")
    )
    dropout: float | None = setting(None, "dropout rate; unset: the network's own")
    l2: float | None = setting(None, "L2 penalty on kernels, in the loss; unset: the network's own")
    weights: str = setting(
        "imagenet", "backbones only: 'imagenet' (Keras downloads them), 'none', or a local weight file"
    )
    unfreeze: int = setting(0, "backbones only: layers unfrozen, counted from the top; -1: all")
    init_from: str | None = setting(
        None,
        "start from this trained model (run, model folder, .keras): new head first, then the trunk",
        flag="--from",
    )
    # faces and labels
    faces: str = setting(
        "whole", "'whole': each picture is a face; 'crop': find and crop the face", choices=("whole", "crop")
    )
    limit: int | None = setting(
        None, "train on this many pictures, drawn at random with the seed; unset: all"
    )
    votes_weight: float = setting(
        0.5, "weight of the FER+ votes head where the data has votes; 0: no such head"
    )
    blend: float | None = setting(
        None,
        "with a votes head: its share in the answer `expression`, which mixes both heads and becomes the default; "
        "unset: no such answer",
    )
    logit_adjustment: float = setting(
        0.0,
        "with --blend: how much of each class's share in the training pictures is taken out of that answer, so that "
        "rare ones are named more often; 0: nothing, 1: all (tau in Menon et al. 2021)",
    )
    margin: float = setting(1.0, "side of the crop over the face box's longer side, where faces are cut out")
    class_weights: str = setting(
        "sqrt",
        "weight of a picture by its class: none, sqrt (inverse root of the class count), full (inverse count)",
        choices=("none", "sqrt", "full"),
    )
    label_smoothing: float = setting(0.1, "share of each target spread evenly over the classes")
    # augmentation
    augment: bool = setting(True, "whether training pictures are varied at all")
    flip: bool = setting(True, "mirror half of the pictures")
    rotation: float = setting(12.0, "rotate by up to this many degrees")
    wide_rotation: float = setting(
        0.0, "rotate one picture in seven by up to this many degrees instead; 0: none"
    )
    shift: float = setting(0.08, "shift by up to this share of the side")
    zoom: float = setting(0.2, "scale by 1 minus to 1 plus this")
    shear: float = setting(0.0, "shear by up to this, as the tangent of the angle")
    contrast: float = setting(0.3, "contrast times 1 minus to 1 plus this")
    brightness: float = setting(30.0, "brightness plus or minus this many levels of 255")
    gamma: float = setting(0.0, "gamma of some pictures, exp(-this) to exp(this)")
    side_light: float = setting(
        0.0, "light from one side on some pictures: 1 minus to 1 plus this at the edges"
    )
    low_contrast: float = setting(0.0, "some pictures keep as little as this share of their levels; 0: none")
    sharpen: float = setting(
        0.0, "unsharp mask on some pictures, of up to this amount; some are blurred instead"
    )
    jpeg_quality: int = setting(0, "some pictures are compressed, down to this JPEG quality; 0: none")
    noise: float = setting(0.0, "Gaussian noise of up to this standard deviation in levels of 255")
    blur: float = setting(0.1, "probability that a picture is softened by shrinking and enlarging it")
    erasing: float = setting(0.5, "probability that a random rectangle is overwritten (Zhong et al. 2017)")
    fill: str = setting(
        "reflect", "what fills the border after a warp", choices=("reflect", "nearest", "zero")
    )
    mixup: float = setting(0.2, "alpha of mixup's Beta distribution (Zhang et al. 2018); 0: off")
    cutmix: float = setting(0.0, "alpha of CutMix's Beta distribution (Yun et al. 2019); 0: off")
    mixup_prob: float = setting(0.5, "share of the batches that are mixed")
    mixup_off_epoch: float = setting(0.85, "mixing ends after this share of the epochs")
    # optimisation
    epochs: int | None = setting(
        None, "passes over the training pictures; unset: 30, and up to 150 for sets of under 5,000 pictures"
    )
    batch_size: int | None = setting(
        None, "pictures per optimiser step; unset: 128, down to 16 so that an epoch has at least 16 steps"
    )
    optimizer: str | None = setting(
        None,
        "optimiser; unset: sgd, but adamw for sets of under 5,000 pictures",
        choices=("sgd", "adam", "adamw"),
    )
    learning_rate: float | None = setting(
        None,
        "peak learning rate; unset: sgd 0.08 for 128 pictures a step, in proportion; adam 0.001; adamw 0.003",
    )
    schedule: str = setting(
        "cosine",
        "cosine: warm up, then one cosine to zero; plateau: divide when validation loss stalls; constant",
        choices=("cosine", "plateau", "constant"),
    )
    warmup: float = setting(0.1, "cosine only: share of the epochs spent warming up, at most five epochs")
    plateau_patience: int = setting(3, "plateau only: epochs without a better validation loss before it acts")
    plateau_factor: float = setting(0.5, "plateau only: what the learning rate is multiplied by")
    plateau_floor: float = setting(1e-6, "plateau only: lowest learning rate")
    weight_decay: float | None = setting(
        None, "decoupled weight decay, not on biases and normalisation; unset: 0.005 for sgd, 0.02 for adamw"
    )
    ema: float = setting(
        0.998, "decay per step of the moving average of weights that is validated and kept; 0: off"
    )
    patience: int = setting(0, "stop after this many epochs without a better validation loss; 0: never")
    monitor: str = setting(
        "accuracy", "which epoch is kept as best, on validation", choices=("accuracy", "loss", "last")
    )
    time_limit: str | None = setting(None, "plan the epochs to fit this much time, such as 90m or 1h30m")
    # running
    seed: int = setting(0, "seed of weights, order and augmentation")
    precision: str = setting(
        "auto",
        "auto: mixed (bfloat16) on GPUs, and for our own networks on processors with AVX-512 BF16 or AMX; else float32",
        choices=("auto", "float32", "mixed"),
    )
    h5: bool = setting(False, "also save the best network as .h5")
    int8: bool = setting(
        False, "also write an int8 form of the network, unless it loses more than 0.3 points on validation"
    )
    tensorboard: bool = setting(False, "write TensorBoard logs into the run folder")
    phases: tuple[Mapping[str, Any], ...] = setting(
        (), "later phases, each with settings to change", option=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = (
            "epochs",
            "batch_size",
            "learning_rate",
            "plateau_patience",
            "plateau_factor",
            "size",
            "resize",
            "limit",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in (
            "label_smoothing",
            "low_contrast",
            "side_light",
            "shift",
            "zoom",
            "contrast",
            "ema",
            "warmup",
        ):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        for name in ("erasing", "blur", "mixup_prob", "mixup_off_epoch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        not_negative = (
            "gamma",
            "rotation",
            "sharpen",
            "wide_rotation",
            "shear",
            "brightness",
            "noise",
            "mixup",
            "cutmix",
            "patience",
            "votes_weight",
            "seed",
        )
        for name in (*not_negative, "weight_decay", "plateau_floor"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.jpeg_quality <= 90:
            raise ConfigError(f"jpeg_quality must be from 0 to 90, got {self.jpeg_quality}")
        if self.blend is not None and not 0 < self.blend < 1:
            raise ConfigError(f"blend must be between 0 and 1, got {self.blend}")
        if not 0 <= self.logit_adjustment <= 1:
            raise ConfigError(f"logit_adjustment must be from 0 to 1, got {self.logit_adjustment}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be from 0 to below 1, got {self.dropout}")
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

    def for_pictures(self, count: int) -> TrainConfig:
        """Return this config with everything set that depends on the number of training pictures.

        A small set gets smaller batches and more passes, because what a network needs is optimiser steps: about
        2,000 of them where 150 passes allow it. It also gets AdamW: 30 passes over 272 drawn faces of four classes
        took the small network to 92.5 % of 80 test faces with it (87.5 % at a rate of 0.001), and to 72.5 % with SGD.
        """
        small = count < SMALL_SET
        batch = self.batch_size or max(16, min(128, 2 ** int(math.log2(max(count // 16, 16)))))
        steps = math.ceil(count / batch)
        optimizer = self.optimizer or ("adamw" if small else "sgd")
        decay = {"sgd": 0.005, "adam": 0.0, "adamw": 0.02}[optimizer]
        rate = {"sgd": 0.08 * batch / 128, "adam": 0.001, "adamw": 0.003}[optimizer]
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
