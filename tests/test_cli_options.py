"""Options are settings: the same names, defaults and meanings on the command line as in the dataclasses."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from mien import settings
from mien.cli.inputs import new_folder
from mien.cli.main import COMMANDS, main, module_name, parser
from mien.detect.search import PhotoSearch
from mien.errors import ConfigError
from mien.settings import add_settings, from_mapping, to_mapping
from mien.train.config import TrainConfig


def subparser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    (group,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    found: argparse.ArgumentParser = group.choices[command]
    return found


def settings_of(command: str) -> list[type]:
    """Return the dataclasses whose settings a command takes: those that its module hands to add_settings."""
    module = importlib.import_module(f"mien.cli.{module_name(command)}")
    kinds: list[type] = []
    with pytest.MonkeyPatch.context() as patch:
        for home in (module, settings):  # some modules import it inside the function
            patch.setattr(home, "add_settings", lambda _, kind: kinds.append(kind), raising=False)
        module.add_arguments(argparse.ArgumentParser())
    return kinds


CALLS = [(command, kind) for command in COMMANDS for kind in settings_of(command)]


def described(default: Any) -> str:
    """Return a default as --help shows it."""
    if default in (None, ()):
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


@pytest.mark.parametrize(("command", "kind"), CALLS, ids=[f"{name} {kind.__name__}" for name, kind in CALLS])
def test_every_setting_is_an_option_with_its_default(command: str, kind: type) -> None:
    options = {action.dest: action for action in subparser(command)._actions}
    for field in dataclasses.fields(kind):
        if not field.metadata["option"]:
            assert field.name not in options
            continue
        option = options[field.name]
        flag = field.metadata.get("flag") or "--" + field.name.replace("_", "-")
        assert flag in option.option_strings
        assert option.default is argparse.SUPPRESS, (
            "an option that is left out must not overwrite a recipe's value"
        )
        shown = (option.help or "").replace("%%", "%")
        # 'default: none' beside it would contradict it.
        told = field.default in (None, ()) and "unset: " in shown
        parts = [] if told else [f"default: {described(field.default)}"]
        if within := field.metadata["within"]:
            parts.append(within.words)
        assert shown == field.metadata["help"] + (f" ({'; '.join(parts)})" if parts else "")


@pytest.mark.parametrize("kind", sorted({kind for _, kind in CALLS}, key=str))
def test_defaults_survive_the_command_line(kind: type) -> None:
    """Giving every option its default as text builds the same settings as giving none."""
    alone = argparse.ArgumentParser()
    add_settings(alone, kind)
    words = []
    for field in dataclasses.fields(kind):
        if field.metadata["option"] and field.default not in (None, ()):
            flag = field.metadata.get("flag") or "--" + field.name.replace("_", "-")
            if isinstance(field.default, bool):
                words.append(flag if field.default else "--no-" + flag[2:])
            else:
                words += [flag, described(field.default)]
    assert from_mapping(kind, vars(alone.parse_args(words)), "test") == kind()


def test_settings_survive_saving() -> None:
    config = TrainConfig(classes=("a", "b"), epochs=3, phases=({"epochs": 2},))
    assert from_mapping(TrainConfig, to_mapping(config), "test") == config


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_overrides_a_setting_silently(command: str) -> None:
    """Every other option of a command has a name that is no setting's, and a help text."""
    names = {field.name for kind in settings_of(command) for field in dataclasses.fields(kind)}
    for action in subparser(command)._actions:
        assert action.help, action.dest
        assert action.dest not in names or action.default is argparse.SUPPRESS


@pytest.mark.parametrize("command", ["predict", "video", "live", "batch"])
def test_options_of_the_search_tell_its_ranges(command: str) -> None:
    fields = PhotoSearch.__dataclass_fields__
    own = {setting for kind in settings_of(command) for setting in kind.__dataclass_fields__}
    told = {action.dest: action.help or "" for action in subparser(command)._actions}
    named = (told.keys() & fields.keys()) - own
    assert "min_face" in named
    for name in named:
        assert told[name].endswith(f"; {fields[name].metadata['within'].words})")


@pytest.mark.parametrize("kind", sorted({kind for _, kind in CALLS}, key=str))
def test_a_negative_seed_is_refused_where_it_is_set(kind: type) -> None:
    for name in {"seed", "split_seed"} & {field.name for field in dataclasses.fields(kind)}:
        with pytest.raises(ConfigError, match=rf"^{name} must .*, got -1$"):
            kind(**{name: -1})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_a_command_that_parses(command: str) -> None:
    module = importlib.import_module(f"mien.cli.{module_name(command)}")
    heading, *examples = module.EXAMPLES.rstrip().splitlines()
    assert heading == "examples:"
    assert examples
    for line in examples:
        assert line.startswith(f"  mien {command} "), line
        # Two blanks or more separate a command from what is said about it.
        words = shlex.split(re.split(r"\s{2,}", line.strip())[0])
        assert parser().parse_args(words[1:]).command == command


@pytest.mark.parametrize(
    ("command", "short", "meant"),
    [
        ("train", "--epoch=3", "did you mean --epochs?"),
        ("predict", "--hea=votes", "did you mean --head?"),
        ("video", "--out", "did you mean --to?"),
        (
            "serve",
            "--video-folder",
            "see mien serve --help",
        ),  # and nothing that merely has a letter in common
    ],
)
def test_options_are_not_abbreviated_but_named(
    command: str, short: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "photos", short])
    assert stop.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith(f"usage: mien {command} ") and usage.endswith("[options]")
    assert error == f"mien {command}: error: no option {short.partition('=')[0]}; {meant}"


def test_a_file_whose_name_begins_with_a_hyphen_is_told_how_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-a=b.jpg").touch()
    with pytest.raises(SystemExit):
        main(["predict", "-a=b.jpg"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("for the file of that name write ./-a=b.jpg")


@pytest.mark.parametrize(
    ("name", "option"), [("mine.h5", "--h5"), ("mine.tflite", "--litert"), ("mine.KERAS", "--keras")]
)
def test_an_export_to_a_file_is_told_the_option_that_writes_it(
    name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder mine.tflite was written, and for mine.h5 a folder proposed."""
    with pytest.raises(SystemExit):
        main(["export", "mien", "--to", name])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        f"argument --to: '{name}' is named like a file; such a file is written by {option} {name}"
    )


def test_a_word_too_many_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "photo.jpg"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("one too many: photo.jpg; see mien demo --help")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("prdict", "did you mean mien predict?"),
        (__file__, f"did you mean mien predict {__file__}?"),
        ("xyzzy", "there are predict, "),
        ("version", "did you mean mien --version?"),
        ("--predict", "did you mean mien predict?"),
        ("--csv", "a command comes first, its options behind it"),
    ],
)
def test_a_wrong_command_is_answered_with_the_one_that_was_meant(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([word, "photo.jpg"])
    assert stop.value.code == 2
    assert f"mien: error: no command {word}; {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage"), [(["help"], "usage: mien [-h]"), (["help", "data"], "usage: mien data")]
)
def test_help_is_a_command_as_well(words: list[str], usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(usage)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["predict", ""], "predict"),
        (["predict", "photo.jpg", "--save", ""], "--save"),
        (["predict", "photo.jpg", "--save="], "--save"),
        (["serve", "--token", " "], "--token"),
    ],
)
def test_an_empty_word_is_not_this_folder(
    words: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mien predict "$PHOTOS"` without such a variable read all below this folder; `--save "$TO"` wrote into it."""
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"mien: there is an empty word after {place}; is it a variable")


def test_a_folder_to_write_is_not_named_like_a_file(tmp_path: Path) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"'films/smiles.MP4' is named .* try 'films/smiles'"
    ):
        new_folder("films/smiles.MP4")
    (tmp_path / "v1.csv").mkdir()
    assert new_folder(f"{tmp_path}/v1.csv") == tmp_path / "v1.csv"  # it is one already
    assert new_folder("runs/lr0.05") == Path("runs/lr0.05")
