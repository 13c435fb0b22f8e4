"""Who is drawn: everything about a person and a picture that says nothing about the expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.data.drawing.pen import Colour, mix, shade

# Ten steps from very light to very dark, as the Monk Skin Tone scale (https://skintone.google) has them.
_SKIN: tuple[Colour, ...] = (
    (255, 226, 204), (250, 211, 181), (240, 193, 155), (222, 168, 126), (198, 140, 98),
    (166, 110, 74), (134, 86, 58), (106, 68, 48), (82, 53, 40), (64, 43, 35),
)  # fmt: skip
_NATURAL_HAIR: tuple[Colour, ...] = (
    (28, 22, 20), (48, 33, 26), (84, 55, 36), (122, 82, 50), (190, 150, 92), (168, 74, 38), (165, 160, 155),
)  # fmt: skip
_DYED_HAIR: tuple[Colour, ...] = ((205, 92, 140), (70, 110, 180), (96, 70, 150), (60, 140, 120))
_CLOTH: tuple[Colour, ...] = (
    (46, 84, 128), (180, 66, 58), (232, 178, 70), (66, 128, 96), (240, 236, 226), (52, 52, 60),
    (142, 92, 150), (222, 130, 90), (110, 170, 190),
)  # fmt: skip
_IRIS: tuple[Colour, ...] = ((62, 40, 26), (92, 62, 36), (72, 104, 136), (86, 118, 84), (108, 104, 92))

HAIR = ("bald", "cropped", "parting", "fringe", "long", "curly", "bun", "spiky", "headscarf", "beanie")
BEARDS = ("none", "stubble", "moustache", "full", "goatee")
GLASSES = ("none", "round", "square")


@dataclass(frozen=True, kw_only=True)
class Look:
    """A person. Lengths in face units (half the height of a head)."""

    skin: Colour
    line: Colour  # outlines on skin
    lips: Colour
    hair: Colour
    cloth: Colour
    iris: Colour
    hair_style: str
    beard: str
    glasses: str
    head_width: float
    jaw: float  # Lamé exponent of the lower half: 1.8 pointed, 2.8 square
    brow_thick: float
    eye_size: float
    eye_gap: float  # half the distance of the eyes
    nose_width: float
    nose_length: float
    lip_thick: float
    gaze: float  # -1 to 1, to the sides
    turn: float  # -1 to 1, head turned to the sides
    freckles: bool
    blush: float
    lashes: bool
    seed: int  # for the small print: curls, freckles


def random_look(rng: np.random.Generator) -> Look:
    """Draw a person at random; every tone of skin is equally likely."""
    skin = _skin(rng.uniform(0, len(_SKIN) - 1))
    dark = sum(skin) < 320
    natural = _NATURAL_HAIR[: 2 if dark else None] if rng.random() < 0.9 else _DYED_HAIR
    hair = shade(natural[rng.integers(len(natural))], rng.uniform(0.85, 1.15))
    hair_style = str(rng.choice(HAIR))
    beard = str(rng.choice(BEARDS, p=(0.70, 0.08, 0.08, 0.08, 0.06)))
    if hair_style in ("headscarf", "bun", "long"):
        beard = "none"
    return Look(
        skin=skin,
        line=shade(skin, 0.38 if dark else 0.55),
        lips=mix(shade(skin, 1.1 if dark else 0.9), (190, 60, 70), rng.uniform(0.15, 0.65)),
        hair=hair,
        cloth=_CLOTH[rng.integers(len(_CLOTH))],
        iris=_IRIS[rng.integers(2 if dark else len(_IRIS))],
        hair_style=hair_style,
        beard=beard,
        glasses=str(rng.choice(GLASSES, p=(0.72, 0.14, 0.14))),
        head_width=rng.uniform(0.70, 0.86),
        jaw=rng.uniform(1.8, 2.7),
        brow_thick=rng.uniform(0.035, 0.075),
        eye_size=rng.uniform(1.0, 1.25),
        eye_gap=rng.uniform(0.30, 0.35),
        nose_width=rng.uniform(0.07, 0.13),
        nose_length=rng.uniform(0.20, 0.30),
        lip_thick=rng.uniform(0.025, 0.055),
        gaze=float(np.clip(rng.normal() * 0.4, -1, 1)),
        turn=float(np.clip(rng.normal() * 0.45, -1, 1)),
        freckles=bool(rng.random() < 0.12),
        blush=max(0.0, rng.uniform(-0.2, 0.35)),
        lashes=beard == "none" and bool(rng.random() < 0.45),
        seed=int(rng.integers(1 << 31)),
    )


def _skin(place: float) -> Colour:
    """Return the tone at a place between two steps of the scale."""
    below = min(int(place), len(_SKIN) - 2)
    return mix(_SKIN[below], _SKIN[below + 1], place - below)
