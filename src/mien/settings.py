"""Settings: each is one field of a frozen dataclass; command line, recipes and saved runs are filled from it.

A field is declared with `setting(default, help)`. Its type, default, choices and help have no other home: the
argument parser (`add_settings`), recipe files (`from_mapping`) and the saved run (`to_mapping`) all read them here.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import difflib
import io
import math
import numbers
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mien.errors import ConfigError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting may have. words: behind 'must be' in messages, behind the default in help."""

    words: str
    allows: Callable[[float], bool]


def at_least(least: float) -> Range:
    """Return the range from a number on."""
    return Range(f"{least} or more", lambda value: value >= least)


def from_to(least: float, most: float) -> Range:
    """Return the range between two numbers, both of them included."""
    return Range(f"from {least} to {most}", lambda value: least <= value <= most)


def above_0_to(most: float) -> Range:
    """Return the range of numbers above 0 up to another one, which is included."""
    return Range(f"above 0 and at most {most}", lambda value: 0 < value <= most)


ABOVE_0 = Range("above 0", lambda value: value > 0)
FROM_0, FROM_1 = at_least(0), at_least(1)
SEED = from_to(0, 2**32 - 1)  # what NumPy's older generator takes, by which Keras and scikit-learn draw
SHARE = from_to(0, 1)
BELOW_1 = Range("from 0 to below 1", lambda value: 0 <= value < 1)
BETWEEN = Range("between 0 and 1", lambda value: 0 < value < 1)


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    option: bool = True,
    flag: str | None = None,
    group: str = "",
    within: Range | None = None,
) -> Any:
    """Declare one dataclass field.

    help: one line for people, with the unit. choices: the words that are allowed.
    option: False keeps the field out of the command line (recipes and Python only).
    flag: the option's name where it is not the field's (`--from`, a word that Python keeps for itself).
    group: heading under which --help shows it, for commands with many settings.
    within: the numbers that are allowed, None besides where it is the default; the dataclass calls `check_settings`.
    """
    metadata = {"help": help, "choices": tuple(choices or ()), "option": option, "flag": flag, "group": group}
    metadata["within"] = within
    return dataclasses.field(default=default, metadata=metadata)


def setting_of(kind: type, name: str) -> Any:
    """Declare a field of another dataclass once more: same default, help and range."""
    found = kind.__dataclass_fields__[name]  # type: ignore[attr-defined]
    return dataclasses.field(default=found.default, metadata=found.metadata)


def check_settings(settings: Any) -> None:
    """Raise ConfigError for what its field's type, `choices` or `within` do not allow; for `__post_init__`.

    A list becomes the tuple that it stands for.
    """
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, within = getattr(settings, field.name), field.metadata.get("within")
        plain, optional = _plain_type(hints[field.name])
        if within is None:
            object.__setattr__(settings, field.name, _checked(field, value, hints[field.name], ""))
            continue
        if value is None and optional:
            continue
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise ConfigError(f"{field.name} must be a number, {within.words}, got {value!r}")
        if not (value < math.inf and within.allows(float(value))):
            raise ConfigError(f"{field.name} must be {within.words}, got {value}")
        if plain is int and not isinstance(value, numbers.Integral):
            raise ConfigError(f"{field.name} must be a whole number, got {value}")


def _plain_type(annotation: Any) -> tuple[type, bool]:
    """Split `X | None` into (X, True), and leave any other annotation as (X, False)."""
    if isinstance(annotation, types.UnionType):
        inner = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return inner[0], True
    return annotation, False


def _word_list(text: str) -> tuple[str, ...]:
    """Read words as a row of CSV has them (RFC 4180): one with a comma in it stands in double quotes."""
    try:
        rows = list(csv.reader(text.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} has quotes that do not match ({error}); write a name with a comma as '\"a, b\",c'"
        ) from error
    return tuple(word.strip() for row in rows for word in row if word.strip())


def joined_words(words: Sequence[Any]) -> str:
    """Return words as one option takes them: separated by commas, in double quotes where one has a comma or quote."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(words)
    return row.getvalue()


def add_settings(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add one option for every setting of the dataclass `kind`; what the user leaves out stays unset.

    Unset options are absent from the namespace (SUPPRESS), so that a recipe's value is not overwritten by a default.
    """
    hints = typing.get_type_hints(kind)
    groups: dict[str, argparse._ActionsContainer] = {"": parser}
    # The headings in the order of their importance, which is not that of the fields: a parent's come first there.
    for title in sorted({f.metadata.get("group", "") for f in dataclasses.fields(kind)}, key=_importance):
        if title:
            groups[title] = parser.add_argument_group(title)
    for field in dataclasses.fields(kind):
        if not field.metadata.get("option"):
            continue
        plain, _ = _plain_type(hints[field.name])
        text = f"{field.metadata['help']}{_default_and_range(field)}".replace("%", "%%")
        options: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS, "dest": field.name}
        flag = _flag(field)
        if plain is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(plain) is tuple:
            numbers = typing.get_args(plain)[0] is float
            options["type"] = _number_list if numbers else _word_list
            options["metavar"] = "A,B,…"
        else:
            options["type"] = plain
            options["metavar"] = plain.__name__.upper()
        if field.metadata["choices"]:
            options["choices"] = field.metadata["choices"]
            options.pop("metavar", None)
        groups[field.metadata.get("group", "")].add_argument(flag, **options)


COMMON = "common settings"


def _importance(title: str) -> tuple[bool, str]:
    return title != COMMON, title


def _flag(field: dataclasses.Field[Any]) -> str:
    return field.metadata["flag"] or "--" + field.name.replace("_", "-")


def _number_list(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in _word_list(text))


def _default_and_range(field: dataclasses.Field[Any]) -> str:
    """Return what --help says of default and range; no default where the help says what happens when it is unset."""
    told = field.default in (None, ()) and "unset:" in field.metadata["help"]
    parts = [] if told else [f"default: {_shown(field.default)}"]
    if within := field.metadata["within"]:
        parts.append(within.words)
    return f" ({'; '.join(parts)})" if parts else ""


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return joined_words(default) if isinstance(default, tuple) else str(default)


def from_mapping(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Build the dataclass `kind` from plain values (TOML, JSON, options).

    source: where the values come from, for the message. Raises ConfigError on an unknown name (with the nearest
    known one), on a value of the wrong type, on a number that is not finite and on a word outside the choices.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    checked = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"{source}: there is no setting {name!r}{hint}")
        checked[name] = _checked(known[name], value, hints[name], f"{source}: ")
    return kind(**checked)


def given(kind: type, options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the dataclass `kind` that the user gave on the command line, by name."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in vars(options).items() if name in names}


def from_options(kind: type[T], options: argparse.Namespace) -> T:
    """Build the dataclass `kind` from a command's options; what the user left out keeps its default."""
    return from_mapping(kind, given(kind, options), "options")


def _checked(field: dataclasses.Field[Any], value: Any, annotation: Any, source: str) -> Any:
    """Return a field's value in its type; ConfigError, which begins with `source`, where that cannot be."""
    checked = _typed(field.name, value, annotation, source)
    choices = field.metadata.get("choices")
    if choices and checked is not None and checked not in choices:
        raise ConfigError(f"{source}{field.name} must be one of {', '.join(choices)}, got {value!r}")
    return checked


def _typed(name: str, value: Any, annotation: Any, source: str) -> Any:
    plain, optional = _plain_type(annotation)
    if value is None and optional:
        return None
    if typing.get_origin(plain) is tuple and isinstance(value, list | tuple):
        element = typing.get_args(plain)[0]
        return tuple(_typed(name, part, element, source) for part in value)
    if plain is Path and isinstance(value, str | Path):
        return Path(value)
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    base = typing.get_origin(plain) or plain
    if not isinstance(value, base) or (isinstance(value, bool) and plain is not bool):
        raise ConfigError(f"{source}{name} must be of type {base.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{source}{name} must be a finite number, got {value!r}")
    return value


def to_mapping(settings: Any) -> dict[str, Any]:
    """Return the settings as plain values that JSON and `from_mapping` take back."""
    return {field.name: _stored(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def to_options(settings: Any, kind: type) -> list[str]:
    """Return the words that give a command these settings. kind: names the fields; a default needs no words."""
    words: list[str] = []
    for field in dataclasses.fields(kind):
        value = getattr(settings, field.name)
        if value == field.default or not field.metadata.get("option"):
            continue
        flag = _flag(field)
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, joined_words(value) if isinstance(value, tuple) else str(value)]
    return words


def _stored(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
