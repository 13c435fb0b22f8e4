"""From labelled faces to a trained network and its model folder. With `detect.training`, the only room with Keras.

In: a `Dataset` and a `TrainConfig`. Out: a run folder, and in it a model folder that every other room takes.
Begin with `run.py`, and `training.py`, one training from start to end. `classifier_loop.py` takes its steps, on
`loop.py`, which every training shares and which says how another one stands on it; `run_folder.py` names what a run
leaves, `networks/` builds, `export/` writes, `external_models.py` takes over what others trained.
`mien.train("faces", epochs=30)` does what `mien train faces --epochs 30` does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """The package itself, which one may call: the command has its name, and Python's users expect the same word."""

    def __call__(
        self,
        data: str | Path | Sequence[str | Path],
        *,
        recipe: str | Path | None = None,
        to: str | Path | None = None,
        retrain: bool = False,
        quiet: bool = False,
        **settings: Any,
    ) -> Any:
        """Train a network as `mien train DATA` does, and return the run: `.folder`, `.model`, `.progress`.

        data: one path or several, which are combined. settings: those of `TrainConfig`, in the command's words with
        `_` for `-`. No report is written: see `mien.evaluate`. Needs the training extra. Raises MienError in one line.
        """
        from mien.files import given_path, given_paths, joined_paths
        from mien.terminal import ProgressBar
        from mien.train.recipes import config_from, default_run, load_recipe
        from mien.train.run import train

        name = ("fine-tune" if settings.get("init_from") else None) if recipe is None else str(recipe)
        chosen = None if name is None else load_recipe(name)
        config = config_from(chosen, settings)
        source = joined_paths(given_paths(data))
        place = given_path(to) if to else default_run(source, config, chosen, settings)
        return train(config, source, place, retrain=retrain, show=ProgressBar(quiet=quiet))


sys.modules[__name__].__class__ = _Callable
