"""`mien`: the parser over all commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mien._version import __version__
from mien.errors import ConfigError, MienError
from mien.files import plain_text, shell_word
from mien.terminal import end_at_the_second_ctrl_c, end_now, say, stopped_code, terminated_as_by_ctrl_c

# Each is a module of this package with HELP (one line), EXAMPLES (text), add_arguments(parser) and run(args) -> int.
# Importing one must stay light: whatever is heavy is imported inside run().
COMMANDS = (
    "predict",
    "demo",
    "video",
    "live",
    "serve",
    "faces",
    "label",
    "data",
    "train",
    "evaluate",
    "compare",
    "explain",
    "models",
    "export",
    "ensemble",
    "batch",
    "bench",
    "train-detector",
    "evaluate-detector",
)
_OF_MIEN = ("--help", "--version")  # all other options are those of a command
_SYNONYMS = {
    "out": "to",
    "output": "to",
    "outdir": "to",
    "output-dir": "to",
}  # other programs' words for options
_CLOSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)  # of a path that was given
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of `mien ... > FILE`

NOTE = (
    "mien names the expression that people would see in a picture. It does not read feelings; inferring emotions "
    "at work or in schools is forbidden in the EU (AI Act, Art. 5(1)(f))."
)


WELCOME = """mien recognises facial expressions in photographs and videos, offline.

Try:
  mien demo                       two portraits that come with mien, marked copies of them
  mien predict photo.jpg          your own picture; or a folder: mien predict photos --save marked
  mien train FOLDER               a network for classes of your own: one folder of pictures per class

All commands: mien --help; one of them, with examples: mien predict --help
"""


def module_name(command: str) -> str:
    """Return the name of a command's module in this package."""
    return command.replace("-", "_")


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of the command line, importing nothing heavy.

    command: the only one that is needed, so that it starts sooner; another word or None: all of them.
    """
    top = argparse.ArgumentParser(
        prog="mien", description="Facial expression recognition: train, evaluate, ship.", epilog=NOTE
    )
    top.add_argument("--version", action="version", version=f"mien {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in (command,) if command in COMMANDS else COMMANDS:
        module = importlib.import_module(f"mien.cli.{module_name(name)}")
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --epoch for --epochs would change its meaning the day another option begins so
        )
        module.add_arguments(sub)
        sub.usage = _short_usage(sub)
        sub.set_defaults(run=module.run, parser=sub)
    return top


def _short_usage(command: argparse.ArgumentParser) -> str:
    """Return what must be given; argparse would list the options here as well, half a page before their help."""
    words = " ".join(command.format_usage().split()).partition(": ")[2]
    return " ".join([*re.sub(r"\[-[^\]]*\]+", "", words).split(), "[options]"]).replace("%", "%%")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns 0, 1 (some inputs failed), 2 (wrong input; one line on stderr), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    _replace_closed_streams()
    if arguments is not None:
        return _run(arguments)
    end_at_the_second_ctrl_c()  # the process is this command
    code = _run(sys.argv[1:])
    end_now(code)
    return code


def _run(arguments: Sequence[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that this terminal lacks
    given = _joined(arguments)
    if not given:
        print(WELCOME, end="")
        return 0
    came: list[KeyboardInterrupt] = []
    try:
        with terminated_as_by_ctrl_c() as came:
            options = _parsed(given)
            code = int(options.run(options))
        sys.stdout.flush()  # a full disk shows here at the latest
        return code
    except (MienError, ImportError, SystemError) as error:
        # A signal that comes while a library written in C is imported ends up behind an error of that import.
        if stop := _stop_behind(error):
            return _stopped(stop)
        if not isinstance(error, MienError):
            raise
        say(f"mien: {plain_text(str(error))}")  # a path in it may hold anything
        return 2
    except KeyboardInterrupt as stop:
        return _stopped(came[-1] if came else stop)  # Ray raises one of its own for it, as if of Ctrl-C
    except BrokenPipeError:  # `mien ... | head`: the reader has gone
        _drop_output()
        return 1
    except OSError as error:
        if not _has_folder():
            say(
                "mien: the folder in which this was started is gone; cd to another one and give the command again"
            )
            return 2
        if error.errno in _CLOSED and error.filename is not None:
            say(f"mien: {plain_text(os.fsdecode(error.filename))} cannot be opened: {error.strerror}")
            return 2
        if error.errno not in _FULL:
            raise
        _drop_output()
        print(f"mien: cannot write the output: {error.strerror}; free some space", file=sys.stderr)
        return 2
    except Exception:
        # A signal that comes while pydantic is imported is a mere word in an error of its own.
        if not came:
            raise
        return _stopped(came[-1])


def _has_folder() -> bool:
    """Say whether the folder is still there from which relative paths start."""
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    """Return the options, or end the process as argparse does; imports what the command stands on."""
    _refuse_empty(given)
    if given[0] == "help":  # mien help predict, as git and many others have it
        given = [*given[1:2], "--help"]
    if (word := given[0]) not in COMMANDS and word not in ("-h", *_OF_MIEN):
        _refuse_command(word)
    options, unknown = parser(word).parse_known_args(given)
    if unknown:
        _refuse(options.parser, unknown)
    return options


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise ConfigError for an empty word: as a path it would be this folder, and to be read or written as a whole."""
    for before, word in zip(("mien", *words), words, strict=False):
        if not word.strip() or re.fullmatch(r"--[a-z][\w-]*=\s*", word):
            place = word.rstrip("= ") or before
            raise ConfigError(
                f"there is an empty word after {place}; is it a variable of the shell that has no value? Leave it out, "
                "or name what is meant (this folder is .)"
            )


def _stop_behind(error: BaseException) -> KeyboardInterrupt | None:
    """Return the signal that an error was raised from, however far behind it is."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        behind = left.pop()
        if isinstance(behind, KeyboardInterrupt):
            return behind
        # Seen before: an error that is raised again from its own cause stands behind itself.
        if behind is not None and all(behind is not other for other in seen):
            seen.append(behind)
            left += [behind.__context__, behind.__cause__]
    return None


def _stopped(stop: KeyboardInterrupt) -> int:
    say("mien: stopped")
    return stopped_code(stop)


def _refuse_command(word: str) -> NoReturn:
    close = difflib.get_close_matches(word, (*COMMANDS, *_OF_MIEN), 1)
    if Path(word).exists():
        close = [f"predict {shell_word(word)}"]
    meant = f"did you mean mien {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"
    if word.startswith("-") and not close:
        meant = "a command comes first, its options behind it: mien predict PHOTO.jpg --csv"
    parser().error(f"no command {word}; {meant}")


def _refuse(command: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
    """End as argparse does, but with the usage of the command itself and the option that may have been meant."""
    word = next((word for word in words if word.startswith("-")), words[0])
    if word.startswith("-") and Path(word).exists():
        command.error(f"no option {word}; for the file of that name write ./{word}")
    word = word.partition("=")[0]
    known = re.findall(r"(?<![\w-])--([a-z][\w-]*)", command.format_help())
    # Without the hyphens, which all have in common, and closer than by default: --csv is not --actors.
    name = word.lstrip("-")
    close = difflib.get_close_matches(_SYNONYMS.get(name, name), known, 1, 0.7) if word[0] == "-" else []
    meant = f"; did you mean --{close[0]}?" if close else f"; see {command.prog} --help"
    command.error(f"{'no option' if word.startswith('-') else 'one too many:'} {word}{meant}")


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join an option and a list of numbers that begins with a minus: argparse would take `-1,1` for an option."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1].startswith("--") and "=" not in words[-1] and re.fullmatch(_NUMBERS, word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


_NUMBERS = r"-[\d.]+(e[+-]?\d+)?(,[+-]?[\d.]+(e[+-]?\d+)?)+"


def _replace_closed_streams() -> None:
    """Give what would be written to a stream that the caller closed (`>&-`) a place to go."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end


def _drop_output() -> None:
    """Let what is still in the buffer go nowhere, so that Python does not complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
