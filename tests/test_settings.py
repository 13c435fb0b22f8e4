"""Settings: option, recipe and saved run say the same, and a wrong one is named."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.batch.config import BatchConfig
from mien.data.dataset import DataConfig
from mien.detect.evaluate import DetectorEvaluation
from mien.detect.search import PhotoSearch
from mien.detect.training.config import DetectorConfig
from mien.errors import ConfigError
from mien.evaluate.compare import CompareConfig
from mien.evaluate.config import EvaluateConfig
from mien.explain.explain import ExplainConfig
from mien.faceset.settings import FacesConfig
from mien.label.config import LabelConfig
from mien.serve.config import ServeConfig
from mien.settings import (
    FROM_1,
    add_settings,
    check_settings,
    from_mapping,
    from_to,
    setting,
    to_mapping,
    to_options,
)
from mien.train.config import TrainConfig
from mien.video.analyze import VideoSettings
from mien.video.tracking import TrackerSettings

KINDS = (
    BatchConfig, CompareConfig, DetectorConfig, DetectorEvaluation, EvaluateConfig, ExplainConfig, FacesConfig,
    LabelConfig, PhotoSearch, ServeConfig, TrackerSettings, TrainConfig, VideoSettings,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Oven:
    """Every kind of setting once."""

    heat: float = setting(180.0, "degrees, 100 % by the book")
    minutes: int = setting(20, "time", within=FROM_1)
    fan: bool = setting(True, "whether air moves")
    mode: str = setting("both", "which heat", choices=("top", "both"))
    grill: str | None = setting(None, "grill; unset: none", choices=("low", "high"))
    tray: int | None = setting(None, "height; unset: middle", within=from_to(1, 5))
    book: Path | None = setting(None, "recipe")  # noqa: RUF009
    spices: tuple[str, ...] = setting((), "what to add")
    steps: tuple[float, ...] = setting((0.5, 1.0), "shares of the time")
    phases: tuple[Mapping[str, Any], ...] = setting((), "later phases", option=False)
    source: str | None = setting(None, "where it comes from", flag="--from")

    def __post_init__(self) -> None:
        check_settings(self)


def _parse(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_settings(parser, Oven)
    return vars(parser.parse_args(words))


def test_what_is_not_said_stays_unset() -> None:
    assert _parse() == {}


def test_every_kind_of_option_becomes_its_type() -> None:
    words = (
        "--heat 200 --minutes 5 --no-fan --mode top --grill low --tray 2 --book a.toml --spices salt,,pepper "
        "--steps 0.25,0.75 --from home"
    )
    assert _parse(*words.split()) == {
        "heat": 200.0, "minutes": 5, "fan": False, "mode": "top", "grill": "low", "tray": 2, "book": Path("a.toml"),
        "spices": ("salt", "pepper"), "steps": (0.25, 0.75), "source": "home",
    }  # fmt: skip
    assert _parse("--fan") == {"fan": True}


def test_a_word_with_a_comma_stands_in_quotes_and_comes_back_from_options() -> None:
    assert _parse("--spices", '"salt, coarse", pepper,"the ""red"" one"') == {
        "spices": ("salt, coarse", "pepper", 'the "red" one')
    }
    oven = Oven(spices=("salt, coarse", 'the "red" one', "平静"))
    assert _parse(*to_options(oven, Oven)) == {"spices": oven.spices}
    with pytest.raises(argparse.ArgumentError, match="quotes that do not match"):
        _parse("--spices", '"salt, coarse')


def test_settings_come_back_from_the_options_that_they_make() -> None:
    assert to_options(Oven(phases=({"heat": 1},)), Oven) == []
    words = [
        "--heat",
        "200.0",
        "--no-fan",
        "--book",
        "a.toml",
        "--spices",
        "salt,pepper",
        "--steps",
        "0.25,0.75",
    ]
    oven = from_mapping(Oven, _parse(*words), "options")
    assert to_options(oven, Oven) == words


@pytest.mark.parametrize(
    "words",
    [("--phases", "x"), ("--mode", "side"), ("--minutes", "ten"), ("--steps", "a,b"), ("--source", "x")],
)
def test_what_the_parser_refuses(words: tuple[str, ...]) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        _parse(*words)


def test_help_shows_defaults_as_people_say_them() -> None:
    parser = argparse.ArgumentParser(prog="oven")
    add_settings(parser, Oven)
    text = " ".join(parser.format_help().split())
    for part in (
        "degrees, 100 % by the book (default: 180.0)",
        "whether air moves (default: on)",
        "time (default: 20; 1 or more)",
        "height; unset: middle (from 1 to 5)",
        "what to add (default: none)",
        "shares of the time (default: 0.5,1.0)",
        "--mode {top,both}",
    ):
        assert part in text
    assert "later phases" not in text
    assert "unset: middle" in text
    assert "unset: middle (default" not in text


def test_plain_values_come_back_as_they_were() -> None:
    oven = Oven(heat=90, tray=3, book=Path("b.toml"), spices=("salt",), phases=({"minutes": 4},))
    stored = to_mapping(oven)
    assert stored["book"] == "b.toml"
    assert stored["spices"] == ["salt"]
    assert from_mapping(Oven, json.loads(json.dumps(stored)), "run.json") == oven
    assert from_mapping(Oven, {}, "empty.toml") == Oven()
    assert from_mapping(Oven, {"grill": None, "tray": None}, "run.json") == Oven()


def test_a_whole_number_is_a_number() -> None:
    oven = from_mapping(Oven, {"heat": 200, "steps": [1, 2]}, "x")
    assert isinstance(oven.heat, float)
    assert [type(step) for step in oven.steps] == [float, float]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heet": 1}, "a.toml: there is no setting 'heet'; did you mean 'heat'?"),
        ({"zzz": 1}, "a.toml: there is no setting 'zzz'; known: heat, minutes, fan"),
        ({"minutes": 5.0}, "a.toml: minutes must be of type int, got 5.0"),
        ({"minutes": True}, "a.toml: minutes must be of type int, got True"),
        ({"minutes": None}, "a.toml: minutes must be of type int, got None"),
        ({"minutes": "5"}, "a.toml: minutes must be of type int, got '5'"),
        ({"heat": True}, "a.toml: heat must be of type float, got True"),
        ({"heat": float("nan")}, "a.toml: heat must be a finite number, got nan"),
        ({"steps": [float("inf")]}, "a.toml: steps must be a finite number, got inf"),
        ({"fan": "no"}, "a.toml: fan must be of type bool, got 'no'"),
        ({"fan": 0}, "a.toml: fan must be of type bool, got 0"),
        ({"mode": "side"}, "a.toml: mode must be one of top, both, got 'side'"),
        ({"grill": "middle"}, "a.toml: grill must be one of low, high, got 'middle'"),
        ({"book": 3}, "a.toml: book must be of type Path, got 3"),
        ({"spices": "salt"}, "a.toml: spices must be of type tuple, got 'salt'"),
        ({"spices": ["salt", 3]}, "a.toml: spices must be of type str, got 3"),
        ({"phases": [5]}, "a.toml: phases must be of type Mapping, got 5"),
        ({"minutes": 0}, "minutes must be 1 or more, got 0"),
        ({"tray": 6}, "tray must be from 1 to 5, got 6"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Oven, values, "a.toml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_real_settings_survive_being_saved() -> None:
    config = TrainConfig(merge=("nothappy=sad+angry",), phases=({"epochs": 3, "unfreeze": 4},), colour="rgb")
    assert from_mapping(TrainConfig, json.loads(json.dumps(to_mapping(config))), "run") == config
    first, second = config.in_phases()
    assert (first.epochs, second.epochs, second.unfreeze) == (TrainConfig.epochs, 3, 4)
    assert second.colour == "rgb"
    with pytest.raises(ConfigError, match="phase: epochs must be of type int, got 'many'"):
        TrainConfig(phases=({"epochs": "many"},)).in_phases()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_face": "3"}, "min_face must be a number, 0 or more, got '3'"),
        ({"min_face": True}, "min_face must be a number, 0 or more, got True"),
        ({"min_score": None}, "min_score must be a number, from 0 to 1, got None"),
        ({"detect_size": 640.5}, "detect_size must be a whole number, got 640.5"),
        ({"second_look": "no"}, "second_look must be of type bool, got 'no'"),
    ],
)
def test_settings_made_in_python_are_checked_as_well(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        PhotoSearch(**values)
    numpy = PhotoSearch(min_face=np.float32(3), detect_size=np.int64(640))  # type: ignore[arg-type]
    assert (numpy.min_face, numpy.detect_size) == (3.0, 640)
    with pytest.raises(ConfigError, match="classes must be of type tuple, got 'happy,sad'"):
        DataConfig(classes="happy,sad")  # type: ignore[arg-type]
    assert DataConfig(classes=["happy", "sad"]).classes == ("happy", "sad")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="group must be of type str, got 3"):
        DataConfig(group=3)  # type: ignore[arg-type]


def test_every_range_holds_at_its_ends() -> None:
    """Which numbers a setting may have stands beside it; a message says which."""
    allowed = {
        "above 0": ({1e-9, 5}, {0, -1}),
        "-1 or more": ({-1, 5}, {-2}),
        "0 or more": ({0, 5}, {-1e-9}),
        "1 or more": ({1, 5}, {0}),
        "64 or more": ({64}, {63}),
        "100 or more": ({100}, {99}),
        "from 0 to 1": ({0, 0.5, 1}, {-0.1, 1.1}),
        "from 0 to 0.5": ({0, 0.5}, {-0.1, 0.6}),
        "from 0 to below 1": ({0, 0.9}, {-0.1, 1}),
        "between 0 and 1": ({0.1, 0.9}, {0, 1}),
        "from 0 to 90": ({0, 90}, {-1, 91}),
        "from 0 to 180": ({0, 180}, {-1, 181}),
        "from 0 to 65535": ({0, 65535}, {-1, 65536}),
        "from 0 to 4294967295": ({0, 2**32 - 1}, {-1, 2**32}),
        "from 1 to 4": ({1, 4}, {0.9, 4.1}),
        "from 48 to 2048": ({48, 2048}, {47, 2049}),
        "above 0 and at most 1": ({0.1, 1}, {0, 1.1}),
        "above 0 and at most 1.4": ({0.1, 1.4}, {0, 1.5}),
    }
    seen = set()
    for kind in KINDS:
        for field in dataclasses.fields(kind):
            if within := field.metadata.get("within"):
                seen.add(within.words)
                good, bad = allowed[within.words]
                assert all(map(within.allows, good)) and not any(map(within.allows, {*bad, float("nan")}))
                for value in {*bad, math.inf}:
                    said = f"{field.name} must be {within.words}, got {value}"
                    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
                        kind(**{field.name: value})
    assert seen == set(allowed)
