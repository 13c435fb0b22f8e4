"""The page beside a face detector: what it is, what it was trained on, what it finds and what it misses."""

from __future__ import annotations

from mien.detect.mien import DetectorMetadata

_TEXT = """# {name}: a face detector

Finds faces in photographs: a box from hairline to chin, a score, and five landmarks (eyes, tip of the nose, corners of
the mouth). It does not tell whose face it is, nor what it expresses.

- Made by `mien train-detector` on {created}; {parameters:,} parameters, {kilobytes:,} kB.
- Looks at pictures with a longer side of {least} to {usual} pixels, and of {small} for faces that fill them (up to
  {closest} where it finds nothing or only tiny faces). A box with a score from {low:g} to {high:g} is looked at
  again, by itself and turned level, and gets the geometric mean of both scores. A box counts as a face from score
  {threshold:.3f} on.
- Trained on {photos} photographs with {faces} faces, whose boxes another detector (YuNet) made at several sizes;
  {epochs} epochs. What the teacher cannot see, strong profiles and heavily covered faces, it learnt as little. No
  photograph is part of it; each is under the terms of its owner.

## How good it is

{scores}

## What it misses

Faces under about 16 pixels of the picture that it looks at, faces in strong profile or turned by more than about 30
degrees, faces of which more than half is covered or cut off. Dolls, statues and portraits on the wall may count as
faces.
"""

_IN_WORDS = {
    "ap": "average precision at an IoU of 0.5",
    "recall_20_40": "faces of 20 to 40 pixels that are found",
    "recall_40": "faces of 40 pixels and more that are found",
    "alarms_per_100": "false alarms in 100 photographs without a face",
    "landmark_error": "landmarks: mean distance, as a share of the eyes' distance",
}


def detector_card(metadata: DetectorMetadata) -> str:
    """Return CARD.md of a face detector."""
    training = metadata.training
    return _TEXT.format(
        name=metadata.name,
        created=metadata.created or "an unknown day",
        parameters=training.get("parameters", 0),
        kilobytes=round(training.get("bytes", 0) / 1000),
        small=metadata.small_size,
        least=metadata.min_size,
        usual=metadata.detect_size,
        closest=metadata.max_size,
        low=metadata.low_threshold,
        high=metadata.high_threshold,
        threshold=metadata.threshold,
        photos=training.get("photographs", "?"),
        faces=training.get("faces", "?"),
        epochs=training.get("epochs", "?"),
        scores=_scores(metadata),
    )


def _scores(metadata: DetectorMetadata) -> str:
    if not metadata.scores:
        return "Not measured yet: `mien evaluate-detector DATA --detectors THIS-FOLDER`."
    lines = ["| on photographs of sources that it was not trained on | |", "|---|---|"]
    return "\n".join(
        lines + [f"| {_IN_WORDS.get(name, name)} | {value:.3g} |" for name, value in metadata.scores.items()]
    )
