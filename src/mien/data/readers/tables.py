"""A table (`table_rows`) of picture paths and labels, whatever its columns are called."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from mien.data.dataset import DataConfig
from mien.data.index import Found, LabelledFile
from mien.data.pictures import Box
from mien.data.readers import words
from mien.data.readers.columns import Columns, choose_columns, plain_label
from mien.data.readers.parquet import COLUMNAR
from mien.data.readers.public import AFFECTNET, NO_EXPRESSION, RAFDB, RAFDB_NOTE, is_rafdb
from mien.data.readers.table_paths import path_parts, resolve_paths
from mien.data.readers.table_rows import EXCEL, rows_in
from mien.errors import DataError
from mien.files import clipped, plain_text
from mien.labels import canonical
from mien.terminal import counted

_AFFECTNET_PATH = "subdirectory_filepath"
_SUM_TOLERANCE = 0.02  # of shares that were rounded to two or three decimals
_OF_PREDICT = {"emotion", "probability", "uncertain", "head"}  # columns of what `mien predict` wrote
_DEEPEST = 12  # folders of a path that are looked at
_MOST_REVERSED = 0.1  # boxes that end before they begin, of all: beyond, their numbers mean something else


def find_in_table(path: Path, config: DataConfig, split: str | None = None) -> Found:
    """Read a table. Its paths start from --root, else from its own folder, else from where its pictures are found.

    split: the split of rows where the table itself does not say (`train.csv`); None: train. A missing file is listed as
    unreadable; DataError where all are missing.
    """
    notes: list[str] = []
    return find_in_rows(path, rows_in(path, notes), config, split, notes)


def find_in_rows(
    path: Path,
    rows: Iterator[list[str]],
    config: DataConfig,
    split: str | None = None,
    notes: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
) -> Found:
    """Read the rows of a table, header first.

    path: what messages call it, from whose folder its paths start. names: what they call its rows instead.
    """
    header = next(rows, [])
    table = [(number, row) for number, row in enumerate(rows, start=1) if any(map(str.strip, row))]
    for number, row in table:
        if len(row) < len(header) or any(row[len(header) :]):  # Excel leaves empty cells at the end
            raise DataError(
                f"{path.name} row {number} has {counted(len(row), 'column')}, the header has {len(header)}; "
                f"mend or delete it (names with a comma stand in double quotes)"
            )
    columns = choose_columns(path, header, [row for _, row in table], config)
    columns.notes[:0] = notes
    if not table:
        raise DataError(f"{path} has no rows below its header; nothing to read")
    found = _Rows(path, header, columns, config, split)
    for number, row in table:
        found.add(names[number - 1] if names else f"{path.name} row {number}", row)
    return found.finished()


class _Rows:
    """The rows of a table on their way to labelled files."""

    def __init__(
        self, path: Path, header: Sequence[str], columns: Columns, config: DataConfig, split: str | None
    ) -> None:
        self._path, self._header, self._columns, self._own_split = path, header, columns, split
        self._split_in_paths = split is None and not config.split_column
        self._names = config.label_names
        self._affectnet = words.plain_column(header[columns.path]) == _AFFECTNET_PATH
        self._predicted = set(map(words.plain_column, header)) >= _OF_PREDICT
        self._corrected = 0  # rows of predictions whose emotion somebody changed
        self._root = config.root
        self._group_asked = bool(config.group)
        self._rows: list[Sequence[str]] = []  # those of the files
        self._cells: list[str] = []
        self._files: list[LabelledFile] = []
        self._refused: dict[str, str] = {}
        self._left_out: Counter[str] = Counter()
        self._votes: dict[int, Counter[str]] = {}  # place of a file to its labels, where they are several
        self._joined = ""  # what is said of pictures with several rows
        # Rows of soft labels: whose largest share several classes have, whose label is another, without any shares.
        self._tied = self._otherwise = self._hard = 0
        self._sums: list[float] = []
        self._reversed: list[str] = []

    def add(self, where: str, row: Sequence[str]) -> None:
        """Add a row. where: what messages call it."""
        columns = self._columns
        cell = row[columns.path].strip()
        if not cell:
            raise DataError(f"{where} has no {clipped(self._header[columns.path])}; mend or delete it")
        if columns.folder is not None and (folder := row[columns.folder].strip()):
            cell = f"{folder.rstrip('/')}/{cell}"
        amounts = self._amounts(row, columns.shares, where)
        nothing = self._amounts(row, columns.nothing, where)
        if nothing and max(nothing) > max(amounts):
            self._left_out[list(columns.nothing)[nothing.index(max(nothing))]] += 1
            return
        shares = self._shares(amounts)
        hard = "" if columns.label is None else plain_label(row[columns.label])
        if self._predicted and columns.label is not None and not hard:
            self._left_out["no face"] += 1
            return
        if columns.shares and shares is None and not hard:
            self._left_out["all zeros"] += 1
            return
        if shares is not None and self._predicted and self._is_corrected(hard, shares):
            shares = None
            self._corrected += 1
        label = self._label(row, shares, where)
        if shares is not None:
            self._tied += shares.count(max(shares)) > 1
            self._otherwise += bool(hard) and canonical(self._named(hard)) != canonical(label)
        elif columns.shares and not self._predicted:
            self._hard += 1
        if self._affectnet and label in NO_EXPRESSION:
            self._left_out[label] += 1
            return
        group = plain_label(row[columns.group]) if columns.group is not None else ""
        if len(said := self._said(row)) > 1:
            self._votes[len(self._files)] = said
        self._rows.append(row)
        self._cells.append(cell)
        inside = self._path.suffix.lower() in COLUMNAR and Path(cell).is_absolute()  # unpacked: NUMBER-NAME
        name = f"{where} {Path(cell).name.partition('-')[2]}".strip() if inside else plain_text(cell)
        split = self._split(row, where)
        self._files.append(LabelledFile(Path(cell), name, label, split, group, self._box(row, where), shares))

    def _said(self, row: Sequence[str]) -> Counter[str]:
        """Return the labels in a row, by how often they were given: by several raters, or in a cell of several."""
        columns = self._columns
        cells = [row[place] for place in columns.raters or (columns.label,) if place is not None]
        labels = [plain_label(label) for cell in cells for label in columns.several.get(cell, (cell,))]
        return Counter(map(self._named, filter(None, labels)))

    def _label(self, row: Sequence[str], shares: tuple[float, ...] | None, where: str) -> str:
        if shares is not None:
            return list(self._columns.shares)[max(range(len(shares)), key=shares.__getitem__)]
        places = self._columns.raters or (self._columns.label,)
        label = _likeliest(self._said(row))
        if not label:
            column = " or ".join(clipped(self._header[place]) for place in places if place is not None)
            excel = (
                " (Excel keeps what merged cells say in the first alone, and of formulas what it saved last)"
            )
            why = excel if self._path.suffix.lower() in EXCEL else ""
            self._refused.setdefault(
                "", f"{where} has no {column}{why}; mend or delete it, or choose with --classes"
            )
        return label

    def _is_corrected(self, label: str, shares: Sequence[float]) -> bool:
        """Say whether a label is another than the network's answer, whose share is the largest."""
        of = {canonical(name): share for name, share in zip(self._columns.shares, shares, strict=True)}
        return bool(label) and of.get(canonical(self._named(label)), 0) < max(shares)

    def _named(self, label: str) -> str:
        number = words.as_number(label)
        if self._affectnet and not self._names and number and int(number) < len(AFFECTNET):
            return AFFECTNET[int(number)]
        return words.renamed(self._names, label)

    def _amounts(self, row: Sequence[str], places: Mapping[str, int], where: str) -> list[float]:
        values = []
        for name, place in places.items():
            value = words.as_share(row[place])
            if value is None or not (math.isfinite(value) and value >= 0):
                raise DataError(
                    f"{where} has {clipped(row[place])!r} as the share of {name}; mend or delete it"
                )
            values.append(value)
        return values

    def _shares(self, amounts: Sequence[float]) -> tuple[float, ...] | None:
        total = sum(amounts)
        self._sums += [total] if total > 0 else []
        return tuple(amount / total for amount in amounts) if total > 0 else None

    def _split(self, row: Sequence[str], where: str) -> str:
        columns = self._columns
        if columns.split is not None:
            if (split := columns.split_word(row[columns.split])) is None:
                raise DataError(
                    f"{where} has the split {clipped(row[columns.split])!r}; allowed are train, validation and test; "
                    "mend or delete that row; --split-column none splits anew, which mixes test pictures into training"
                )
            return split
        for place, meaning in columns.flags.items():
            if words.yes_or_no(row[place]) == (meaning != "train"):
                return "test" if meaning == "train" else meaning
        return self._own_split or "train"

    def _box(self, row: Sequence[str], where: str) -> Box | None:
        if not (columns := self._columns.box):
            return None
        try:
            numbers = [words.as_float(row[place]) for place in columns.places]
            left, top, right, bottom = map(round, columns.edges(numbers))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{where} has a face's box that is no four numbers; mend or delete it") from error
        if columns.way == "corners" and any(numbers) and (right < left or bottom < top):
            names = ", ".join(clipped(self._header[place]) for place in columns.places)
            self._reversed.append(f"{where} ({names}: {left}, {top}, {right}, {bottom})")
        return left, top, right, bottom

    def _check_boxes(self) -> None:
        """Refuse boxes of which many end before they begin; a few are slips, and their pictures unreadable."""
        if len(self._reversed) > _MOST_REVERSED * len(self._files):
            raise DataError(
                f"of {counted(len(self._files), 'box', 'boxes')} {len(self._reversed):,} end before they begin, such "
                f"as that of {self._reversed[0]}; if the last two numbers are a width and a height, call the columns "
                "x, y, width, height"
            )

    def finished(self) -> Found:
        """Find out where the paths start, and say what was decided."""
        path_of, notes = resolve_paths(self._path, self._cells, self._root, self._own_split)
        files = [
            LabelledFile(path_of(cell), file.name, file.label, file.split, file.group, file.box, file.shares)
            for cell, file in zip(self._cells, self._files, strict=True)
        ]
        if not files:
            raise DataError(f"{self._path} has no row with a label that can be used")
        self._check_boxes()
        files = self._joined_rows(files)
        # Faces of one photograph stay together.
        if self._columns.box and self._columns.group is None and len(set(self._cells)) < len(files):
            files = [replace(file, group=cell) for file, cell in zip(files, self._cells, strict=True)]
        files, told = self._split_by_paths(files)
        notes += told
        names = [file.path.name for file in files]
        classes = tuple(self._columns.shares)
        if self._votes:
            classes = tuple(
                dict.fromkeys([*(file.label for file in files), *chain.from_iterable(self._votes.values())])
            )
            for place, said in self._votes.items():
                shares = tuple(said[name] / said.total() for name in classes)
                files[place] = replace(files[place], shares=shares)
        elif not self._names and is_rafdb(names, list({file.label for file in files})):
            files = [replace(file, label=RAFDB[file.label]) for file in files]
            notes.append(RAFDB_NOTE)
        stem = self._path.name.partition(".")[0]
        name = self._path.parent.name if stem.lower() in ("labels", "metadata", "train") else stem
        return Found(
            plain_text(name), files, (*self._columns.notes, *self._decided(files), *notes), self._refused,
            classes, grouped=self._columns.group is not None,
        )  # fmt: skip

    def _joined_rows(self, files: list[LabelledFile]) -> list[LabelledFile]:
        """Make one of the rows about the same picture, as of several raters: each row is a vote."""
        columns = self._columns
        places: dict[tuple[str, Box | None, str], list[int]] = {}
        for place, file in enumerate(files):
            places.setdefault((os.path.normpath(file.path), file.box, file.split), []).append(place)
        if len(places) == len(files):
            return files
        found: list[LabelledFile] = []
        votes: dict[int, Counter[str]] = {}
        for own in places.values():
            first = files[own[0]]
            group = next((files[place].group for place in own if files[place].group), "")
            if soft := [shares for place in own if (shares := files[place].shares) is not None]:
                mean = tuple(sum(one) / len(soft) for one in zip(*soft, strict=True))
                label = list(columns.shares)[mean.index(max(mean))]
                found.append(replace(first, label=label, group=group, shares=mean))
                continue
            said: Counter[str] = Counter()
            for place in own:
                said.update(self._votes.get(place) or filter(None, [files[place].label]))
            if len(said) > 1 and not columns.shares:
                votes[len(found)] = said
            found.append(replace(first, label=_likeliest(said), group=group))
        several = [own for own in places.values() if len(own) > 1]
        used = (columns.path, columns.label, *columns.shares.values())
        differing = [
            name
            for at, name in enumerate(self._header)
            if at not in used and any(len({self._rows[place][at] for place in own}) > 1 for own in several)
        ]
        but = f", which differ in {words.shown_columns(differing)}" if differing else ""
        have = counted(len(several), "picture has", "pictures have")
        self._joined = f"{have} several rows{but}: each counts as a vote"
        self._cells, self._votes = [self._cells[own[0]] for own in places.values()], votes
        if columns.group is not None:
            torn = sum(len({files[place].group for place in own} - {""}) > 1 for own in several)
            if torn and not self._group_asked and 2 * torn > len(found):  # it names who said it
                name = clipped(self._header[columns.group])
                columns.notes.append(
                    f"rows of one picture differ in {name!r}, so that nothing is grouped by it"
                )
                columns.group = None
                found = [replace(file, group="") for file in found]
        return found

    def _decided(self, files: Sequence[LabelledFile]) -> Iterator[str]:
        columns = self._columns
        by = [columns.split] if columns.split is not None else list(columns.flags)
        if by:
            counts = Counter(file.split for file in files)
            listed = ", ".join(
                f"{name} {counts[name]}" for name in ("train", "validation", "test") if counts[name]
            )
            numbered = " (0 train, 1 validation, 2 test)" if columns.numbered else ""
            names = ", ".join(repr(clipped(self._header[place])) for place in by)
            yield f"split by the column {names}{numbered}: {listed}"
        if self._predicted:
            changed = (
                f", but of {counted(self._corrected, 'row')} that somebody changed" if self._corrected else ""
            )
            yield f"a table of mien predict: the labels are what a network answered{changed}"
        if columns.shares:
            tied = (
                f"; in {counted(self._tied, 'row')} several are the largest, and the first counts"
                if self._tied
                else ""
            )
            yield (
                f"soft labels from the columns of {', '.join(columns.shares)}; the largest share is the label{tied}"
            )
            scaled = sum(not math.isclose(one, 1, abs_tol=_SUM_TOLERANCE) for one in self._sums)
            if 0 < scaled < len(self._sums) / 2:
                yield f"in {counted(scaled, 'row')} the shares do not sum to 1, as in the others: they are scaled"
            if columns.label is not None and not self._predicted:
                name = clipped(self._header[columns.label])
                used = (
                    f"counts in {counted(self._hard, 'row')} without shares"
                    if self._hard
                    else "is not used: the soft labels beside it say more"
                )
                other = (
                    f"; in {counted(self._otherwise, 'row')} it is not the largest share"
                    if self._otherwise
                    else ""
                )
                yield f"the column {name!r} {used}{other}"
        if columns.raters:
            names = words.shown_columns([self._header[place] for place in columns.raters])
            yield f"labels are the votes of {len(columns.raters)} raters: {names} (--label-column chooses one)"
        if self._joined:
            yield self._joined
        if self._votes:
            place, said = next(iter(self._votes.items()))
            told = ", ".join(f"{label} {count}" for label, count in said.most_common())
            yield (
                f"{counted(len(self._votes), 'picture has', 'pictures have')} several labels, such as "
                f"{clipped(files[place].name)} ({clipped(told)}): read as soft labels in these shares; the most "
                "frequent counts as the label, of equals the first"
            )
        if columns.group is not None:
            count, alone = len({file.group for file in files} - {""}), sum(not file.group for file in files)
            rest = f"; alone: the pictures of {counted(alone, 'row')} that name none" if alone else ""
            yield f"grouped by the column {clipped(self._header[columns.group])!r}: {counted(count, 'group')}{rest}"
        if self._left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self._left_out.most_common())
            yield f"rows without an expression are left out: {kinds}"

    def _split_by_paths(self, files: list[LabelledFile]) -> tuple[list[LabelledFile], list[str]]:
        """Let the folders in the paths say the split (train/1.jpg, test/2.jpg), where nothing else does."""
        if not self._split_in_paths or self._columns.split is not None or self._columns.flags:
            return files, []
        above = [path_parts(cell)[:-1] for cell in self._cells]
        for level in range(min(_DEEPEST, max(map(len, above)))):
            found = [words.split_of(parts[level]) if level < len(parts) else None for parts in above]
            if len(set(found) - {None}) > 1:
                break
        else:
            return files, []
        if None in found:
            return files, [
                f"folders in the paths name splits, but not for {counted(found.count(None), 'row')}, not used; a "
                "column split would say it"
            ]
        counts = ", ".join(f"{name} {count}" for name, count in Counter(found).most_common())
        return [replace(file, split=own or "train") for file, own in zip(files, found, strict=True)], [
            f"split by the folders in the paths: {counts}"
        ]


def _likeliest(said: Counter[str]) -> str:
    """Return the most frequent label, of equals the first; '' where there is none."""
    return next((label for label, _ in said.most_common(1)), "")
