"""The parts of a face: skull, hair, beard and glasses; eyes, brows, nose and mouth, which carry the expression."""

from __future__ import annotations

import numpy as np

from mien.data.drawn.pen import Colour, Pen, Points, curve, ellipse, mix, shade
from mien.data.drawn.person import Look, Pose

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


EYE_Y, MOUTH_Y = -0.1, 0.56  # face units below the centre of the head
_EYE_WIDTH = 0.165  # half, face units
_WHITE_OF_EYE: Colour = (248, 246, 242)
_DARK: Colour = (24, 18, 18)
_INSIDE_MOUTH: Colour = (92, 26, 34)
_TONGUE: Colour = (214, 96, 104)
_TEETH: Colour = (250, 248, 242)
_TEAR: Colour = (150, 205, 240)

_ACROSS = np.linspace(-1, 1, 25)  # along an eye from inside to outside, or along a mouth from left to right
_DOME = 1 - _ACROSS**2


def draw_eyes(pen: Pen, look: Look, pose: Pose) -> None:
    """Draw both eyes; the gaze is shared, so they do not squint apart."""
    for side in (-1, 1):
        local = pen.moved(side * look.eye_gap, EYE_Y, squeeze=side)
        if pose.eye_open < 0.05:
            _draw_closed_eye(local, look, smiling=pose.lid_low > 0.3)
        else:
            _draw_open_eye(local, look, pose, gaze=look.gaze * side)
        if pose.tear > 0.5 and side == (1 if look.turn >= 0 else -1):
            drop = curve(np.array([0.05, 0.095, 0.05, 0.005]), np.array([0.13, 0.27, 0.32, 0.27]))
            local.fill(drop, _TEAR)
            local.stroke(drop, shade(_TEAR, 0.75), 0.012, closed=True)


def _draw_open_eye(pen: Pen, look: Look, pose: Pose, *, gaze: float) -> None:
    xs = _EYE_WIDTH * look.eye_size * _ACROSS
    # The lid hangs on one side: the inner for an angry look, the outer for a sad one.
    side = -1 if pose.lid_slant > 0 else 1
    slant = 1 + side * pose.lid_slant * (1 + side * _ACROSS) / 2
    upper = curve(xs, -pose.eye_open * look.eye_size * slant * _DOME**0.6)
    low = 0.07 + 0.35 * max(pose.eye_open - 0.1, 0)
    lower = curve(xs, low * (1 - 0.9 * pose.lid_low) * _DOME**0.7)
    shape = np.concatenate([upper, lower[::-1]])
    pen.fill(shape, _WHITE_OF_EYE)
    x = 0.06 * gaze
    pen.fill(ellipse(x, -0.02, pose.iris, pose.iris), look.iris, inside=shape)
    pen.fill(ellipse(x, -0.02, pose.iris * 0.55, pose.iris * 0.55), _DARK, inside=shape)
    pen.fill(ellipse(x + 0.03, -0.05, 0.02, 0.02), _WHITE_OF_EYE, inside=shape)
    pen.stroke(lower, look.line, 0.014)
    pen.stroke(upper, mix(look.line, _DARK, 0.7), 0.034)
    if look.lashes:
        for place in (17, 20, 23):
            root = upper[place]
            pen.stroke(np.stack([root, root + np.array([0.05, -0.06])]), _DARK, 0.02)


def _draw_closed_eye(pen: Pen, look: Look, *, smiling: bool) -> None:
    bend = -0.075 if smiling else 0.06
    pen.stroke(
        curve(_EYE_WIDTH * look.eye_size * _ACROSS, bend * _DOME + 0.02), mix(look.line, _DARK, 0.8), 0.036
    )


def draw_brows(pen: Pen, look: Look, pose: Pose) -> None:
    """Draw the brows and, above 0, the frown between them."""
    colour = mix(look.hair, _DARK, 0.35)
    for side in (-1, 1):
        local = pen.moved(side * look.eye_gap, EYE_Y - 0.25, squeeze=side)
        share = (_ACROSS + 1) / 2
        lift = (1 - share) * pose.brow_inner + share * pose.brow_outer + max(side * pose.brow_skew, 0)
        middle = -lift - 0.035 * _DOME
        thick = look.brow_thick * (1 - 0.55 * share)
        upper, lower = curve(0.19 * _ACROSS, middle - thick), curve(0.19 * _ACROSS, middle + thick)
        local.fill(np.concatenate([upper, lower[::-1]]), colour)
        if pose.frown > 0.2:
            crease = curve(
                np.array([-0.3, -0.27, -0.29]) + look.eye_gap - 0.32, np.array([0.06, -0.02, -0.1])
            )
            local.stroke(crease, mix(look.skin, look.line, min(pose.frown, 1)), 0.022)


def draw_nose(pen: Pen, look: Look, pose: Pose) -> None:
    """Draw the nose, and the folds that run from it when the lip or the cheeks are drawn up."""
    tip, wide = EYE_Y + 0.1 + look.nose_length - 0.03 * pose.wrinkle, look.nose_width
    shadow = mix(look.skin, look.line, 0.45)
    pen.fill(ellipse(0.03, tip - 0.12, wide * 0.6, 0.16), shadow, opacity=0.3, blur=0.04)
    pen.fill(ellipse(0, tip - 0.03, wide * 0.75, 0.055), shade(look.skin, 1.25), opacity=0.6, blur=0.02)
    pen.stroke(curve(wide * _ACROSS, tip + 0.045 * _DOME - 0.05 * np.abs(_ACROSS) ** 4), shadow, 0.03)
    for side in (-1, 1):
        pen.fill(ellipse(side * wide * 0.5, tip + 0.03, 0.024, 0.014), look.line)
        if pose.wrinkle > 0.2:
            crease = mix(look.skin, look.line, min(pose.wrinkle, 1) * 0.9)
            for step in range(3):
                y = EYE_Y + 0.02 + 0.065 * step
                line = curve(np.array([0.03, 0.09, 0.12]) * side, np.array([y + 0.03, y, y + 0.035]))
                pen.stroke(line, crease, 0.018)
        if pose.cheeks > 0.2:
            down = np.linspace(0, 1, 12)
            fold = curve(side * (wide + 0.05 + 0.17 * down**0.7), tip + 0.02 + 0.24 * down)
            pen.stroke(fold, mix(look.skin, look.line, min(pose.cheeks, 1) * 0.55), 0.022)


def draw_mouth(pen: Pen, look: Look, pose: Pose) -> None:
    """Draw the mouth, open or closed, with teeth and tongue where they show."""
    upper, lower = _lips(pose)
    thick = look.lip_thick
    lips_up = curve(
        upper[:, 0], upper[:, 1] - thick * (0.4 + _DOME) * (1 - 0.25 * np.cos(3 * np.pi * _ACROSS))
    )
    lips_down = curve(lower[:, 0], lower[:, 1] + 1.4 * thick * _DOME**0.6)
    pen.fill(np.concatenate([lips_up, lips_down[::-1]]), look.lips)
    opening = np.concatenate([upper, lower[::-1]])
    if pose.mouth_open > 0.035:
        pen.fill(opening, _INSIDE_MOUTH)
        _draw_inside(pen, pose, upper, lower, opening)
        pen.stroke(opening, shade(look.lips, 0.7), 0.018, closed=True)
    else:
        pen.stroke((upper + lower) / 2, mix(look.line, _INSIDE_MOUTH, 0.4), 0.03)
    if pose.tongue > 0.05:
        tongue = ellipse(0, lower[12, 1] + 0.02, 0.12, pose.tongue, power=2.6)
        tongue = tongue[tongue[:, 1] > upper[12, 1] + 0.04]
        pen.fill(tongue, _TONGUE)
        seam = np.array([lower[12, 1] - 0.04, lower[12, 1] + pose.tongue * 0.5])
        pen.stroke(curve(np.zeros(2), seam), shade(_TONGUE, 0.75), 0.02)


def _lips(pose: Pose) -> tuple[Points, Points]:
    """Return the edges of the opening, upper and lower, 25 points each from left to right."""
    xs = pose.mouth_width * _ACROSS
    lift = pose.mouth_lift * (_ACROSS**2 - 0.4) + pose.mouth_skew * np.clip(_ACROSS, 0, 1) ** 1.5
    middle = MOUTH_Y - lift + pose.mouth_wave * np.sin(3.5 * np.pi * _ACROSS)
    round_ = _DOME**pose.mouth_round
    # A laughing mouth opens downwards: its upper lip stays near the line of the corners.
    share_up = 0.45 - min(max(pose.mouth_lift, 0) * 2.2, 0.3)
    upper = middle - pose.mouth_open * share_up * round_ - pose.lip_raise * _DOME
    lower = middle + pose.mouth_open * (1 - share_up) * round_ - pose.lip_raise * 0.6 * _DOME
    return curve(xs, upper), curve(xs, lower)


def _draw_inside(pen: Pen, pose: Pose, upper: Points, lower: Points, opening: Points) -> None:
    height = float(lower[12, 1] - upper[12, 1])
    if pose.teeth < 0.75:
        pen.fill(
            ellipse(0, lower[12, 1] + 0.02, pose.mouth_width * 0.6, height * 0.4), _TONGUE, inside=opening
        )
    if pose.teeth > 0.1:
        edge = curve(upper[:, 0], np.minimum(upper[:, 1] + pose.teeth * height, lower[:, 1]))
        pen.fill(np.concatenate([upper, edge[::-1]]), _TEETH, inside=opening)
    if pose.teeth > 0.75:
        seam: Colour = (190, 182, 176)
        pen.stroke((upper + lower)[2:-2] / 2, seam, 0.014)
        for place in range(4, 22, 4):
            pen.stroke(np.stack([upper[place], lower[place]]), seam, 0.012)
