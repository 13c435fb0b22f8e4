"""What the answers of several people about one face come to, and how well people agree over all faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CANNOT_TELL, NO_FACE = NO_CLASS = "cannot tell", "no face"  # what people say of a face instead of a class


@dataclass(frozen=True)
class Agreed:
    """What the answers about one face come to.

    label: the class most people gave; empty where nobody gave one, or as many said something else; it replaces the
    table's. status: '', 'cannot tell', 'no face' or 'duplicate'; see `status_over`. votes: how many people gave each
    class. people: what each said, a class, 'cannot tell' or 'no face'. who: their names, comma-separated. when: of the
    last answer, UTC, ISO 8601. duplicate_of: the id of the face that this one repeats, empty where they were found
    distinct, None where nothing was said.
    kept: the label that somebody confirmed although the network doubts it.
    """

    label: str = ""
    status: str = ""
    votes: Mapping[str, int] = field(default_factory=dict)
    people: Mapping[str, str] = field(default_factory=dict)
    when: str = ""
    duplicate_of: str | None = None
    kept: str = ""

    @property
    def who(self) -> str:
        return ", ".join(self.people)

    def status_over(self, status: str) -> str:
        """Return the status of a face whose row in the table has `status`: what people said counts more."""
        if self.people or self.duplicate_of is not None:
            return self.status
        # It was written there, and taken back since.
        return "" if status in NO_CLASS else status


NOTHING = Agreed()


def agreed(said: Mapping[str, str], when: str, twin: str | None, kept: str) -> Agreed:
    """Count what was said: whoever cannot tell abstains; the word that was said most often holds, a tie is none."""
    words = Counter(word for word in said.values() if word != CANNOT_TELL)
    label = status = ""
    if words:
        first, *others = words.most_common(2)
        if not others or first[1] > others[0][1]:
            label, status = ("", NO_FACE) if first[0] == NO_FACE else (first[0], "")
    elif said:
        status = CANNOT_TELL
    if twin:
        status = status or "duplicate"
    votes = {word: count for word, count in words.items() if word != NO_FACE}
    return Agreed(label, status, votes, dict(said), when, twin, kept)


class Agreement:
    """Krippendorff's alpha for nominal data, kept up to date; 1: everybody always agrees, 0: as by chance.

    Krippendorff 2011, Computing Krippendorff's Alpha-Reliability. units: how many things had two answers or more.
    """

    def __init__(self) -> None:
        self.units = 0
        self._observed, self._totals = 0.0, Counter[str]()

    def count(self, words: Iterable[str], times: int = 1) -> None:
        """Count what different people said about one thing; times: -1 takes it off again."""
        unit = Counter(words)
        if (answers := unit.total()) < 2:
            return
        self.units += times
        for word, count in unit.items():
            self._totals[word] += times * count
            self._observed += times * count * (answers - count) / (answers - 1)

    def alpha(self) -> float | None:
        """Return alpha; None where nothing had two answers, or all answers are one word."""
        everything = self._totals.total()
        expected = sum(count * (everything - count) for count in self._totals.values())
        return 1 - (everything - 1) * self._observed / expected if expected else None
