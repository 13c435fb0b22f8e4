"""Drawn faces: a small labelled data set that any machine can make, for a first training and for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.convert import png, refuse_existing
from mien.data.drawn import head
from mien.data.drawn.pen import Pen, background, develop
from mien.data.drawn.person import EXPRESSIONS, Look, Pose, random_look, random_pose
from mien.errors import ConfigError
from mien.files import whole_folder

_FINER = 4  # drawn this many times larger, then shrunk by area: smooth edges
_TEST_SHARE = 0.2


def draw_face(expression: str, rng: np.random.Generator, size: int = 96) -> NDArray[np.uint8]:
    """Draw a face of nobody with one expression; the same state of `rng` gives the same picture.

    expression: angry, contempt, disgust, fear, happy, neutral, sad or surprise. size: 16 to 2048 pixels.
    Returns (size, size, 3) uint8, RGB. Person, pose, light and background vary. Raises ConfigError.
    """
    _check_expressions((expression,))
    if not 16 <= size <= 2048:
        raise ConfigError(f"size of a drawn face must be from 16 to 2048 pixels, got {size}")
    return draw_person(random_look(rng), random_pose(expression, rng), rng, size)


def draw_person(look: Look, pose: Pose, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw one person in one pose, as draw_face does; background, light and place come from `rng`."""
    canvas = background(size * _FINER, rng)
    pen = Pen(canvas, _placement(size * _FINER, rng))
    inner = pen.moved(0.13 * look.turn, 0, squeeze=1 - 0.05 * abs(look.turn))  # the parts that stand forward
    edge = head.outline(look)
    head.draw_behind(pen, look)
    head.draw_skull(pen, look, edge)
    head.draw_beard(inner, look, edge, head.MOUTH_Y)
    head.draw_nose(inner, look, pose)
    head.draw_mouth(inner, look, pose)
    head.draw_moustache(inner, look, head.MOUTH_Y - 0.15)
    head.draw_eyes(inner, look, pose)
    head.draw_hair(pen, look, edge)
    head.draw_brows(inner, look, pose)
    head.draw_glasses(inner, look, head.EYE_Y)
    return develop(canvas, size, rng)


def draw_dataset(
    folder: Path,
    *,
    classes: tuple[str, ...] = ("happy", "sad", "angry", "surprise"),
    per_class: int = 100,
    seed: int = 0,
) -> None:
    """Write `per_class` drawn faces of each class as PNG files: four fifths in train/, one fifth in test/.

    The folder appears when it is complete. The same arguments give the same bytes. Raises ConfigError on a
    class that cannot be drawn or fewer than five pictures a class, OutputError where `folder` is not empty.
    """
    _check_expressions(classes)
    if len(set(classes)) < 2 or len(set(classes)) != len(classes):
        raise ConfigError(
            f"classes must be two or more different expressions, got {', '.join(classes) or 'none'}"
        )
    if per_class < 5:
        raise ConfigError(
            f"per_class must be at least 5, so that one in five can be tested on; got {per_class}"
        )
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")
    refuse_existing(folder)
    with whole_folder(folder) as unfinished:
        for place, expression in enumerate(classes):
            _draw_class(unfinished, expression, per_class, (seed, place))


def _check_expressions(names: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in EXPRESSIONS]:
        raise ConfigError(
            f"cannot draw {', '.join(map(repr, unknown))}; can draw: {', '.join(sorted(EXPRESSIONS))}"
        )


def _placement(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the map from face units to pixels: a head of 4/5 of the height, a little off and tilted."""
    unit = side * rng.uniform(0.37, 0.44)
    x, y = side * (np.array([0.5, 0.53]) + rng.normal(0, 0.02, 2))
    tilt = np.radians(np.clip(rng.normal() * 7, -16, 16))
    cos, sin = unit * np.cos(tilt), unit * np.sin(tilt)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def _draw_class(folder: Path, expression: str, count: int, seed: tuple[int, int]) -> None:
    training = count - round(count * _TEST_SHARE)
    for split in ("train", "test"):
        (folder / split / expression).mkdir(parents=True)
    for number in range(count):
        picture = draw_face(expression, np.random.default_rng((*seed, number)))
        split = "train" if number < training else "test"
        (folder / split / expression / f"{expression}-{number:04d}.png").write_bytes(png(picture))
