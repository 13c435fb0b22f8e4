"""The card says what the metadata say, and says where they say nothing."""

from __future__ import annotations

from dataclasses import replace

from mien.model.metadata import Head
from mien.model.views import WORDS
from mien.train.export.card import model_card

from .tiny_networks import LABELS, metadata

SCORE = {
    "data": "fer2013", "split": "validation", "head": "expression", "n": 1000, "accuracy": 0.8, "ece": 0.021,
    "macro_f1": 0.75, "accuracy_interval": {"low": 0.77, "high": 0.83},
    "classes": [
        {"name": "angry", "support": 300, "precision": 0.7, "recall": 0.6, "f1": 0.646},
        {"name": "happy", "support": 500, "precision": 0.9, "recall": 0.95, "f1": 0.924},
        {"name": "sad", "support": 200, "precision": 0.5, "recall": None, "f1": None},
    ],
    "confusion": [[180, 30, 90], [10, 475, 15], [40, 20, 140]],
}  # fmt: skip


def _told() -> str:
    about = replace(
        metadata(size=48, temperature=1.25, threshold=0.4),
        scores=(SCORE,),
        network={"name": "small", "parameters": 1699559, "macs": 75482880, "bytes": 6842624},
        training={
            "settings": {"seed": 3},
            "data": {
                "name": "fer2013", "fingerprint": "0123456789abcdef99",
                "counts": {"train": {"angry": 3995, "happy": 7215, "sad": 4830}, "validation": {"angry": 467}},
            },
            "versions": {"mien": "0.1.0", "keras": "3.15.1"},
            "command": "mien train fer2013.csv",
            "epochs": 32, "best_epoch": 30, "seconds": 5700,
        },
        licences={"model": "MIT"},
        created="2026-11-21T14:00:00+00:00",
    )  # fmt: skip
    return model_card(about)


def test_the_card_tells_figures_with_data_split_and_number() -> None:
    text = _told()
    for line in (
        "| fer2013, validation | `expression` | 1,000 | 80.0% (77.0% to 83.0%) | 0.750 | 0.021 |",
        "| happy | 500 | 0.900 | 0.950 | 0.924 |",
        "| sad | 200 | 0.500 | - | - |",
        "| **angry** | 180 | 30 | 90 |",
        "Most often it takes angry for sad (30% of angry), sad for angry (20% of sad), angry for happy (10% of angry).",
        "| angry | 3,995 | 467 |",
        "| all | 16,040 | 467 |",
        "| Parameters | 1,699,559 |",
        "| Size of model.onnx | 6.8 MB |",
        "mien train fer2013.csv",
        "Seed 3; 32 epochs, of which epoch 30 was kept; 95 minutes of training; with mien 0.1.0, keras 3.15.1.",
        "- model: MIT",
    ):
        assert line in text
    for part in (
        "48x48 pixels, colour, RGB",
        "divided by 1.250",
        "Below a probability of 0.4",
        "63 % of the faces",
    ):
        assert part in text


def test_the_card_says_what_not_to_do_and_what_is_not_known() -> None:
    text = _told()
    assert "Article 5(1)(f)" in text
    assert "nothing is claimed" in text
    assert "does not read feelings" in " ".join(text.split())


def test_a_card_of_bare_facts_invents_nothing() -> None:
    text = model_card(metadata())
    for part in (
        "No score was recorded",
        "The metadata do not say what this network was trained on.",
        "The metadata do not say how this network was trained.",
        "The metadata name no licence",
        "no temperature was fitted",
    ):
        assert part in text
    assert "FER-2013" not in text


def test_the_card_says_which_views_were_scored_and_when_a_face_is_looked_at_twice() -> None:
    mirrored = {"settings": {"augment": True, "flip": True}}
    twice = replace(metadata(), training=mirrored, scores=({**SCORE, "views": WORDS["adaptive"]},))
    words = ", and looks at the mirror image as well where no expression reaches one half"
    assert words in model_card(twice)
    assert f"What was scored: {WORDS['adaptive']}." in model_card(twice)
    assert words not in _told() and "What was scored" not in _told()


def test_names_that_would_break_a_table_are_escaped() -> None:
    head = Head(name="mood", labels=("a|b", "c"))
    about = replace(metadata(), heads=(head,))
    assert "| `mood` | a\\|b, c |" in model_card(about)
    assert LABELS == ("angry", "happy", "sad")
