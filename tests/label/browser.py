"""The page of labels, opened in a real browser. Errors on the console are failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..serve.browser import PATIENCE_S
from .conftest import Labelling


@contextmanager
def opened(
    browser: Any,
    server: Labelling,
    who: str = "ann",
    *,
    width: int = 1280,
    height: int = 820,
    theme: str = "light",
    out_of_reach: bool = False,
) -> Iterator[Any]:
    """Open the page in a window of its own, as one person. out_of_reach: the server is, at times."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,
        has_touch=width < 500,
        reduced_motion="reduce",
    )
    trouble: list[str] = []
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    leaves = lambda dialog: out_of_reach and dialog.type == "beforeunload"  # noqa: E731
    page.on("dialog", lambda one: one.accept() if leaves(one) else trouble.append(f"dialog {one.message}"))
    page.add_init_script(f"if (location.host) localStorage.setItem('mien-label-who', '{who}')")
    page.goto(f"http://127.0.0.1:{server.port}/")
    # The first that fits is waited for, and a tile that is kept for later use stays hidden however long one waits.
    page.wait_for_selector(".tile:not([hidden]) img[src], #empty:not([hidden])")
    yield page
    fits = page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    context.close()
    assert [line for line in trouble if not out_of_reach or "Failed to load resource" not in line] == []
    assert fits, "the page is wider than the window"


STORED = "document.getElementById('stored').textContent === 'all stored'"
