"""Who is drawn and what the face does: a person's look, and the pose of each expression."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mien.data.drawn.pen import Colour, mix, shade

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


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Positions in face units (half the height of a head) unless said otherwise; the defaults are neutral."""

    mouth_lift: float = 0.0  # how far the corners stand above the middle; negative: they hang
    mouth_open: float = 0.0  # height of the opening
    mouth_width: float = 0.28  # half the distance of the corners
    mouth_round: float = 0.7  # exponent of the opening's outline: 0.2 nearly a box, 0.7 round
    mouth_skew: float = 0.0  # lift of one corner only
    mouth_wave: float = 0.0  # height of a tremble along the lips
    lip_raise: float = 0.0  # upper lip drawn up
    teeth: float = 0.0  # share of the opening that shows teeth
    tongue: float = 0.0  # how far the tongue hangs out
    brow_inner: float = 0.0  # lift of the inner ends
    brow_outer: float = 0.0  # lift of the outer ends
    brow_skew: float = 0.0  # lift of one brow only
    eye_open: float = 0.115  # height of the upper lid above the corners
    lid_slant: float = 0.0  # share by which the upper lid is lowered: above 0 inside, below 0 outside
    lid_low: float = 0.0  # share by which the lower lid is raised
    iris: float = 0.088  # radius
    frown: float = 0.0  # opacity of the upright lines between the brows
    wrinkle: float = 0.0  # opacity of the lines on the nose
    cheeks: float = 0.0  # opacity of the folds beside the mouth
    tear: float = 0.0  # above 0.5: a tear


# After the prototypes of the Facial Action Coding System (Ekman & Friesen 1978): for instance happiness
# raises the cheeks and draws up the corners of the mouth (units 6 and 12). Several forms each: people differ.
EXPRESSIONS: dict[str, tuple[Pose, ...]] = {
    "angry": (
        Pose(
            mouth_lift=-0.09, mouth_width=0.25,
            brow_inner=-0.13, brow_outer=0.09, lid_slant=0.75, frown=0.8,
        ),
        Pose(
            mouth_lift=-0.05, mouth_open=0.26, mouth_width=0.29, mouth_round=0.3, teeth=0.4,
            brow_inner=-0.13, brow_outer=0.10, lid_slant=0.7, frown=0.8, wrinkle=0.4, cheeks=0.4,
        ),
        Pose(
            mouth_lift=-0.05, mouth_open=0.11, mouth_width=0.30, mouth_round=0.2, teeth=1.0,
            brow_inner=-0.14, brow_outer=0.08, lid_slant=0.85, frown=1.0, wrinkle=0.5,
        ),
    ),
    "disgust": (
        Pose(
            mouth_lift=-0.11, mouth_open=0.04, mouth_width=0.27, mouth_skew=0.04, lip_raise=0.10,
            brow_inner=-0.08, brow_outer=-0.02, eye_open=0.085, lid_low=0.6,
            frown=0.5, wrinkle=1.0, cheeks=0.8,
        ),
        Pose(
            mouth_lift=-0.07, mouth_open=0.16, mouth_width=0.27, lip_raise=0.07, tongue=0.17,
            brow_inner=-0.07, brow_outer=0.0, eye_open=0.075, lid_low=0.7, frown=0.4, wrinkle=1.0, cheeks=0.9,
        ),
    ),
    "fear": (
        Pose(
            mouth_lift=-0.07, mouth_open=0.13, mouth_width=0.33, mouth_round=0.35, mouth_wave=0.012,
            teeth=0.6, brow_inner=0.17, brow_outer=0.01, eye_open=0.185, iris=0.066, frown=0.3,
        ),
        Pose(
            mouth_lift=-0.05, mouth_open=0.03, mouth_width=0.30, mouth_wave=0.03, teeth=0.5,
            brow_inner=0.16, brow_outer=0.0, eye_open=0.18, iris=0.062, frown=0.3,
        ),
    ),
    "happy": (
        Pose(mouth_lift=0.15, mouth_width=0.37, brow_inner=0.02, brow_outer=0.02, lid_low=0.4, cheeks=0.7),
        Pose(
            mouth_lift=0.13, mouth_open=0.19, mouth_width=0.39, teeth=0.5,
            brow_inner=0.03, brow_outer=0.02, lid_low=0.5, cheeks=0.8,
        ),
        Pose(
            mouth_lift=0.14, mouth_open=0.30, mouth_width=0.37, teeth=0.3,
            brow_inner=0.05, brow_outer=0.03, eye_open=0.02, lid_low=1.0, cheeks=0.9,
        ),
    ),
    "sad": (
        Pose(
            mouth_lift=-0.12, mouth_width=0.24,
            brow_inner=0.12, brow_outer=-0.07, eye_open=0.10, lid_slant=-0.6,
        ),
        Pose(
            mouth_lift=-0.13, mouth_open=0.08, mouth_width=0.26, mouth_wave=0.012, teeth=0.2,
            brow_inner=0.14, brow_outer=-0.07, eye_open=0.10, lid_slant=-0.6, tear=0.9, cheeks=0.3,
        ),
        Pose(mouth_lift=-0.11, mouth_width=0.22, brow_inner=0.11, brow_outer=-0.06, eye_open=0.02, tear=0.6),
    ),
    "surprise": (
        Pose(mouth_open=0.26, mouth_width=0.13, brow_inner=0.15, brow_outer=0.14, eye_open=0.185, iris=0.078),
        Pose(mouth_open=0.38, mouth_width=0.19, brow_inner=0.17, brow_outer=0.15, eye_open=0.195, iris=0.075),
        Pose(
            mouth_lift=0.02, mouth_open=0.16, mouth_width=0.17, teeth=0.25,
            brow_inner=0.14, brow_outer=0.14, eye_open=0.17, iris=0.08,
        ),
    ),
    "neutral": (Pose(),),
    "contempt": (
        Pose(mouth_skew=0.13, mouth_width=0.27, eye_open=0.075, brow_skew=0.08, cheeks=0.4),
        Pose(mouth_skew=0.11, mouth_lift=-0.03, eye_open=0.07, brow_inner=-0.03, brow_skew=0.05, cheeks=0.3),
    ),
}  # fmt: skip

_WEAKEST = 0.55  # strength of the faintest expression; 1 is the table's
# Standard deviation of how people hold their faces anyway; what is not named here does not vary.
_HABIT = {
    "mouth_lift": 0.018, "mouth_width": 0.022, "mouth_skew": 0.012, "brow_inner": 0.018, "brow_outer": 0.018,
    "brow_skew": 0.012, "eye_open": 0.012, "lid_slant": 0.08, "lid_low": 0.06, "iris": 0.004,
}  # fmt: skip


def random_pose(expression: str, rng: np.random.Generator) -> Pose:
    """Return one of the expression's forms, more or less strong, with a person's own habits added."""
    forms = EXPRESSIONS[expression]
    form, strength = forms[rng.integers(len(forms))], rng.uniform(_WEAKEST, 1.05)
    rest = Pose()
    values = {}
    for field in fields(Pose):
        start = getattr(rest, field.name)
        value = start + strength * (getattr(form, field.name) - start)
        values[field.name] = value + rng.normal() * _HABIT.get(field.name, 0.0)
    values["eye_open"] = max(values["eye_open"], 0.0)
    return Pose(**values)
