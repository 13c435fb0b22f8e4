"""What carries the expression: eyes, brows, nose and mouth."""

from __future__ import annotations

import numpy as np

from mien.data.drawing.look import Look
from mien.data.drawing.pen import Colour, Pen, Points, curve, ellipse, mix, shade
from mien.data.drawing.pose import Pose

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
