"""What a report found, put into the model folder that it judged."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mien.files import whole_folder
from mien.predict.model_folder import CARD_FILE, INT8_FILE, MODEL_FILE, read_model_folder, write_facts
from mien.train.export.card import model_card

_FOLDS = "ece_five_folds"


def record_scores(folder: Path, scores: Sequence[Mapping[str, Any]]) -> None:
    """Put the scores of a report into model.json and CARD.md of a model folder; model.onnx stays as it is.

    scores: entries as `Report.recorded` gives them; they replace those that training left, of which the ECE over five
    folds stays, as only training sees the answers before calibration. Apart from `export`, because that needs Keras,
    and a run that was only loaded is scored without starting it.
    """
    with whole_folder(folder) as temporary:
        for name in (MODEL_FILE, INT8_FILE):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, temporary / name)
        facts = read_model_folder(folder).facts
        folds = {
            (score.get("head"), score.get("split")): {_FOLDS: score[_FOLDS]}
            for score in facts.scores
            if _FOLDS in score
        }
        merged = [{**score, **folds.get((score.get("head"), score.get("split")), {})} for score in scores]
        facts = replace(facts, scores=tuple(merged))
        write_facts(temporary, facts)
        (temporary / CARD_FILE).write_text(model_card(facts), encoding="utf-8")
