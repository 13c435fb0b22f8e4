"""EvaluateConfig: every setting of an evaluation, its default, its meaning and its check."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mien.data.dataset import SPLITS, DataConfig
from mien.errors import ConfigError
from mien.model.preprocess import COLOURS
from mien.settings import setting

TTA = ("single", "flip", "ten")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(DataConfig):
    """What `mien evaluate` does. Checked when it is made; raises ConfigError with one line."""

    split: str | None = setting(
        None, "which part of the data; unset: test, or validation where there is no test", choices=SPLITS
    )
    head: str | None = setting(
        None, "which answer of the model; unset: the first that knows the data's classes"
    )
    tta: str = setting(
        "single",
        "test-time augmentation: single, the picture alone; flip, mean of it and its mirror image; ten, five crops and "
        "their mirror images",
        choices=TTA,
    )
    faces: str = setting(
        "whole", "'whole': each picture is a face; 'crop': find and crop the face", choices=("whole", "crop")
    )
    precision: str = setting(
        "auto",
        "form of a model folder's network; auto: int8 where it has one, as in prediction",
        choices=("auto", "float32", "int8"),
    )
    top_losses: int = setting(42, "how many of the most confident mistakes are shown")
    resamples: int = setting(2000, "bootstrap resamples behind each 95 % interval")
    seed: int = setting(0, "seed of the bootstrap and of the five folds")
    # For a network that mien did not save, which cannot say these things itself.
    labels: tuple[str, ...] = setting(
        (),
        "foreign networks: the labels, in the order of the outputs (angry,happy); pairs say what the data's labels "
        "mean (0=angry,1=happy)",
    )
    size: int | None = setting(
        None, "foreign networks: pixels a side of the input; unset: read from its shape"
    )
    colour: str | None = setting(
        None,
        "foreign networks: colour of the input; unset: grey for one channel, rgb for three",
        choices=COLOURS,
    )
    input_range: tuple[float, ...] = setting((0.0, 255.0), "foreign networks: what black and white become")
    logits: bool = setting(False, "foreign networks: the outputs are logits and need a softmax")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("top_losses", 0), ("resamples", 100), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if len(self.input_range) != 2 or not self.input_range[0] < self.input_range[1]:
            raise ConfigError(
                f"input_range must be two numbers, the lower first, such as 0,1; got {self.input_range}"
            )

    def _check_labels(self) -> None:
        names = self.network_labels
        if len(set(names)) != len(names) or len(names) == 1:
            raise ConfigError(f"labels must be two or more different names, got {', '.join(names)}")

    @property
    def network_labels(self) -> tuple[str, ...]:
        """The labels of a foreign network: the words of --labels that are no pairs."""
        return tuple(word for word in self.labels if "=" not in word)

    @classmethod
    def reading_as(cls, config: DataConfig) -> EvaluateConfig:
        """Return defaults that read the data as another command did; an EvaluateConfig is returned as
        it is.
        """
        if isinstance(config, cls):
            return config
        same = {field.name: getattr(config, field.name) for field in fields(DataConfig)}
        return cls(**same, faces=getattr(config, "faces", "whole"))
