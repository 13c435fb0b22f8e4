"""From a trained network to a model folder that has been checked."""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from mien.files import check_replaceable, whole_folder
from mien.model.classifier import Classifier
from mien.model.folder import (
    CARD_FILE,
    INT8_FILE,
    METADATA_FILE,
    MODEL_FILE,
)
from mien.model.metadata import Metadata
from mien.train.export.card import describe
from mien.train.export.features import add_features
from mien.train.export.keras_io import computes_in_float32, float32_clone
from mien.train.export.onnx import count_macs, to_onnx, trace
from mien.train.export.parity import check_parity


def export(model: Any, folder: Path, metadata: Metadata, card: str | None = None) -> Path:
    """Write model.onnx, model.json and CARD.md; all of them, after the check, or none.

    folder: what lies there already is replaced if it is a model folder, and otherwise left alone.
    metadata: parameters and multiply-accumulates are filled in; model.json adds the size of the file and how
    closely it follows Keras. card: text of CARD.md, by default written from the metadata. A network trained in
    mixed precision is exported in float32. Raises ModelError for a layer that cannot be exported, for metadata
    that do not fit the network and when ONNX Runtime and Keras disagree; OutputError when the place cannot be
    written.
    """
    check_replaceable(
        folder, "a model folder", METADATA_FILE, only=(MODEL_FILE, INT8_FILE, METADATA_FILE, CARD_FILE)
    )
    if not computes_in_float32(model):
        model = float32_clone(model)
    traced = trace(model)
    macs = count_macs(traced[0])
    counted = {**metadata.network, "parameters": model.count_params(), "macs": macs}
    created = metadata.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    metadata = replace(metadata, network=counted, created=created)
    proto = to_onnx(model, metadata, traced)
    metadata = add_features(proto, metadata)
    with whole_folder(folder) as temporary:
        file = temporary / MODEL_FILE
        onnx.save(proto, file)
        parity = check_parity(model, Classifier(file), macs)
        metadata = replace(
            metadata, network={**metadata.network, "bytes": file.stat().st_size, "parity": asdict(parity)}
        )
        describe(temporary, metadata, card)
        Classifier(temporary)  # opens as a user will open it
    return folder
