"""What speaks against relying on the answer about a face, by how it was found."""

from __future__ import annotations

import math

from mien.detect.base import Detection

NO_FACE = "no face?"  # a whole picture in which the detector sees hardly anything
SMALL, TURNED, PALE, UNSURE = "small", "turned", "low contrast", "unsure"
_SMALL_PX = 24.0  # longer side of the box below which the network is given more pixels than there are
_TURNED_DEGREES = 45.0  # of the line of the eyes
_UNSURE_SCORE = 0.5  # of the detector
_NO_FACE_SCORE = 0.25  # see `MienDetector.face_score`


def reasons(face: Detection) -> tuple[str, ...]:
    """Return what speaks against relying on the answer, in words; nothing: an empty tuple.

    small: under 24 pixels. turned: the eyes' line tilts by more than 45 degrees, as training pictures did not.
    low contrast: seen only after the levels were stretched, as in a dark picture. unsure: the detector is hardly sure
    that this is a face. no face?: the same for a picture that was said to be one.
    """
    found = []
    if max(face.box.width, face.box.height) < _SMALL_PX:
        found.append(SMALL)
    if face.landmarks is not None:
        right, left = face.landmarks.right_eye, face.landmarks.left_eye
        if abs(math.degrees(math.atan2(left.y - right.y, left.x - right.x))) > _TURNED_DEGREES:
            found.append(TURNED)
    if face.levels is not None:
        found.append(PALE)
    if face.score is not None:
        if face.whole:
            found += [NO_FACE] if face.score < _NO_FACE_SCORE else []
        elif face.score < _UNSURE_SCORE:
            found.append(UNSURE)
    return tuple(found)
