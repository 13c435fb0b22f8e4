"""The summary of a data set as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from mien.data.summary import Summary

_MOST = 10  # names listed before 'and N more'
_SAME = 4  # copies of one picture named before 'N more'
_UNEVEN = 3.0  # times: from here on, class weights matter


def as_text(summary: Summary) -> str:
    """Return the summary in lines of aligned text; what needs attention begins with 'warning:'."""
    parts = [
        f"{summary.name}: {sum(sum(row.values()) for row in summary.counts.values())} pictures, "
        f"{len(summary.classes)} classes",
        "",
        *_table(summary),
        "",
        *_facts(summary),
        *(f"note: {note}" for note in summary.notes),
        *_warnings(summary),
    ]
    return "\n".join(parts)


def _table(summary: Summary) -> list[str]:
    splits = list(summary.counts)
    rows = [["", *splits, "all"]]
    for name in summary.classes:
        numbers = [summary.counts[split][name] for split in splits]
        rows.append([name, *map(str, numbers), str(sum(numbers))])
    totals = [sum(summary.counts[split].values()) for split in splits]
    rows.append(["all", *map(str, totals), str(sum(totals))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        row[0].ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
    ]


def _facts(summary: Summary) -> list[str]:
    sizes = summary.sizes
    if sizes.smallest == sizes.largest:
        size = f"{sizes.smallest[0]}x{sizes.smallest[1]} pixels"
    else:
        size = ", ".join(
            f"{word} {width}x{height}"
            for word, (width, height) in (
                ("smallest", sizes.smallest),
                ("median", sizes.median),
                ("largest", sizes.largest),
            )
        )
    lines = [f"sizes: {size}; {sizes.grey} grey, {sizes.colour} colour"]
    if summary.imbalance is not None:
        lines.append(
            f"imbalance: the largest class has {summary.imbalance:.1f} times the pictures of the smallest"
        )
    lines.append("votes: FER+ raters' votes are there" if summary.votes else "votes: none")
    for split, count in summary.repeats.items():
        lines.append(
            f"copies within {split}: {count} pixel copies, {summary.near_pairs[split]} pairs nearly the same"
        )
    return lines


def _warnings(summary: Summary) -> list[str]:
    lines = []
    for leak in summary.leaks:
        total = sum(summary.counts[leak.split].values())
        lines.append(
            f"warning: leak: {leak.copies} of {total} {leak.split} pictures are pixel copies of "
            f"{leak.source} pictures, nearly the same besides: {leak.near}; scores on {leak.split} are "
            f"too good by what was learnt by heart"
        )
    if summary.imbalance is None:
        lines.append(_missing(summary))
    elif summary.imbalance >= _UNEVEN:
        lines.append("warning: the classes are uneven; accuracy hides the small ones, look at macro F1")
    if summary.conflicts:
        lines.append(f"warning: pixel copies with different labels ({len(summary.conflicts)}):")
        lines += _listed([_conflict(group) for group in summary.conflicts])
    if summary.unreadable:
        lines.append(f"warning: unreadable files, not used ({len(summary.unreadable)}):")
        lines += [f"  {bad.name}: {bad.reason}" for bad in summary.unreadable]
    return lines


def _missing(summary: Summary) -> str:
    split = "train" if "train" in summary.counts else next(iter(summary.counts))
    names = ", ".join(name for name, count in summary.counts[split].items() if not count)
    return f"warning: no {split} picture of {names}; add some, merge it (--merge) or leave it out (--classes)"


def _conflict(group: Sequence[str]) -> str:
    more = f" = {len(group) - _SAME} more" if len(group) > _SAME else ""
    return "  " + " = ".join(group[:_SAME]) + more


def _listed(lines: list[str]) -> list[str]:
    rest = len(lines) - _MOST
    return [*lines[:_MOST], f"  and {rest} more (--json lists all)"] if rest > 0 else lines
