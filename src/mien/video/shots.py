"""Cuts: where one shot of a film ends and another begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.video.reader import Frame

# In six clips from one studio, at most 0.7 % of the places change by so many levels of 255 from frame to frame, and at
# least 33 % from the end of one clip to the beginning of another. What comes into a shot changes less of it.
_LEVELS, _SHARE = 12, 0.2
_TIMES = (
    3.0  # mean change between two shots, over what it is within them: a fast pan changes much all the time
)
_SIZE_PX = (64, 36)


def with_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Yield each frame, and whether it is the first of a new shot; one frame late.

    Content-aware detection, as PySceneDetect's adaptive detector does it: a change must take in a fifth of the picture,
    and be large beside the changes around it. The last two frames before the cut must both differ from the first two
    after it, so that the flash of a camera, which changes one frame alone, is none. Slow dissolves are not found.
    """
    before: list[NDArray[np.float32]] = []  # the last two frames of this shot, small
    waiting: tuple[Frame, NDArray[np.float32]] | None = None
    for frame in frames:
        small = _small(frame)
        if waiting is not None:
            cut = _is_cut(before, [waiting[1], small])
            yield waiting[0], cut
            before = [waiting[1]] if cut else [*before[-1:], waiting[1]]
        waiting = (frame, small)
    if waiting is not None:
        yield waiting[0], _is_cut(before, [waiting[1]])


def _is_cut(before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]) -> bool:
    if not before:
        return False
    pairs = [np.abs(one - other) for one in before for other in after]
    if min(float((pair.max(axis=2) > _LEVELS).mean()) for pair in pairs) < _SHARE:
        return False
    within = max(float(np.abs(shot[0] - shot[-1]).mean()) for shot in (before, after))
    return min(float(pair.mean()) for pair in pairs) >= _TIMES * within


def _small(frame: Frame) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(frame.image, _SIZE_PX, interpolation=cv2.INTER_AREA), np.float32)
