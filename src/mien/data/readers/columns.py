"""Which columns of a table are used: by the user's word, then by their names, then by what stands in them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from mien.data.dataset import DataConfig
from mien.data.readers import words
from mien.data.readers.box_columns import BoxColumns, find_box_columns, incomplete_box
from mien.data.readers.share_columns import share_columns, with_ones
from mien.data.readers.table_paths import resolve_paths
from mien.errors import DataError
from mien.files import clipped, expanded, plain_text, shell_word
from mien.images.kinds import is_picture_name
from mien.labels import canonical, is_expression, same_letters, visible

_BETWEEN_LABELS = re.compile(r"\s*[|;,]\s*")  # of a picture with several: happy|surprised
# These stand in names of classes as well (calm/neutral).
_PERHAPS_BETWEEN = re.compile(r"\s*[/+&]\s*|\s+and\s+")
# What pandas, R and spreadsheets write for nothing and for formulas that failed.
_NO_LABEL = (
    "nan", "na", "null", "n/a", "#n/a", "<na>", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#error!",
)  # fmt: skip
# Four numbers in one cell, in any order.
_BOX_LISTS = ("bbox", "box", "bounding_box", "face_box", "bboxes", "boxes")
_TRIED = 50  # rows whose pictures are looked for
_FEW = 8  # different cells in a column that may say something else than a text


@dataclass
class Columns:
    """The places of the columns that are used; None where there is none. notes: what is said of them.

    label: where there are shares, of the rows that have none. raters: each with what one rater said. nothing: columns
    beside the shares that say that a picture shows no class (unknown). several: what cells with several labels mean.
    numbered: whether 0, 1 and 2 in the column of the split are train, validation and test.
    """

    path: int
    label: int | None
    raters: tuple[int, ...] = ()
    folder: int | None = None  # in which the pictures lie, where paths are names alone
    shares: dict[str, int] = field(default_factory=dict)
    nothing: dict[str, int] = field(default_factory=dict)
    several: dict[str, tuple[str, ...]] = field(default_factory=dict)
    split: int | None = None
    numbered: bool = False
    flags: dict[int, str] = field(default_factory=dict)  # place to what 'yes' means
    group: int | None = None
    box: BoxColumns | None = None
    notes: list[str] = field(default_factory=list)

    def split_word(self, cell: str) -> str | None:
        """Return the split that a cell of the column `split` means; None where it means none."""
        return _split_word(cell, numbered=self.numbered)


def plain_label(cell: str) -> str:
    """Return the label, or the person, in a cell; '' where there is none.

    3.0 is what pandas makes of 3 where others are missing; signs without a width come with what is copied from pages.

    >>> plain_label(" happy "), plain_label("3.0"), plain_label("NaN"), plain_label("happy\u200b")
    ('happy', '3', '', 'happy')
    """
    text = plain_text(visible(cell).strip())
    if text.lower() in _NO_LABEL:
        return ""
    return words.as_number(text) if re.fullmatch(r"-?\d{1,9}\.0*", text) else text


def choose_columns(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig
) -> Columns:
    """Decide which columns of the table at `path` are used; DataError where those that are needed cannot be told."""
    source = path.name
    notes: list[str] = []
    place = _picture_column(path, header, rows, config, notes)
    labels = [one for one in words.pick_columns(header, words.label_names(header)).values() if one != place]
    told = _named_columns(header, config.label_column, source) if config.label_column else ()
    label = told[0] if len(told) == 1 else None if told else _label_column(rows, labels)
    raters = told if len(told) > 1 else ()
    series = [one for one, name in enumerate(header) if one != place and words.series_of(name)]
    shares: dict[str, int] = {}
    nothing: dict[str, int] = {}
    if not told:
        shares = share_columns(source, header, label)
        if label is None and not shares:
            raters = _columns_of_raters(header, rows, series)
        if label is None and not raters:
            shares, nothing = with_ones(shares, header, rows, place, notes)
        # What is no number counts, so that it is refused where it is read.
        if empty := [
            name for name, one in shares.items() if all(words.as_share(row[one]) == 0 for row in rows)
        ]:
            shares = {name: one for name, one in shares.items() if name not in empty}
            notes.append(f"no row is {' or '.join(empty)}; these columns are not used")
    if label is None and not shares and not raters:
        label = _column_of_expressions(source, header, rows, notes)
    if label is None and not shares and not raters:
        label = words.need_column(header, words.label_names(header), source, "--label-column")
    folder = _folder_column(path, header, rows, place, config)
    columns = Columns(place, label, raters, folder, shares, nothing, notes=notes)
    used = (place, label, *raters, *shares.values())
    also = _of_expressions(header, rows) if raters else {}
    if not told and (rest := [one for one in dict.fromkeys((*labels, *series, *also)) if one not in used]):
        of = f"those of the column {header[label]!r}" if label is not None else "those of several columns"
        others = ", ".join(repr(header[one]) for one in rest)
        columns.notes.append(f"labels are {of}, not of {others} (--label-column chooses)")
    for one in (place, label):
        if one is not None and (count := list(header).count(header[one])) > 1:
            columns.notes.append(f"the first of {count} columns {clipped(header[one])!r} is used")
    if not shares:
        said = [row[one] for row in rows for one in raters or (label,) if one is not None]
        columns.several = _several_labels(columns, said, config)
    _find_split(columns, header, rows, config, source)
    _find_group(columns, header, rows, config)
    _find_box(columns, header, rows, source)
    return columns


def _picture_column(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig, notes: list[str]
) -> int:
    """Return the place of the column of paths: by its name, else the only one that holds names of pictures.

    By its name only where it holds such names or leads to pictures without them, as numbers may.
    """
    if config.path_column:
        return words.named_column(header, config.path_column, path.name)
    place = words.pick_column(header, words.PATH_COLUMNS)
    of_pictures = [
        other
        for other, name in enumerate(header)
        # A name that is a path is a picture's: the first line is one already.
        if rows
        and not re.search(r"[/\\]", name)
        and not is_picture_name(name)
        and all(is_picture_name(row[other]) for row in rows)
    ]
    unlike = place is None or not any(is_picture_name(row[place]) for row in rows)
    if len(of_pictures) == 1 and unlike and (place is None or not _leads(path, rows, place, config)):
        notes.append(
            f"the pictures are those of the column {clipped(header[of_pictures[0]])!r}: no other holds names of "
            "pictures"
        )
        return of_pictures[0]
    if place is None:
        place = words.need_column(header, words.PATH_COLUMNS, path.name, "--path-column")
    # Not of copies of the paths, such as bare names beside them.
    rest = [other for other in of_pictures if other != place and not _same_names(rows, place, other)]
    if rest:
        notes.append(
            f"the pictures are those of the column {clipped(header[place])!r}, not of "
            f"{words.shown_columns([header[other] for other in rest])} (--path-column chooses)"
        )
    return place


def _leads(path: Path, rows: Sequence[Sequence[str]], place: int, config: DataConfig) -> bool:
    cells = [row[place].strip() for row in rows]
    try:
        path_of, _ = resolve_paths(path, cells, config.root, None)
    except DataError:
        return False
    return any(map(os.path.isfile, map(path_of, cells[:_TRIED])))


def _same_names(rows: Sequence[Sequence[str]], one: int, other: int) -> bool:
    return all(PureWindowsPath(row[one]).stem == PureWindowsPath(row[other]).stem for row in rows)


def _folder_column(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], picture: int, config: DataConfig
) -> int | None:
    """Return the place of a column of folders that lead to the pictures, whose own column has names alone."""
    base = expanded(config.root) if config.root else path.parent
    for place in words.pick_columns(header, words.FOLDER_COLUMNS).values():
        if place != picture:
            joined = (base / row[place].strip() / row[picture].strip() for row in rows[:_TRIED])
            if any(row[place].strip() for row in rows) and any(map(os.path.isfile, joined)):
                return place
    return None


def _label_column(rows: Sequence[Sequence[str]], places: Sequence[int]) -> int | None:
    """Return the first of the columns that are called like labels that says more than one thing, else the first.

    The one thing may be what was marked (label: face), beside what is wanted (emotion). Not an expression: a table may
    hold the pictures of one class.
    """
    telling = [
        place
        for place in places
        if len(cells := {row[place] for row in rows}) > 1 or any(map(is_expression, cells))
    ]
    return next(iter([*telling, *places]), None)


def _named_columns(header: Sequence[str], name: str, source: str) -> tuple[int, ...]:
    """Return the place of the column that the user named, or of those of several raters, with commas between."""
    names = [name] if name in map(str.strip, header) else name.split(",")
    return tuple(words.named_column(header, one.strip(), source) for one in names)


def _of_expressions(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[int, bool]:
    """Return the places of the columns in which nothing but expressions stands, and whether in every cell."""
    found = {}
    for place, name in enumerate(header):
        said = [is_expression(label) for row in rows if (label := plain_label(row[place]))]
        if said and all(said) and not is_expression(name):
            found[place] = len(said) == len(rows)
    return found


def _column_of_expressions(
    source: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: list[str]
) -> int | None:
    """Return the place of the only column of which every cell is an expression, whatever it is called.

    DataError where there are several: they may be raters, predictions beside the truth, or several people.
    """
    found = _of_expressions(header, rows)
    whole = [place for place, in_every_cell in found.items() if in_every_cell]
    if len(whole) == 1:
        notes.append(
            f"labels are those of the column {clipped(header[whole[0]])!r}: every cell of it is an expression"
        )
        return whole[0]
    if len(found) > 1:
        names = [header[place].strip() for place in found]
        raise DataError(
            f"{source} has several columns of expressions ({words.shown_columns(names)}); name the one that holds the "
            f"labels with --label-column; or, if each is what one rater said: --label-column "
            f"{shell_word(','.join(names))}"
        )
    return None


def _columns_of_raters(
    header: Sequence[str], rows: Sequence[Sequence[str]], series: Sequence[int]
) -> tuple[int, ...]:
    """Return the places of the columns that each hold what one rater said, which some cells may not.

    series: columns that are called like labels or raters, and numbered. Those that have labels in common are taken, and
    numbers for labels only where raters are named: label_1 and label_2 may count different things.
    """
    by_name: dict[str, dict[int, set[str]]] = {}
    for place in series:
        if said := {canonical(label) for row in rows if (label := plain_label(row[place]))}:
            by_name.setdefault(words.series_of(header[place]), {})[place] = said
    of_raters = [name for name in by_name if name in words.RATERS]
    # Where the labels have columns of their own, those of the raters say who gave them.
    for name in [name for name in by_name if name not in of_raters] or of_raters:
        own = by_name[name]
        others = {
            place: set[str]().union(*(said for other, said in own.items() if other != place)) for place in own
        }
        numbers = [label for label in set().union(*own.values()) if re.fullmatch(r"[-\d.,]+", label)]
        if all(said & others[place] for place, said in own.items()) and (
            not numbers or (of_raters and all(map(str.isdecimal, numbers)))
        ):
            return tuple(own)
    return ()


def _find_box(columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]], source: str) -> None:
    """Find the columns of the faces' boxes. DataError where they are shares of the picture's size."""
    taken = (columns.path, columns.label, *columns.raters)
    if box := find_box_columns(header, taken):
        columns.box = box
        names = ", ".join(clipped(header[place]) for place in box.places)
        columns.notes.append(f"faces are cut out by the table's boxes ({names})")
        cells = [row[place].strip() for row in rows for place in box.places]
        if any("." in cell for cell in cells) and all(re.fullmatch(r"[01]?(\.\d*)?", cell) for cell in cells):
            raise DataError(
                f"{source} has boxes from 0 to 1 ({names}); give them in pixels, or rename the columns to use the "
                "whole pictures"
            )
        return
    if unused := list(words.pick_columns(header, _BOX_LISTS).values()) or incomplete_box(header, taken):
        names = ", ".join(repr(clipped(header[place])) for place in unused)
        columns.notes.append(
            f"not used, so that the pictures are taken whole: {names}; boxes are read from columns left, top, right, "
            "bottom or x, y, width, height"
        )


def _several_labels(columns: Columns, cells: Sequence[str], config: DataConfig) -> dict[str, tuple[str, ...]]:
    """Return the cells that hold several labels, or a list, and which: happy|surprised, ['happy'].

    A cell is taken apart only where each part is a label elsewhere, a number or an expression; else it is the name of a
    class, and so it is where `--classes`, `--merge` or `--labels` call it one. Where the sign between the parts may
    belong to a name (happy/sad), each must be a label elsewhere; if they are expressions all the same, a note says so.
    """
    asked = " ".join([*config.classes, *config.merge, *config.labels])
    kinds = {cell: _BETWEEN_LABELS.split(plain_text(cell.strip())) for cell in dict.fromkeys(cells)}
    alone = {same_letters(parts[0]) for parts in kinds.values() if len(parts) == 1}
    found, joint = {}, []
    for cell, parts in kinds.items():
        text = cell.strip()
        if text[:1] + text[-1:] == "[]":  # as Python and JSON write a list
            inside = [part.strip(" '\"") for part in text[1:-1].split(",")]
            found[cell] = tuple(inside)
        elif text in asked:
            continue
        elif len(parts) > 1:
            numbers = "," not in cell and all(map(words.as_number, parts))  # 0,5 is half
            known = all(part and (is_expression(part) or same_letters(part) in alone) for part in parts)
            if numbers or known:
                found[cell] = tuple(parts)
        elif len(parts := _PERHAPS_BETWEEN.split(text)) > 1:
            if all(part and same_letters(part) in alone for part in parts):
                found[cell] = tuple(map(plain_text, parts))
            elif all(map(is_expression, parts)):
                joint.append(clipped(text))
    if joint:
        columns.notes.append(
            f"{', '.join(map(repr, joint[:3]))}: read as a class of its own; several labels of one picture are written "
            f"{_PERHAPS_BETWEEN.sub('|', joint[0])}"
        )
    return found


def _find_split(
    columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig, source: str
) -> None:
    taken = {columns.path, columns.label, *columns.raters, *columns.shares.values()}
    if config.split_column:
        if config.split_column != "none":
            columns.split = words.named_column(header, config.split_column, source)
            columns.numbered = _is_numbered(rows, columns.split)
        return
    for name, place in words.pick_columns(header, words.SPLIT_COLUMNS).items():
        if place in taken or columns.split is not None:
            continue
        numbered = name == "partition" and _is_numbered(rows, place)
        if any(_split_word(row[place], numbered=numbered) for row in rows):
            columns.split, columns.numbered = place, numbered
        else:
            why = "its words name no splits"
            if _is_numbered(rows, place):
                why = f"--split-column {clipped(header[place])} reads 0, 1, 2 as train, validation, test"
            columns.notes.append(_unused(header[place], rows, place, why))
    flags = words.pick_columns(header, words.FLAG_COLUMNS)
    if columns.split is None and not flags:
        columns.split = _split_by_content(columns, header, rows, taken)
    if columns.split is None:
        for name, place in flags.items():
            meaning = words.FLAG_COLUMNS[name]
            if place in taken:
                continue
            if not all(words.yes_or_no(row[place]) is not None for row in rows):
                columns.notes.append(_unused(header[place], rows, place, "its cells are not yes and no"))
            elif meaning == "validation" and 2 * sum(
                words.yes_or_no(row[place]) is True for row in rows
            ) > len(rows):
                why = "most rows have a yes, so it seems to say which pictures are good, and not which are validation"
                columns.notes.append(_unused(header[place], rows, place, why))
            else:
                columns.flags[place] = meaning
    for place in words.pick_columns(header, words.FOLD_COLUMNS).values():
        if place in taken or place == columns.split:
            continue
        if columns.split is None and not columns.flags and any(words.split_of(row[place]) for row in rows):
            columns.split = place
        else:
            columns.notes.append(_unused(header[place], rows, place, "folds of a cross-validation"))


def _split_by_content(
    columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]], taken: set[int | None]
) -> int | None:
    """Return the first column, whatever it is called, of which every cell names a split, and not all the same one.

    A column of few words of which some name splits is mentioned.
    """
    for place in range(len(header)):
        if place in taken:
            continue
        found = {words.split_of(row[place]) for row in rows}
        if len(found) > 1 and None not in found:
            return place
        cells = {row[place].strip().lower() for row in rows}
        of_fold = words.plain_column(header[place]) in (*words.FOLD_COLUMNS, *words.SPLIT_COLUMNS)
        if len(found) > 1 and len(cells) <= _FEW and cells & set(words.SPLIT_WORDS) and not of_fold:
            columns.notes.append(_unused(header[place], rows, place, "only some of its words name splits"))
    return None


def _unused(name: str, rows: Sequence[Sequence[str]], place: int, why: str) -> str:
    seen = list(dict.fromkeys(row[place] for row in rows))
    more = ", …" if len(seen) > 4 else ""
    return f"the column {clipped(name)!r} is not used ({why}: {clipped(', '.join(seen[:4]))}{more})"


def _is_numbered(rows: Sequence[Sequence[str]], place: int) -> bool:
    return all(words.as_number(row[place]) in words.NUMBERED_SPLITS for row in rows)


def _split_word(cell: str, *, numbered: bool) -> str | None:
    if numbered:
        return words.NUMBERED_SPLITS.get(words.as_number(cell))
    return words.split_of(cell) or words.SHORT_SPLITS.get(cell.strip().lower())


def _find_group(
    columns: Columns, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig
) -> None:
    """Choose the column of the persons or films: the one that --group names, else one that is called so."""
    if config.group == "none":
        return
    if config.group:
        columns.group = words.pick_column(header, [words.plain_column(config.group)])
        return
    called = [words.group_column(name) for name in header]
    taken = {columns.path, columns.label, *columns.raters, columns.split, *columns.flags}
    places = [
        place
        for name in words.GROUP_COLUMNS
        for place, own in enumerate(called)
        if own == name and place not in taken
    ]
    different = {place: len({row[place] for row in rows}) for place in places}
    keeping = [place for place in places if 1 < different[place] < len(rows)]
    # Persons with one picture each, as in a short test.csv, are kept together with those of its train.csv.
    alone = [place for place in places if 1 < different[place] == len(rows)]
    columns.group = next(iter(keeping + alone), None)
