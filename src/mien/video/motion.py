"""Where a face will be: its centre and size move on as they did, less and less surely."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mien.predict.found_face import Box

# In units of the face's own size, so that near and far faces are judged alike.
_JITTER = 0.05  # standard deviation of a finder's box: centre and sides
_PUSH = 4.0  # how much a head changes its speed: spectral density of the acceleration, sizes² / s³
_SPEED = 1.5  # standard deviation of the speed of a face that has just appeared, sizes / s
_COASTS_S = 0.3  # seconds in which the speed of an unseen face falls to 1/e: heads stop and turn


class Motion:
    """A Kalman filter over centre x, centre y, width and height, as in SORT (Bewley et al. 2016, arXiv:1602.00763).

    Differences: time is in seconds rather than frames, so any frame rate and variable ones are right; the four
    values are independent and share one 2x2 covariance, because all noise is a share of the face's size; the
    speed dies away (Singer 1970, doi:10.1109/TAES.1970.310128), so that a face that is lost for a second is
    looked for near where it went, not far out of the picture.
    """

    def __init__(self, box: Box, time_s: float) -> None:
        self._place = _measured(box)
        self._speed = np.zeros(4)
        self._covariance = np.diag([_JITTER**2, _SPEED**2])
        self._time_s = time_s

    def box(self, time_s: float) -> Box:
        """Return the box expected at a time, which is not before the last one."""
        x, y, width, height = self._place + self._speed * _travel(time_s - self._time_s)
        width, height = max(width, 1e-3), max(height, 1e-3)
        return (float(x - width / 2), float(y - height / 2), float(width), float(height))

    def see(self, box: Box, time_s: float) -> None:
        """Take in where the face was found."""
        gap_s = time_s - self._time_s
        move = np.array([[1.0, _travel(gap_s)], [0.0, math.exp(-gap_s / _COASTS_S)]])
        noise = _PUSH * np.array([[gap_s**3 / 3, gap_s**2 / 2], [gap_s**2 / 2, gap_s]])
        spread = move @ self._covariance @ move.T + noise
        gain = spread[:, 0] / (spread[0, 0] + _JITTER**2)
        expected = self._place + self._speed * move[0, 1]
        missed = _measured(box) - expected
        self._place = expected + gain[0] * missed
        self._speed = self._speed * move[1, 1] + gain[1] * missed
        self._covariance = spread - np.outer(gain, spread[0])
        self._time_s = time_s


def _travel(gap_s: float) -> float:
    """Return for how many seconds a face keeps its speed, in effect, within a gap."""
    return _COASTS_S * -math.expm1(-gap_s / _COASTS_S)


def _measured(box: Box) -> NDArray[np.float64]:
    x, y, width, height = box
    return np.array([x + width / 2, y + height / 2, width, height], np.float64)
