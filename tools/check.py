"""The one check: format, lint, types, import rules, site, tests and every example in README, docs and docstrings.

    python tools/check.py           everything, as CI runs it
    python tools/check.py --fast    leave out the tests that take longer than about ten seconds
    python tools/check.py --fix     first let ruff mend what it can

Two steps run at a time, as each but the tests keeps one core busy; the tests begin when the others are done. Goes on
after a failure, ends with a summary, and returns 1 if any step failed. What the steps need comes with
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTALL = 'pip install -e ".[train,dev]"'


@dataclass(frozen=True)
class Step:
    """One tool: a heading for people and the command line, program first. alone: beside no other step."""

    heading: str
    command: tuple[str, ...]
    alone: bool = False


def steps(*, fast: bool, fix: bool) -> list[Step]:
    """Return what is run, in order. The tests come last, so that pytest's closing line is easy to find."""
    mend = [
        Step("mend: lint", ("ruff", "check", "--fix-only", "--quiet", "."), alone=True),
        Step("mend: format", ("ruff", "format", "--quiet", "."), alone=True),
    ]
    check = [
        Step("format", ("ruff", "format", "--check", ".")),
        Step("lint", ("ruff", "check", ".")),
        Step("types", ("mypy",)),
        Step(
            "types as Windows has them",
            ("mypy", "--platform=win32", "--cache-dir=.mypy_cache/windows", "src/mien"),
        ),
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
            alone=True,
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


def run(step: Step) -> tuple[Step, bool, float]:
    """Run one step from the repository's root. Returns it, whether it passed and how long it took, in seconds."""
    start = time.perf_counter()
    program, *rest = step.command
    # What two steps say at a time is printed one after the other.
    said = None if step.alone else subprocess.PIPE
    heading = f"\n=== {step.heading}: {' '.join(step.command)}"
    if step.alone:
        print(heading, flush=True)
    done = subprocess.run(
        [find(program), *rest],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=None if step.alone else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if not step.alone:
        print(f"{heading}\n{done.stdout}", end="", flush=True)
    return step, done.returncode == 0, time.perf_counter() - start


def run_all(planned: Sequence[Step]) -> list[tuple[Step, bool, float]]:
    """Run the steps in order, those that need not be alone two at a time."""
    for step in planned:
        find(step.command[0])  # says what is missing before anything runs
    results: list[tuple[Step, bool, float]] = []
    for alone, group in groupby(planned, key=lambda step: step.alone):
        with ThreadPoolExecutor(1 if alone else 2) as pool:
            results += pool.map(run, group)
    return results


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
    results = run_all(steps(fast=options.fast, fix=options.fix))
    print("\n" + summary(results), flush=True)
    return 0 if all(ok for _, ok, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
