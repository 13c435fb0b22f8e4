"""A real browser, for the pages of mien serve and mien label."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs Playwright: pip install playwright")
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(_CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]
PATIENCE_S = 60.0  # machines that test are busy


@contextmanager
def launcher() -> Iterator[Callable[..., Any]]:
    """Give what starts Chromium with further options; Playwright wants one place for all browsers of a thread."""
    from playwright.sync_api import sync_playwright

    # No sandbox: tests may run as root, and nothing but our own page is opened.
    options = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        yield lambda *words: playwright.chromium.launch(executable_path=_CHROMIUM, args=[*options, *words])


def until(page: Any, expression: str) -> None:
    """Wait until an expression of JavaScript is true; Playwright's own way of waiting needs what the policy forbids."""
    ends = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < ends, expression
        page.wait_for_timeout(50)
