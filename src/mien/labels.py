"""Names of expressions: the one home of their spelling, their aliases and their order."""

from __future__ import annotations

# The order of FER-2013's integer labels 0-6 (Goodfellow et al. 2013, arXiv:1307.0414).
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# The order of the columns of FER+ (Barsoum et al. 2016, arXiv:1608.01041), without 'unknown' and 'NF'.
FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")

_ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": "contempt",
    "natural": "neutral",
}


def canonical(name: str) -> str:
    """Return the common spelling of an expression's name, or the name itself in lower case.

    Class names are free: this only makes `Anger`, `anger` and `angry` meet when two lists are matched.
    """
    plain = name.strip().lower()
    return _ALIASES.get(plain, plain)
