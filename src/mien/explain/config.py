"""ExplainConfig: every setting of an explanation, its default, its meaning and its check."""

from __future__ import annotations

from dataclasses import dataclass

from mien.data.dataset import SPLITS, DataConfig
from mien.errors import ConfigError
from mien.settings import setting

RISE, GRAD_CAM = "rise", "grad-cam"
METHODS = (RISE, GRAD_CAM)


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(DataConfig):
    """What `mien explain` does. Checked when it is made; raises ConfigError with one line."""

    method: str | None = setting(
        None,
        "rise: occlude random parts and ask again; grad-cam: gradients, needs Keras; unset: grad-cam for a .keras or "
        ".h5 file, otherwise rise",
        choices=METHODS,
    )
    target: str | None = setting(
        None, "label to explain; unset: the network's decision, in a sheet of classes each class's own label"
    )
    head: str | None = setting(None, "which answer of the network; unset: its first that fits")
    limit: int | None = setting(
        None, "at most so many faces, of a picture the largest (unset: 3), of each class of DATA (unset: 8)"
    )
    split: str | None = setting(
        None, "which part of DATA; unset: test where there is one, or validation, or all", choices=SPLITS
    )
    seed: int = setting(
        0, "seed of the masks, of the choice of faces, and of the random maps that each map is compared with"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, got {self.limit}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
