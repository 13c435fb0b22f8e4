"""What the search for near copies in cells loses against the search that compares all with all, and what each costs.

    python benchmarks/near_copy_searches.py ../shared/data/fer2013/fer2013.csv.xz --pictures 12000 --altered 100

Draws pictures of a data set, adds altered copies of some of them (22 alterations, as many copies of each, no picture is
altered twice), and runs both searches on the same pictures. Of each alteration: copies that are a candidate of their
original, and copies that are verified. Then the near copies that the pictures had before, by what was done to them.
Seconds are processor time. Above some 45,000 pictures `mien train` searches in cells.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duplicates import ALTERATIONS, Picture  # beside this file
from mien.data import DataConfig, near_copies, open_dataset
from mien.data.alignment import textured
from mien.data.pictures import Fingerprints, fingerprints_of_all
from mien.terminal import columns

Pair = tuple[int, int]


@dataclass
class Answer:
    """What one search found. Pairs of rows of the fingerprints, the lower one first."""

    candidates: set[Pair] = field(default_factory=set)
    verified: dict[Pair, str] = field(default_factory=dict)
    searching_s: float = 0.0
    whole_s: float = 0.0


def searched(prints: Fingerprints, rows: NDArray[np.intp], name: str) -> Answer:
    """Run one search. name: `exhaustive` or `in_cells`. rows: what the numbers of its candidates mean."""
    answer = Answer()
    search: Callable[..., Iterator[Any]] = getattr(near_copies, name)

    def noted(*asked: Any) -> Iterator[Any]:
        """Pass the candidates on. While the next ones are searched nothing else runs: the seconds are theirs."""
        first = not answer.candidates  # groups are searched again, with numbers of their own
        start = time.process_time()
        for found in search(*asked):
            answer.searching_s += time.process_time() - start
            if first:
                both = np.sort(np.stack([rows[found[0]], rows[found[1]]]), axis=0)
                answer.candidates |= set(zip(*both.tolist(), strict=True))
            yield found
            start = time.process_time()
        answer.searching_s += time.process_time() - start

    setattr(near_copies, name, noted)
    start = time.process_time()
    whole = near_copies.near_copies if name == "exhaustive" else near_copies.closest_copies
    pairs = whole(prints)
    answer.whole_s = time.process_time() - start
    setattr(near_copies, name, search)
    each = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    answer.verified = {pair: pairs.kind(place) for place, pair in enumerate(each)}
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a data set as mien reads it")
    parser.add_argument("--pictures", type=int, default=12000, help="that are drawn, at most")
    parser.add_argument("--altered", type=int, default=100, help="copies of each alteration")
    options = parser.parse_args()
    pictures = _pictures(options.data, options.pictures, options.altered)
    prints = fingerprints_of_all(pictures)
    # As the searches do it: of pixel copies the first one, and only what shows anything.
    _, rows, kinds = np.unique(prints.digests, axis=0, return_index=True, return_inverse=True)
    first = rows[kinds.reshape(-1)].tolist()
    rows = rows[textured(prints.thumbnails[rows])]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MIEN_CACHE"] = cache  # an answer from there would take no time
        exact, cells = (searched(prints, rows, name) for name in ("exhaustive", "in_cells"))

    print(f"{len(rows):,} pictures that differ\n")
    costs: list[tuple[str, ...]] = [("", "all with all", "in cells")]
    costs += [
        (what, *(f"{cost(answer):,.0f}" for answer in (exact, cells)))
        for what, cost in (
            ("candidates", lambda answer: len(answer.candidates)),
            ("verified pairs", lambda answer: len(answer.verified)),
            ("seconds of searching", lambda answer: answer.searching_s),
            ("seconds of all else", lambda answer: answer.whole_s - answer.searching_s),
        )
    ]
    print(columns(costs), "\n")

    own = len(pictures) - options.altered * len(ALTERATIONS)  # altered copies stand behind the pictures
    compared = set(rows.tolist())
    head = ("alteration", "copies", "candidates: all", "in cells", "verified: all", "in cells")
    table: list[tuple[str, ...]] = [head]
    total: Counter[int] = Counter()
    for place, name in enumerate(ALTERATIONS):
        numbers = range(place * options.altered, (place + 1) * options.altered)
        both = [sorted((first[number], first[own + number])) for number in numbers]
        pairs = [(one, other) for one, other in both if one != other and {one, other} <= compared]
        found = [
            sum(pair in kept for pair in pairs)
            for kept in (exact.candidates, cells.candidates, exact.verified, cells.verified)
        ]
        total.update(dict(enumerate([len(pairs), *found])))
        table.append((name, *map(str, (len(pairs), *found))))
    table.append(("all", *(str(total[place]) for place in range(5))))
    print(columns(table), "\n")

    known = Counter(kind for pair, kind in exact.verified.items() if pair[1] < own)
    kept = Counter(kind for pair, kind in exact.verified.items() if pair[1] < own and pair in cells.verified)
    more = sum(pair[1] < own and pair not in exact.verified for pair in cells.verified)
    print(
        columns(
            [("near copies that were there", "all with all", "of these in cells")]
            + [(kind, str(count), str(kept[kind])) for kind, count in known.most_common(20)]
            + [("all kinds", str(known.total()), str(kept.total()))]
        )
    )
    print(f"in cells alone: {more}")
    return 0


def _pictures(path: Path, most: int, altered: int) -> list[Picture]:
    """Return pictures drawn from all splits, and then the altered copies of the first ones, in their order."""
    splits = [split.pictures for split in open_dataset(path, DataConfig()).splits.values()]
    places = [(split, row) for split in splits for row in range(len(split))]
    chosen = np.random.default_rng(0).permutation(len(places))[:most].tolist()
    pictures = [split.read(row) for split, row in (places[place] for place in chosen)]
    if len(pictures) < altered * len(ALTERATIONS):
        sys.exit(f"{len(pictures)} pictures are too few for {altered} altered ones of each kind")
    changes = [change for change in ALTERATIONS.values() for _ in range(altered)]
    copies = [np.ascontiguousarray(change(one)) for one, change in zip(pictures, changes, strict=False)]
    return [*pictures, *copies]


if __name__ == "__main__":
    sys.exit(main())
