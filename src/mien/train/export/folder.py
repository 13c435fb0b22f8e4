"""From a trained network to a model folder that has been checked."""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from mien.files import check_replaceable, whole_folder
from mien.predict.model_facts import ModelFacts
from mien.predict.model_folder import (
    CARD_FILE,
    FACTS_FILE,
    INT8_FILE,
    MODEL_FILE,
)
from mien.predict.recognizer import Recognizer
from mien.train.export.card import describe
from mien.train.export.keras_io import computes_in_float32, float32_clone
from mien.train.export.onnx import count_macs, to_onnx, trace
from mien.train.export.parity import check_parity


def export(model: Any, folder: Path, facts: ModelFacts, card: str | None = None) -> Path:
    """Write model.onnx, model.json and CARD.md; all of them, after the check, or none.

    folder: what lies there already is replaced if it is a model folder, and otherwise left alone.
    facts: parameters and multiply-accumulates are filled in; model.json adds the size of the file and how
    closely it follows Keras. card: text of CARD.md, by default written from the facts. A network trained in
    mixed precision is exported in float32. Raises ModelError for a layer that cannot be exported, for facts
    that do not fit the network and when ONNX Runtime and Keras disagree; OutputError when the place cannot be
    written.
    """
    check_replaceable(
        folder, "a model folder", FACTS_FILE, only=(MODEL_FILE, INT8_FILE, FACTS_FILE, CARD_FILE)
    )
    if not computes_in_float32(model):
        model = float32_clone(model)
    traced = trace(model)
    macs = count_macs(traced[0])
    counted = {**facts.network, "parameters": model.count_params(), "macs": macs}
    created = facts.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    facts = replace(facts, network=counted, created=created)
    proto = to_onnx(model, facts, traced)
    with whole_folder(folder) as temporary:
        file = temporary / MODEL_FILE
        onnx.save(proto, file)
        parity = check_parity(model, Recognizer(file), macs)
        facts = replace(
            facts, network={**facts.network, "bytes": file.stat().st_size, "parity": asdict(parity)}
        )
        describe(temporary, facts, card)
        Recognizer(temporary)  # opens as a user will open it
    return folder
