"""Names of expressions: the one home of their spelling, their aliases and their order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# The order of FER-2013's integer labels 0-6 (Goodfellow et al. 2013, arXiv:1307.0414).
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# The order of the columns of FER+ (Barsoum et al. 2016, arXiv:1608.01041), without 'unknown' and 'NF'.
FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")

# Forms of one word: in one data set they are one class, spelt twice.
_FORMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "suprise": "surprise",  # so spelt in a widespread copy of FER+
    "contemptuous": "contempt",
}
# Other words for one expression: they meet when two lists are matched, but somebody's own classes may keep them apart.
_SYNONYMS = {
    "afraid": "fear",
    "scared": "fear",
    "joy": "happy",
    "natural": "neutral",
}
_ALIASES = {**_FORMS, **_SYNONYMS}
_JOINERS = "\u200c\u200d"  # seen only by what they do to their neighbours, in Persian, Hindi and emoji


def canonical(name: str) -> str:
    """Return the common spelling of an expression's name, or the name itself in lower case.

    Class names are free: this only makes `Anger`, `anger` and `angry` meet when two lists are matched.
    """
    plain = same_letters(name)
    return _ALIASES.get(plain, plain)


def word_form(name: str) -> str:
    """Like canonical, but leaves other words for the same expression apart (`joy` and `happy`, `scared` and `fear`)."""
    plain = same_letters(name)
    return _FORMS.get(plain, plain)


def same_letters(name: str) -> str:
    """Return a name without what people do not mean by it: capitals, blanks around it, signs that nobody sees.

    Nearly Unicode's NFKC_Casefold, by which full-width and composed letters meet the plain ones.

    >>> same_letters(" Happy\u200b"), same_letters("ｈａｐｐｙ")
    ('happy', 'happy')
    """
    plain = visible(unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in plain if letter not in _JOINERS).strip()


def visible(name: str) -> str:
    """Return a name without format characters: zero-width blanks, marks of the byte order and of direction.

    >>> visible("\u200bhappy\ufeff")
    'happy'
    """
    if name.isprintable():
        return name
    return "".join(sign for sign in name if sign in _JOINERS or unicodedata.category(sign) != "Cf")


def matching_place(name: str, names: Sequence[str]) -> int | None:
    """Return the place among `names` of the one that means the same, None where there is none or several could be.

    The very name comes first, then one with other capitals, another form of the word, another word for the expression:
    so somebody's own classes `joy` and `happy` stay two.

    >>> matching_place("joy", ("happy", "sad")), matching_place("joy", ("happy", "joy")), matching_place("a", ("b",))
    (0, 1, None)
    """
    for form in (str, same_letters, word_form, canonical):
        alike = [place for place, known in enumerate(names) if form(known) == form(name)]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def is_expression(name: str) -> bool:
    """Say whether a name, in any spelling that we know, is one of the eight expressions of FER+."""
    return canonical(name) in FERPLUS
