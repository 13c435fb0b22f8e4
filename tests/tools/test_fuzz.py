"""Some hundreds of damaged and made-up files: an answer or one line, nothing else. The long run is tools/fuzz.py's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and alarms need POSIX")


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *words], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize(("kind", "count"), [("pictures", 400), ("tables", 40), ("models", 60)])
def test_damaged_files_are_answered_or_refused_in_one_line(kind: str, count: int) -> None:
    done = fuzz("--kind", kind, "--count", str(count), "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        f"{kind}: {count} inputs, seed 1: " in done.stdout
        and " read" in done.stdout
        and " refused" in done.stdout
    )


def test_an_input_follows_from_its_number(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert fuzz("--kind", "pictures", "--only", "17", "--keep", str(tmp_path / folder)).returncode == 0
    first, second = ((tmp_path / folder / "pictures-0-17").read_bytes() for folder in ("one", "two"))
    assert first == second and len(first) > 10
