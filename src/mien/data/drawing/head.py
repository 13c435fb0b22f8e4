"""The head without its expression: skull, ears, neck, hair, beard, glasses."""

from __future__ import annotations

import numpy as np

from mien.data.drawing.look import Look
from mien.data.drawing.pen import Colour, Pen, Points, curve, ellipse, mix, shade

_WHITE: Colour = (255, 255, 255)


def outline(look: Look) -> Points:
    """Return the edge of the face: half an ellipse above the eyes, a squarer or more pointed half below."""
    above, below = ellipse(0, 0, look.head_width, 1), ellipse(0, 0, look.head_width, 1, power=look.jaw)
    narrow = 1 - 0.12 * np.clip(below[:, 1], 0, 1) ** 2
    below[:, 0] *= narrow
    return np.where(above[:, 1:] < 0, above, below)


def draw_behind(pen: Pen, look: Look) -> None:
    """Draw what the face hides: long hair, shoulders, neck, ears."""
    wide = look.head_width
    if look.hair_style == "long":
        pen.fill(ellipse(0, 0.25, wide + 0.2, 1.35, power=2.6), shade(look.hair, 0.8))
    if look.hair_style == "curly":
        _draw_curls(pen, look)
    if look.hair_style == "bun":
        pen.fill(ellipse(0, -1.18, 0.34, 0.28), look.hair)
    pen.fill(ellipse(0, 2.05, 1.45, 0.85, power=2.6), look.cloth)
    neck = shade(look.skin, 0.8)
    pen.fill(curve(np.array([-0.36, 0.36, 0.42, -0.42]), np.array([0.6, 0.6, 1.4, 1.4])), neck)
    pen.fill(ellipse(0, 1.38, 0.42, 0.16), neck)
    for side in (-1, 1):
        pen.fill(ellipse(side * wide, 0.02, 0.13, 0.2), look.skin)
        pen.fill(ellipse(side * (wide + 0.02), 0.02, 0.06, 0.12), shade(look.skin, 0.82))
    if look.hair_style == "headscarf":
        pen.fill(ellipse(0, 0.2, wide + 0.24, 1.4, power=2.3), look.cloth)


def draw_skull(pen: Pen, look: Look, edge: Points) -> None:
    """Draw the face itself, rounded by a shadow at its rim and a light on its forehead."""
    pen.fill(edge, shade(look.skin, 0.84))
    pen.fill(edge * 0.9 + [0.06 * look.turn, -0.03], look.skin, inside=edge, blur=0.09)
    pen.fill(ellipse(0.1 * look.turn, -0.5, 0.4, 0.24), shade(look.skin, 1.25), opacity=0.45, blur=0.14)
    rng = np.random.default_rng(look.seed)
    if look.freckles:
        for x, y in rng.normal((0, 0.2), (0.33, 0.08), (26, 2)):
            pen.fill(ellipse(x, y, 0.016, 0.016), look.line, inside=edge, opacity=0.6)
    for side in (-1, 1):
        cheek = ellipse(0.45 * side + 0.1 * look.turn, 0.27, 0.2, 0.14)
        pen.fill(cheek, (225, 95, 95), inside=edge, opacity=look.blush, blur=0.08)


def draw_hair(pen: Pen, look: Look, edge: Points) -> None:
    """Draw what lies over the forehead."""
    style = look.hair_style
    if style == "bald":
        return
    if style == "headscarf":
        _draw_cap(pen, edge, look.cloth, swell=1.12, line=-0.56, dip=-0.22, turn=look.turn)
    elif style == "beanie":
        _draw_cap(pen, edge, look.cloth, swell=1.13, line=-0.58, dip=0.02, turn=look.turn)
        brim = curve(
            np.linspace(-1, 1, 20) * (look.head_width + 0.02), -0.6 + 0.05 * np.linspace(-1, 1, 20) ** 2
        )
        pen.stroke(brim, shade(look.cloth, 0.75), 0.17)
    else:
        line, dip = {"fringe": (-0.44, 0.02), "cropped": (-0.68, -0.06)}.get(style, (-0.58, -0.16))
        _draw_cap(pen, edge, look.hair, swell=1.09, line=line, dip=dip, turn=look.turn, reach=0.48)
        if style == "parting":
            swoop = curve(np.array([-0.5, 0.1, 0.62, 0.2]), np.array([-0.52, -0.95, -0.5, -0.66]))
            pen.fill(swoop * [look.head_width / 0.75, 1], look.hair)
        if style == "spiky":
            _draw_spikes(pen, look)
        shine = curve(np.linspace(-0.45, 0.1, 12), -0.88 + 0.25 * np.linspace(-0.6, 0.35, 12) ** 2)
        pen.stroke(shine, mix(look.hair, _WHITE, 0.22), 0.05)


def _draw_cap(
    pen: Pen,
    edge: Points,
    colour: Colour,
    *,
    swell: float,
    line: float,
    dip: float,
    turn: float,
    reach: float = 0.3,
) -> None:
    """Cover the top of the head.

    line: height of its lower edge in the middle. dip: how far it rises to the temples; negative: falls.
    reach: how far below `line` it ends beside the ears.
    """
    top = edge[edge[:, 1] < line + reach] * [swell - 0.02, swell]
    top = top[np.argsort(top[:, 0])]
    across = np.linspace(1, -1, 32)
    end = top[-1]
    side = line - dip * across**2
    lower = curve(
        end[0] * across + 0.05 * turn * (1 - across**2), side + (end[1] - line + dip) * np.abs(across) ** 9
    )
    pen.fill(np.concatenate([top, lower]), colour)


def _draw_curls(pen: Pen, look: Look) -> None:
    rng = np.random.default_rng(look.seed)
    for turn in np.linspace(np.pi * 0.93, np.pi * 2.07, 17):
        x, y = (look.head_width + 0.1) * np.cos(turn), -0.1 + 1.0 * np.sin(turn)
        size = rng.uniform(0.2, 0.28)
        pen.fill(ellipse(x, y, size, size), shade(look.hair, rng.uniform(0.85, 1.1)))


def _draw_spikes(pen: Pen, look: Look) -> None:
    for x in np.linspace(-0.5, 0.5, 6):
        y = -1.05 + 0.5 * x * x
        pen.fill(
            curve(np.array([x - 0.14, x + 0.14, x * 1.3]), np.array([y + 0.15, y + 0.15, y - 0.24])),
            look.hair,
        )


def draw_beard(pen: Pen, look: Look, edge: Points, mouth_y: float) -> None:
    """Draw what grows around the mouth, before the mouth is drawn."""
    if look.beard in ("stubble", "full"):
        opacity = 0.22 if look.beard == "stubble" else 0.92
        lower = curve(np.linspace(-1, 1, 24), 1.2)
        across = np.linspace(1, -1, 24)
        upper = curve(across, mouth_y - 0.12 - 0.1 * across**2)
        pen.fill(np.concatenate([lower, upper]), look.hair, inside=edge, opacity=opacity, blur=0.03)
    if look.beard == "goatee":
        pen.fill(ellipse(0, mouth_y + 0.3, 0.17, 0.2), look.hair, inside=edge, opacity=0.9, blur=0.02)


def draw_moustache(pen: Pen, look: Look, y: float) -> None:
    """Draw it between nose and mouth, at this height."""
    if look.beard not in ("moustache", "full"):
        return
    across = np.linspace(-1, 1, 24)
    upper = curve(0.27 * across, y - 0.035 + 0.09 * across**2)
    lower = curve(-0.27 * across, y + 0.05 + 0.05 * across**2 - 0.02 * np.cos(3 * across))
    pen.fill(np.concatenate([upper, lower]), look.hair)


def draw_glasses(pen: Pen, look: Look, eye_y: float) -> None:
    """Draw frames over the eyes; the glass is clear but for a glint."""
    if look.glasses == "none":
        return
    power = 2.0 if look.glasses == "round" else 4.0
    frame: Colour = look.cloth if sum(look.cloth) < 420 else (40, 38, 40)
    for side in (-1, 1):
        rim = ellipse(side * look.eye_gap * 1.05, eye_y + 0.02, 0.26, 0.24, power=power)
        pen.fill(rim, _WHITE, opacity=0.07)
        pen.stroke(rim, frame, 0.032, closed=True)
        pen.stroke(
            curve(np.array([side * (look.eye_gap + 0.26), side * look.head_width]), eye_y - 0.03),
            frame,
            0.032,
        )
    bridge = look.eye_gap * 1.05 - 0.26
    pen.stroke(curve(np.array([-bridge, 0, bridge]), np.array([eye_y, eye_y - 0.03, eye_y])), frame, 0.032)
