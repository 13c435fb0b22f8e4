"""Ctrl-C and SIGTERM wait while something is written that must be whole."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from mien.cli.main import main
from mien.errors import MienError
from mien.terminal import put_off, stopped_code, terminated_as_by_ctrl_c


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_the_end_of_the_block(sent: signal.Signals, code: int) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt) as stop, terminated_as_by_ctrl_c():
        with put_off():
            signal.raise_signal(sent)
            done.append("written")
        done.append("gone on")
    assert done == ["written"]
    assert stopped_code(stop.value) == code


def test_an_error_in_the_block_does_not_hide_the_signal() -> None:
    with pytest.raises(KeyboardInterrupt), put_off():
        signal.raise_signal(signal.SIGINT)
        raise OSError("the program that reads was told to stop as well")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_an_import_is_no_error_of_the_import(
    sent: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What pybind11 makes of it: "ImportError: initialization failed", from the KeyboardInterrupt."""

    def interrupted(_: object) -> int:
        try:
            signal.raise_signal(sent)
        except KeyboardInterrupt as stop:
            raise ImportError("initialization failed") from stop
        return 0

    monkeypatch.setattr("mien.cli.models.run", interrupted)
    assert main(["models"]) == code
    assert capsys.readouterr().err == "mien: stopped\n"

    def lost(_: object) -> int:  # as pydantic does, which is written in Rust
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise ValueError("Error building a serializer: _Terminated:")

    monkeypatch.setattr("mien.cli.models.run", lost)
    assert main(["models"]) == 143
    assert capsys.readouterr().err == "mien: stopped\n"

    def another(_: object) -> int:  # as Ray does, for whatever signal comes while it waits
        with suppress(KeyboardInterrupt):
            signal.raise_signal(sent)
        raise KeyboardInterrupt

    monkeypatch.setattr("mien.cli.models.run", another)
    assert main(["models"]) == code
    assert capsys.readouterr().err == "mien: stopped\n"
    monkeypatch.setattr("mien.cli.models.run", lambda _: __import__("mien.nothing"))
    with pytest.raises(ImportError, match="nothing"):
        main(["models"])


def test_an_error_that_stands_behind_itself_is_still_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a full disk is found while the results are put away: looking for a signal behind it must end."""

    def full(_: object) -> int:
        disk, said = OSError("no space"), MienError("cannot write a.csv: no space")
        disk.__context__ = said
        raise said from disk

    monkeypatch.setattr("mien.cli.models.run", full)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "mien: cannot write a.csv: no space\n"


def test_afterwards_everything_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with suppress(ValueError), put_off():
        raise ValueError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
