"""Names of expressions: their order is that of the data sets, and every spelling leads to one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.labels import _ALIASES, FER2013, FERPLUS, canonical


def test_the_orders_are_those_of_the_files() -> None:
    """Kaggle's description of FER-2013 and the header of fer2013new.csv."""
    assert dict(enumerate(FER2013)) == {
        0: "angry", 1: "disgust", 2: "fear", 3: "happy", 4: "sad", 5: "surprise", 6: "neutral",
    }  # fmt: skip
    header = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
    assert tuple(map(canonical, header.split(","))) == FERPLUS
    assert set(FERPLUS) - set(FER2013) == {"contempt"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Anger", "angry"), (" angry\n", "angry"), ("HAPPINESS", "happy"), ("Surprised", "surprise"),
        ("afraid", "fear"), ("natural", "neutral"), ("Not Happy", "not happy"), ("", ""),
    ],
)  # fmt: skip
def test_spellings_meet(written: str, meant: str) -> None:
    assert canonical(written) == meant


def test_every_alias_leads_to_a_name_that_stays_itself() -> None:
    names = set(FER2013) | set(FERPLUS)
    assert set(_ALIASES.values()) <= names
    assert not set(_ALIASES) & names
    assert all(canonical(name) == name for name in names)


@pytest.mark.shared
def test_the_column_order_of_the_real_file(shared: Path) -> None:
    with (shared / "data" / "fer2013" / "fer2013new.csv").open() as file:
        columns = file.readline().strip().split(",")
    start = columns.index("neutral")
    assert tuple(map(canonical, columns[start : start + 8])) == FERPLUS
