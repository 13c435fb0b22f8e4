"""DetectorConfig: every setting of `mien train-detector`, its default, its meaning and its check."""

from __future__ import annotations

from dataclasses import dataclass

from mien.errors import ConfigError
from mien.settings import (
    ABOVE_0,
    BELOW_1,
    FROM_0,
    FROM_1,
    SEED,
    SHARE,
    above_0_to,
    check_settings,
    from_to,
    setting,
)

_LARGEST = 1.4  # of a part of the crop: half of a larger face's box would lie outside, wherever it is put


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What `mien train-detector` does. Checked when it is made; raises ConfigError with one line."""

    # how long and how fast
    epochs: int = setting(80, "epochs; the learning rate falls to zero over all of them", within=FROM_1)
    crops: int = setting(4096, "training crops an epoch", within=FROM_1)
    batch_size: int = setting(16, "crops a step", within=FROM_1)
    side: int = setting(320, "pixels a side of a training crop, a multiple of 32")
    learning_rate: float = setting(3e-3, "highest learning rate (AdamW)", within=ABOVE_0)
    warmup: float = setting(0.02, "share of all epochs in which the rate rises", within=BELOW_1)
    weight_decay: float = setting(0.01, "weight decay of kernels", within=FROM_0)
    ema: float = setting(
        0.9995, "decay a step of the moving average of weights, which is what is kept", within=BELOW_1
    )
    time_limit: str | None = setting(None, "plan the epochs to fit, such as 90m; overrides --epochs")
    init_from: str | None = setting(
        None,
        "start from the weights of this detector, a folder of mien train-detector, or mien: the one that ships",
        flag="--from",
    )
    start_share: float = setting(
        0.0,
        "share of the weights it started from (--from) in those that are kept (Wortsman et al. 2022, arXiv:2109.01903)",
        within=BELOW_1,
    )
    seed: int = setting(0, "seed of weights, crops and order", within=SEED)
    limit: int | None = setting(
        None, "use this many photographs of each part, drawn with the seed; unset: all", within=FROM_1
    )
    # crops
    mosaic: float = setting(
        0.5, "share of crops, and of their quarters, that are put together from four parts", within=SHARE
    )
    negatives: float = setting(0.35, "share of photographs without a face", within=SHARE)
    hard: float = setting(
        0.5, "share of those chosen by how sure the network was of a face in them", within=SHARE
    )
    smallest_px: float = setting(10.0, "longer side in a crop below which a face is ignored", within=FROM_0)
    largest: float = setting(
        0.75,
        "longer side up to which a face is scaled, as a share of its part of the crop",
        within=above_0_to(_LARGEST),
    )
    least_scale: float = setting(0.15, "smallest scale of a photograph")
    most_scale: float = setting(2.5, "largest scale of a photograph")
    rotation: float = setting(
        30.0, "most degrees of rotation of a head that is held nearly upright", within=from_to(0, 180)
    )
    rotated: float = setting(0.5, "share of photographs that are rotated so", within=SHARE)
    turned: float = setting(0.0, "share of photographs that are turned by any angle", within=SHARE)
    faint: float = setting(
        0.0, "share of photographs that are made dark or pale, down to a twelfth of the levels", within=SHARE
    )
    occluded: float = setting(0.12, "share of faces that are covered in part", within=SHARE)
    # loss
    box_weight: float = setting(2.0, "weight of the box loss (EIoU) beside the score's", within=FROM_0)
    landmark_weight: float = setting(
        10.0, "weight of the landmark loss (mean distance in sides of the face)", within=FROM_0
    )
    # judging
    check_every: int = setting(
        10, "epochs between looks at the validation photographs, and for hard photographs", within=FROM_1
    )
    false_positives: float = setting(
        1.0,
        "false positives in 100 validation photographs without a face at which the threshold is set",
        within=FROM_0,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.side < 64 or self.side % 32:
            raise ConfigError(f"side must be a multiple of 32 from 64 on, got {self.side}")
        if self.rotated + self.turned > 1:
            raise ConfigError(
                f"rotated and turned are shares of the same photographs, at most 1 together, got {self.rotated} and "
                f"{self.turned}"
            )
        if self.start_share and self.init_from is None:
            raise ConfigError(
                "start_share needs a detector to start from: --from mien, or a folder of mien train-detector"
            )
        if not 0 < self.least_scale <= self.most_scale:
            raise ConfigError(
                f"scales must keep 0 < least_scale <= most_scale, got {self.least_scale} and {self.most_scale}"
            )
        if self.time_limit is not None:
            from mien.train.config import seconds_of

            seconds_of(self.time_limit)

    @property
    def rate(self) -> float:
        """The peak learning rate, as every training's settings have it."""
        return self.learning_rate

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        return -(-self.crops // self.batch_size)
