"""From a trained network to a model folder that has been checked."""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from mien.errors import OutputError
from mien.files import whole_folder
from mien.predict.model_facts import ModelFacts
from mien.predict.model_folder import (
    CARD_FILE,
    FACTS_FILE,
    INT8_FILE,
    MODEL_FILE,
    write_facts,
)
from mien.predict.recognizer import Recognizer
from mien.train.export.card import model_card
from mien.train.export.clone import computes_in_float32, float32_copy
from mien.train.export.macs import count_macs
from mien.train.export.onnx import to_onnx
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
    _check_place(folder)
    if not computes_in_float32(model):
        model = float32_copy(model)
    macs = count_macs(model)
    counted = {**facts.network, "parameters": model.count_params(), "macs": macs}
    created = facts.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    facts = replace(facts, network=counted, created=created)
    proto = to_onnx(model, facts)
    with whole_folder(folder) as temporary:
        file = temporary / MODEL_FILE
        onnx.save(proto, file)
        parity = check_parity(model, Recognizer(file), macs)
        facts = replace(
            facts, network={**facts.network, "bytes": file.stat().st_size, "parity": asdict(parity)}
        )
        write_facts(temporary, facts)
        (temporary / CARD_FILE).write_text(card or model_card(facts), encoding="utf-8")
        Recognizer(temporary)  # opens as a user will open it
    return folder


def _check_place(folder: Path) -> None:
    """Raise OutputError before any work when `folder` holds something that replacing it would lose."""
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file of this name"}
    if other := sorted(found - {MODEL_FILE, INT8_FILE, FACTS_FILE, CARD_FILE}):
        raise OutputError(
            f"{folder} is there and is not a model folder (it has {', '.join(other[:3])}); name another place"
        )
