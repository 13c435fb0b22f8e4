"""The one check: format, lint, types, import rules, site, tests and every example in README, docs and docstrings.

    python tools/check.py           everything, as CI runs it
    python tools/check.py --fast    leave out the tests that take longer than about ten seconds
    python tools/check.py --fix     first let ruff mend what it can

Goes on after a failure, ends with a summary, and returns 1 if any step failed. What the steps need comes with
`pip install -e ".[train,dev]"`; this file itself needs the standard library alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTALL = 'pip install -e ".[train,dev]"'


@dataclass(frozen=True)
class Step:
    """One tool: a heading for people and the command line, program first."""

    heading: str
    command: tuple[str, ...]


def steps(*, fast: bool, fix: bool) -> list[Step]:
    """Return what is run, in order. The tests come last, so that pytest's closing line is easy to find."""
    mend = [
        Step("mend: lint", ("ruff", "check", "--fix-only", "--quiet", ".")),
        Step("mend: format", ("ruff", "format", "--quiet", ".")),
    ]
    check = [
        Step("format", ("ruff", "format", "--check", ".")),
        Step("lint", ("ruff", "check", ".")),
        Step("types", ("mypy",)),
        Step("import rules", ("lint-imports",)),
        Step("documentation site", ("mkdocs", "build", "--strict", "--quiet")),
        # A file's tests stay together and share its fixtures; much of a run is waiting, which two processes overlap.
        Step(
            "tests and examples",
            (
                "pytest",
                "-n",
                "auto",
                "--maxprocesses",
                "4",
                "--dist",
                "loadfile",
                *(("-m", "not slow") if fast else ()),
            ),
        ),
    ]
    return [*(mend if fix else ()), *check]


def find(program: str) -> str:
    """Return the path of a tool, first beside the running Python: no environment need be activated."""
    folder = sysconfig.get_path("scripts")
    found = shutil.which(program, path=folder) or shutil.which(program)
    if found is None:
        sys.exit(f"check: {program} is not installed; run: {INSTALL}")
    return found


def run(step: Step) -> tuple[bool, float]:
    """Run one step from the repository's root. Returns whether it passed and how long it took, in seconds."""
    print(f"\n=== {step.heading}: {' '.join(step.command)}", flush=True)
    start = time.perf_counter()
    program, *rest = step.command
    done = subprocess.run([find(program), *rest], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0, time.perf_counter() - start


def summary(results: Sequence[tuple[Step, bool, float]]) -> str:
    """Return one line a step and a last line that says it all."""
    lines = [
        f"{'ok    ' if ok else 'FAILED'} {step.heading:20} {time_s:7.1f} s" for step, ok, time_s in results
    ]
    failed = [step.heading for step, ok, _ in results if not ok]
    return "\n".join([*lines, f"failed: {', '.join(failed)}" if failed else "all checks passed"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps. Returns 0 if all passed, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="leave out the slow tests")
    parser.add_argument("--fix", action="store_true", help="first let ruff mend what it can")
    options = parser.parse_args(arguments)
    results = [(step, *run(step)) for step in steps(fast=options.fast, fix=options.fix)]
    print("\n" + summary(results), flush=True)
    return 0 if all(ok for _, ok, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
