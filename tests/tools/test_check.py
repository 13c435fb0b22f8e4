"""The check command and CI: that they can fail, and that CI runs what the README says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """tools/check.py as a module."""
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check"] = module
    spec.loader.exec_module(module)
    return module


def test_a_failing_step_is_seen_and_named(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = check.Step("good", ("python", "-c", "")), check.Step("bad", ("python", "-c", "exit(3)"))
    monkeypatch.setattr(check, "steps", lambda **_: [bad, good])
    assert check.main([]) == 1
    monkeypatch.setattr(check, "steps", lambda **_: [good])
    assert check.main([]) == 0


def test_what_two_steps_say_at_a_time_is_not_mixed(
    check: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = "import time\nfor _ in range(3): print('{0}', flush=True); time.sleep(.05)"
    both = [check.Step(name, ("python", "-c", talk.format(name))) for name in ("one", "two")]
    assert [passed for _, passed, _ in check.run_all(both)] == [True, True]
    lines = [line for line in capsys.readouterr().out.splitlines() if line in ("one", "two")]
    assert lines in (["one"] * 3 + ["two"] * 3, ["two"] * 3 + ["one"] * 3)


def test_the_summary_ends_with_the_verdict(check: ModuleType) -> None:
    good, bad = check.Step("good", ("a",)), check.Step("bad", ("b",))
    assert check.summary([(good, True, 1.0)]).splitlines() == [
        f"ok     {'good':20}     1.0 s",
        "all checks passed",
    ]
    assert check.summary([(good, True, 1.0), (bad, False, 2.0)]).splitlines()[-1] == "failed: bad"


def test_a_missing_tool_says_how_to_install_it(check: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no-such-tool is not installed; run: pip install -e"):
        check.find("no-such-tool")


def test_fast_leaves_out_slow_tests_and_fix_mends_first(check: ModuleType) -> None:
    headings = [step.heading for step in check.steps(fast=False, fix=True)]
    assert headings == [
        "mend: lint",
        "mend: format",
        "format",
        "lint",
        "types",
        "types as Windows has them",
        "import rules",
        "documentation site",
        "tests and examples",
    ]
    fast, whole = (check.steps(fast=fast, fix=False)[-1].command for fast in (True, False))
    assert fast == (*whole, "-m", "not slow")
    assert whole[0] == "pytest"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """Runs the line of .ci/run that reads the README, and looks for what it must find."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (extract,) = [line for line in script.splitlines() if line.startswith("command=")]
    done = subprocess.run(
        ["bash", "-c", f'{extract}\nprintf %s "$command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == 'pip install -e ".[train,dev]" && python tools/check.py'


def test_the_install_hint_is_the_readmes(check: ModuleType) -> None:
    assert check.INSTALL in (ROOT / "README.md").read_text(encoding="utf-8")
