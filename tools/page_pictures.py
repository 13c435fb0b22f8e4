"""Make the pictures of the page in docs/pictures anew: the shipped network, in a real browser.

    python tools/page_pictures.py

Needs the extras serve and dev, and Chromium as `chromium`. The portraits are the two samples; camera and video show
them swaying side by side, in the films that the tests of the page use.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.serve.page_media import write_camera, write_webm  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
FILM_SIZE = (800, 600)


def main() -> None:
    """Write the three pictures."""
    with tempfile.TemporaryDirectory() as place, _serving() as address, sync_playwright() as playwright:
        film = write_webm(Path(place) / "film.webm", 60, size=FILM_SIZE)
        camera = write_camera(Path(place) / "camera.mjpeg", 40, size=FILM_SIZE)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={camera}",
            ],
        )
        context = browser.new_context(
            viewport={"width": 1280, "height": 745},
            color_scheme="light",
            permissions=["camera"],
            reduced_motion="reduce",
        )
        for view, show in (("photo", _photo), ("camera", _camera), ("video", _video)):
            page = context.new_page()
            page.goto(f"{address}#{view}")
            show(page, film)
            page.wait_for_timeout(1500)
            page.screenshot(path=PICTURES / f"serve-{view}.jpg", quality=88, full_page=True)
            page.close()
        browser.close()


def _photo(page: Any, _film: Path) -> None:
    page.click("[data-sample='eileen-collins.jpg']")
    page.wait_for_selector("#photo-panel .bars li")


def _camera(page: Any, _film: Path) -> None:
    page.click("#camera-go")
    page.wait_for_selector("#camera-cards .card")


def _video(page: Any, film: Path) -> None:
    page.set_input_files("#video-file", film)
    page.wait_for_selector("#video-work:not([hidden])")
    page.wait_for_selector("#video-cards .card")


@contextmanager
def _serving() -> Iterator[str]:
    command = [sys.executable, "-m", "mien", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"listening on (http://\S+)", line) for line in process.stderr)))
        try:
            yield found[1]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
