"""Make the pictures of the page in docs/pictures anew: the shipped network, in a real browser.

    python tools/page_pictures.py [VIEW …]

Needs the extras serve and dev, and Chromium as `chromium`. Everybody shown may be shown: the portraits are the two
samples (public domain), the others are drawn. Portraits sway a little; drawn people change their expressions.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

import mien
from mien.data.drawn import draw_person
from mien.data.drawn.person import EXPRESSIONS, Pose, random_look

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
SAMPLES = Path(mien.__file__).parent / "samples"
VIEWS = ("photo", "camera", "video", "check")
WIDTH_PX = 300  # of one person
FPS, SECONDS = 10, 8
# Middle of the face in the sample, and how many of its pixels fill a tile's height.
CUTS = {"grace-hopper.jpg": (265, 215, 480), "eileen-collins.jpg": (225, 150, 400)}


class Drawn(NamedTuple):
    """A drawn person: seeds of look and backdrop, and the forms of EXPRESSIONS through which the face goes."""

    look: int
    backdrop: int
    forms: tuple[tuple[str, int], ...]


BUN = Drawn(9, 3, (("surprise", 1), ("happy", 1), ("surprise", 1)))
FRINGE = Drawn(3, 4, (("neutral", 0), ("surprise", 1), ("sad", 1)))
BEANIE = Drawn(4, 3, (("happy", 2),) * 2)
SCARF = Drawn(2, 0, (("happy", 2),) * 2)
SMILE = Drawn(9, 3, (("happy", 1),) * 2)
TEARS = Drawn(3, 4, (("sad", 1),) * 2)
FILM: tuple[str | Drawn, ...] = (BUN, "grace-hopper.jpg", FRINGE)
GROUP: tuple[tuple[str | Drawn, ...], ...] = (
    (SMILE, "grace-hopper.jpg", BEANIE),
    (TEARS, "eileen-collins.jpg", SCARF),
)
FILM_PX, GROUP_PX = 420, 360  # heights


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "views", nargs="*", metavar="VIEW", help=f"of {', '.join(VIEWS)}; all where none is named"
    )
    views = parser.parse_args().views or VIEWS
    if unknown := set(views) - set(VIEWS):
        parser.error(f"there is no view {', '.join(sorted(unknown))}; there are: {', '.join(VIEWS)}")
    with (
        tempfile.TemporaryDirectory() as place,
        _serving("serve") as address,
        sync_playwright() as playwright,
    ):
        folder = Path(place)
        film, camera, group = folder / "group.webm", folder / "camera.mjpeg", folder / "group.jpg"
        _write_film(film, camera)
        cv2.imwrite(str(group), np.vstack([_row(people, 0.0, GROUP_PX) for people in GROUP]))
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
            device_scale_factor=1.5,
            color_scheme="light",
            permissions=["camera"],
            reduced_motion="reduce",
        )
        for view, show, file in (
            ("photo", _photo, group),
            ("camera", _camera, camera),
            ("video", _video, film),
        ):
            if view not in views:
                continue
            page: Any = context.new_page()
            page.goto(f"{address}#{view}")
            show(page, file)
            page.wait_for_timeout(2500)
            page.screenshot(path=PICTURES / f"page-{view}.jpg", quality=85, full_page=True)
            if view == "video":
                at = page.locator("#timeline").bounding_box()
                # With what stands out of it, and the legend below.
                clip = {
                    "x": at["x"] - 24,
                    "y": at["y"] - 28,
                    "width": at["width"] + 48,
                    "height": at["height"] + 76,
                }
                page.screenshot(path=PICTURES / "page-timeline.jpg", quality=85, full_page=True, clip=clip)
            page.close()
        if "check" in views:
            _check(browser, Path(place))
        browser.close()


def _check(browser: Any, folder: Path) -> None:
    """Labels in doubt: of drawn faces some lie in the folder of another class."""
    pictures, faces = folder / "pictures", folder / "drawn"
    mien.faces(write_drawn(pictures), faces, detector="whole", label=r"([^/]+)/[^/]+$")
    with _serving("label", str(faces)) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 860}, color_scheme="light")
        page.goto(address)
        page.click("#tab-check")
        page.wait_for_selector(".check-face img", timeout=120_000)
        page.wait_for_timeout(2500)
        page.screenshot(path=PICTURES / "label-check.jpg", quality=85)
        page.close()


def write_drawn(folder: Path) -> Path:
    """Write drawn faces in a folder for each class; the first of each class lies in the one of the next."""
    subprocess.run(
        [sys.executable, "-m", "mien", "data", "get", "drawn", "--per-class", "60", "--to", folder],
        check=True,
    )
    classes = sorted((folder / "train").iterdir())
    for right, wrong in zip(classes, (*classes[1:], classes[0]), strict=True):
        first = min(path for path in right.iterdir() if right.name in path.name)
        first.rename(wrong / f"{wrong.name}-1000.png")
    return folder / "train"


def _photo(page: Any, file: Path) -> None:
    page.set_input_files("#photo-file", file)
    page.wait_for_selector("#photo-panel .bars li")


def _camera(page: Any, _file: Path) -> None:
    page.click("#camera-go")
    page.wait_for_selector("#camera-cards .card")


def _video(page: Any, file: Path) -> None:
    page.set_input_files("#video-file", file)
    page.wait_for_selector("#video-work:not([hidden])", timeout=120_000)
    page.wait_for_selector("#video-cards .card")
    page.evaluate("document.getElementById('video-player').currentTime = 4.2")


def _write_film(film: Path, camera: Path) -> None:
    """Write the same frames as VP8, which Chromium plays without licensed decoders, and as JPEG after JPEG."""
    writer = cv2.VideoWriter(
        str(film), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), FPS, (WIDTH_PX * len(FILM), FILM_PX)
    )
    frames = [_row(FILM, number / FPS, FILM_PX) for number in range(FPS * SECONDS)]
    for frame in frames:
        writer.write(frame)
    writer.release()
    pairs = (cv2.imencode(".jpg", frame[:, : 2 * WIDTH_PX])[1].tobytes() for frame in frames)
    camera.write_bytes(b"".join(pairs))


def _row(people: tuple[str | Drawn, ...], time_s: float, height: int) -> NDArray[np.uint8]:
    """Return people side by side, (height, width, 3) uint8, BGR."""
    return np.hstack(
        [
            _portrait(who, time_s, height) if isinstance(who, str) else _drawn(who, time_s / SECONDS, height)
            for who in people
        ]
    )


def _portrait(name: str, time_s: float, height: int) -> NDArray[np.uint8]:
    x, y, shown_px = CUTS[name]
    scale = height / shown_px * (1 + 0.03 * np.sin(time_s))
    x, y = x + 6 * np.sin(1.7 * time_s), y + 3 * np.cos(1.3 * time_s)
    shift = np.array([[scale, 0, WIDTH_PX / 2 - scale * x], [0, scale, height / 2 - scale * y]])
    size = (WIDTH_PX, height)
    picture = cv2.imread(str(SAMPLES / name))
    return np.asarray(cv2.warpAffine(picture, shift, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _drawn(who: Drawn, share: float, height: int) -> NDArray[np.uint8]:
    """Return a drawn person; share: of the way through the expressions, 0 to 1."""
    at = min(share, 0.999) * (len(who.forms) - 1)
    blend = round(float(np.clip((at % 1 - 0.35) / 0.3, 0, 1)), 1)  # hold, change, hold
    return _between(who, int(at) + (blend == 1), blend % 1, height)


@functools.cache
def _between(who: Drawn, form: int, blend: float, height: int) -> NDArray[np.uint8]:
    start, end = (
        EXPRESSIONS[name][which]
        for name, which in (who.forms[form], who.forms[min(form + 1, len(who.forms) - 1)])
    )
    values = {
        field.name: (1 - blend) * getattr(start, field.name) + blend * getattr(end, field.name)
        for field in dataclasses.fields(Pose)
    }
    look = random_look(np.random.default_rng((who.look,)))
    picture = draw_person(look, Pose(**values), np.random.default_rng((who.look, who.backdrop)), height)
    spare = (height - WIDTH_PX) // 2
    return np.ascontiguousarray(picture[:, spare : spare + WIDTH_PX, ::-1])


@contextmanager
def _serving(*command: str) -> Iterator[str]:
    command = (sys.executable, "-m", "mien", *command, "--port", "0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"listening on (http://\S+)", line) for line in process.stderr)))
        try:
            yield found[1]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
