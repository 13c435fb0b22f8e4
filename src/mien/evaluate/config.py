"""EvaluateConfig: every setting of an evaluation, its default, its meaning and its check."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mien.data.dataset import SPLITS, DataConfig
from mien.model.views import AUTO, TEN, TTA, TTA_HELP
from mien.settings import FROM_0, SEED, at_least, setting
from mien.train.external_models import LABELS_OF_BOTH, Description, check_description, description
from mien.train.run_folder import OUT_OF_FOLD

EVALUATED = (*TTA, TEN)  # ways of test-time augmentation


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(DataConfig, Description):
    """What `mien evaluate` does. Checked when it is made; raises ConfigError with one line."""

    split: str | None = setting(
        None,
        "which part of the data; unset: test, or validation where there is no test; out-of-fold: what the networks "
        "of a run with --folds said of the pictures that each had not seen",
        choices=(*SPLITS, OUT_OF_FOLD),
    )
    head: str | None = setting(
        None, "which answer of the model; unset: the first that knows the data's classes"
    )
    tta: str = setting(
        AUTO,
        f"{TTA_HELP}; ten, five crops and their mirror images",
        choices=EVALUATED,
    )
    faces: str | None = setting(
        None,
        "'whole': each picture is a face; 'crop': find and crop the face; unset: as the model was trained",
        choices=("whole", "crop"),
    )
    detector: str | None = setting(
        None, "with --faces crop: face detector; unset: the one that the model was trained with, else mien"
    )
    detector_file: str | None = setting(None, "with --detector: a detector of your own, or a YuNet file")
    precision: str = setting(
        "auto",
        "form of a model folder's network; auto: int8 where it has one, as in prediction",
        choices=("auto", "float32", "int8"),
    )
    top_losses: int = setting(42, "how many of the most confident mistakes are shown", within=FROM_0)
    resamples: int = setting(2000, "bootstrap resamples behind each 95 % interval", within=at_least(100))
    seed: int = setting(0, "seed of the bootstrap and of the five folds", within=SEED)
    labels: tuple[str, ...] = setting((), LABELS_OF_BOTH)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_description(self.network_labels, self.input_range)

    def _check_labels(self) -> None:
        """Words that are no pairs are the network's, see `network_labels`."""

    @property
    def network_labels(self) -> tuple[str, ...]:
        """The labels of a network that mien did not save: the words of --labels that are no pairs."""
        return tuple(word for word in self.labels if "=" not in word)

    def description(self) -> Description:
        """Return what is said of a network that mien did not save."""
        return description(vars(self))

    @classmethod
    def reading_as(cls, config: DataConfig) -> EvaluateConfig:
        """Return defaults that read the data as another command did; an EvaluateConfig is returned as it is."""
        if isinstance(config, cls):
            return config
        same: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(DataConfig)}
        same |= {name: getattr(config, name, None) for name in ("faces", "detector", "detector_file")}
        return cls(**same)
