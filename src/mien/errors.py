"""What can go wrong, as one small tree.

Every message is one line with four parts: what was wrong, the value, what is allowed, what to do. The command
prints it and returns 2; a traceback means that mien itself has a bug.
"""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


class MienError(Exception):
    """Base of every error that mien raises on purpose."""


class ConfigError(MienError, ValueError):
    """A setting has an unknown name or a value that is not allowed."""


class DataError(MienError, ValueError):
    """A data set is missing, empty or not in a form that we read."""


class SmallClassError(DataError):
    """A class has too few pictures to be learnt and checked."""


class ImageError(DataError):
    """One picture cannot be decoded."""


class ModelError(MienError, ValueError):
    """A model folder or network file is missing, damaged or of another format."""


class TrainingError(MienError, RuntimeError):
    """Training cannot go on, for instance because the loss is not finite."""


class WorkerError(MienError, RuntimeError):
    """The processes or machines that work for a command cannot go on."""


class OutputError(MienError, OSError):
    """A result cannot be written where it was asked for."""


class MissingExtra(MienError, ImportError):
    """A feature needs a package that the light installation leaves out."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says, 200 letters at most; its kind where it is silent.

    >>> first_line(ValueError("\\n  no such layer\\nTraceback…")), first_line(KeyboardInterrupt())
    ('no such layer', 'KeyboardInterrupt')
    """
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return said[:200] or type(error).__name__


def need(module: str, extra: str, what: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    what: the feature in words, the subject of the message ("training", "reading Parquet").
    Raises MissingExtra when the module is not installed.
    """
    try:
        with warnings.catch_warnings():
            # scikit-learn brings joblib, which warns where /dev/shm cannot be written; mien asks it for no processes.
            warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
            return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"{what} needs {package}, which cannot be imported ({error}); "
            f'install it with: pip install "mien[{extra}]"'
        ) from error


def optional_package(package: str) -> ModuleType:
    """Import a package that mien works with and never brings along; MissingExtra says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(
            f"this needs the package {package}; install it with: pip install {package}"
        ) from error
