"""`mien data`: look at labelled pictures before training on them; convert and fetch them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli.inputs import new_folder, refuse_among, refuse_foreign
from mien.data.dataset import DataConfig, Dataset, Progress
from mien.errors import ConfigError, OutputError, SmallClassError
from mien.files import check_writable, expanded, file_name, shell_word
from mien.images.marks import free_place, mark_for, mark_of, taken_note
from mien.model.folder import file_sha256
from mien.settings import add_settings, from_options
from mien.terminal import ProgressBar, clock, columns, counted

if TYPE_CHECKING:
    from mien.data.decisions import Decisions
    from mien.data.duplicates import Duplicates
    from mien.data.label_errors import LabelErrors
    from mien.data.summary import Summary

HELP = "Look at labelled pictures: counts, sizes, copies, leaks, unreadable files; convert and download them."
EXAMPLES = """examples:
  mien data faces                           one folder per class, or train/ validation/ test/ of those
  mien data fer2013.csv --sheet faces.png   also .csv.gz and .csv.xz; the sheet of examples under that name
  mien data raf-db.zip                      an archive; KDEF, RaFD, CK+, AffectNet and others as they come
  mien data faces.csv --label-column mood --root pictures --labels 0=sad,1=happy
  mien data lab web --group '^[^/]+/[^_]+'  two sets as one; pictures with equal beginnings stay on one side
  mien data fer2013.csv --merge nothappy=sad+angry --classes happy,nothappy --to-folders two-classes
  mien data faces --label-errors            the labels most likely wrong, as a list and a sheet to look at
  mien data faces --apply label-errors/label-errors.csv --to-table mended     what the list decides, done
  mien data faces --copies copies           pairs of copies and leaks, as a list and a sheet to look at
  mien data faces --remember copies/copies.csv      what a list decides, for every later use of the pictures
  mien data get drawn --to faces            drawn faces, without any network
  mien data get fer2013 --to fer2013        from Kaggle
"""

_MOST = 10  # names listed before 'and N more'
_SAME = 4  # copies of one picture named before 'N more'
_LONG_S = 20.0  # of processor time: a longer search is announced
LIST_FILE, SHEET_FILE = "label-errors.csv", "label-errors.png"
COPIES_FILE, COPIES_SHEET = "copies.csv", "copies.png"
_ERRORS = Path("label-errors")  # folder of --label-errors unless another one is named
_UNEVEN = 3.0  # times: from here on, class weights matter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="DATA",
        help="folder, CSV, table or archive; several are combined; or: get NAME --to FOLDER",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON; no sheet unless named"
    )
    parser.add_argument(
        "--sheet",
        metavar="FILE",
        help="the picture with examples of each class (default: NAME-sheet.png here; 'none': no sheet)",
    )
    parser.add_argument(
        "--label-errors",
        action="store_true",
        help="list every picture, those first whose label is likely wrong",
    )
    parser.add_argument(
        "--model", default="mien", metavar="MODEL",
        help="--label-errors: the network whose features are used; it need not know the classes (default: mien)",
    )  # fmt: skip
    parser.add_argument(
        "--errors-to", type=Path, metavar="DIR",
        help="--label-errors: where list and sheet are written (default: label-errors; where those of other data lie, "
        "label-errors-2)",
    )  # fmt: skip
    parser.add_argument(
        "--csv", action="store_true", help="--label-errors: print the list as CSV, nothing else"
    )
    parser.add_argument(
        "--apply",
        type=Path,
        metavar="LIST",
        help="do what a list of --label-errors decides, in all that is written",
    )
    parser.add_argument(
        "--copies",
        type=Path,
        metavar="DIR",
        help="write the pairs of copies, leaks first, as a list to decide on and a sheet",
    )
    parser.add_argument(
        "--remember",
        type=Path,
        metavar="LIST",
        help="remember what a list of --label-errors or --copies decides: done whenever the pictures are opened, and "
        "not asked again",
    )
    parser.add_argument(
        "--quick", action="store_true", help="compare pixels only; leave out the search for near copies"
    )
    parser.add_argument(
        "--to-folders", type=Path, metavar="DIR", help="write the pictures as split/class/*.png"
    )
    parser.add_argument("--to-table", type=Path, metavar="DIR", help="write the pictures and a labels.csv")
    parser.add_argument("--to-csv", type=Path, metavar="FILE", help="write FER-2013's csv (48x48 grey)")
    parser.add_argument("--to", type=new_folder, metavar="DIR", help="get: the new folder (default: NAME)")
    parser.add_argument(
        "--per-class", type=int, default=100, metavar="N", help="get drawn: faces of each class"
    )
    add_settings(parser, DataConfig)


def run(options: argparse.Namespace) -> int:
    config = from_options(DataConfig, options)
    if options.words[0] == "get" and not (len(options.words) == 1 and Path("get").exists()):
        return _get(options, config)
    return _look(options, config)


def _get(options: argparse.Namespace, config: DataConfig) -> int:
    from mien.data.convert import DRAWN, KAGGLE, get

    if len(options.words) != 2:
        raise ConfigError(
            f"give one name: mien data get NAME --to DIR; known are {', '.join((*KAGGLE, DRAWN))}"
        )
    name = options.words[1]
    folder = options.to or Path(name.rpartition("/")[2])
    if name == DRAWN:
        from mien.data.drawn import draw_dataset

        chosen = {"classes": config.classes} if config.classes else {}
        draw_dataset(folder, per_class=options.per_class, seed=config.split_seed, **chosen)
    else:
        print(f"from {get(name, folder)}")
    print(f"wrote {folder}; look at it with: mien data {shell_word(folder)}")
    return 0


def _look(options: argparse.Namespace, config: DataConfig) -> int:
    from mien.data.decisions import decisions_for
    from mien.data.duplicates import find_duplicates
    from mien.data.near_copies import estimated_s
    from mien.data.summary import summarise
    from mien.images.canvas import check_suffix

    if options.sheet and options.sheet != "none":
        check_suffix(Path(options.sheet))
        refuse_among("--sheet", Path(options.sheet), options.words)
        refuse_foreign("--sheet", Path(options.sheet))
    for place in _places(options):
        check_writable(place)  # now rather than after minutes of comparing
    bar = ProgressBar(quiet=options.json)
    lists = options.label_errors or options.remember or options.apply
    dataset = _opened(
        options, config, lambda done, of: bar.stage("examining pictures", done, of), divided=bool(lists)
    )
    bar.end()
    if options.remember:
        print(_remember(options, dataset, config), file=sys.stderr)
        dataset = _opened(options, config)
    if options.apply:
        from mien.data.label_errors import apply_list

        dataset, _ = apply_list(dataset, options.apply)
    decided = decisions_for([Path(word) for word in options.words], config)
    found = _label_errors(options, dataset, decided, bar) if options.label_errors else None
    if options.csv:
        return 0
    count = sum(map(len, dataset.splits.values()))
    if not options.quick and (seconds := estimated_s(count)) > _LONG_S:
        print(
            f"looking for near copies among {count:,} pictures: about {clock(seconds)} of processor time, once; "
            f"--quick leaves it out",
            file=sys.stderr,
        )
    duplicates = find_duplicates(
        dataset, near=not options.quick, progress=lambda done, of: bar.stage("comparing pictures", done, of)
    )
    summary = summarise(dataset, near=not options.quick, found=duplicates)
    bar.end()
    if options.json:
        print(
            json.dumps(
                {**summary.to_dict(), **({"label_errors": found.to_dict()} if found else {})}, indent=2
            )
        )
    else:
        print(as_text(summary))
    if options.copies:
        print(
            _copies(options.copies, dataset, duplicates, decided),
            file=sys.stderr if options.json else sys.stdout,
        )
    for line in _write(options, dataset, config.split_seed):
        print(line, file=sys.stderr if options.json else sys.stdout)
    return 0


def _opened(
    options: argparse.Namespace,
    config: DataConfig,
    progress: Progress | None = None,
    *,
    divided: bool = False,
) -> Dataset:
    """Open the data; whole, with a note, where a class is too small to train on: it can be looked at all the same.

    divided: or not at all, for lists whose rows name a part.
    """
    from mien.data import open_dataset

    try:
        return open_dataset(options.words, config, progress=progress)
    except SmallClassError as error:
        if divided:
            raise
        dataset = open_dataset(options.words, config, carve_validation=False, progress=progress)
        return replace(dataset, notes=(*dataset.notes, f"mien train refuses this: {error}"))


def _places(options: argparse.Namespace) -> Iterator[Path]:
    """Yield each folder in which something is to be written that was asked for."""
    if options.label_errors and not options.csv:
        yield options.errors_to or _ERRORS
    if options.copies:
        yield options.copies
    for target in (options.to_folders, options.to_table, options.to_csv):
        if target:
            yield target.parent


def _remember(options: argparse.Namespace, dataset: Dataset, config: DataConfig) -> str:
    """Remember what a list decides; the list's columns say which kind it is."""
    from mien.data.decisions import decisions_in_copies, remember
    from mien.data.label_errors import decisions_in
    from mien.data.readers.csv_text import rows_of

    of_copies = "other_name" in next(rows_of(options.remember), [])
    decisions = (decisions_in_copies if of_copies else decisions_in)(dataset, options.remember)
    named = config.decisions if config.decisions != "none" else None
    file = remember(expanded(options.words[0]), decisions, Path(named) if named else None)
    if not decisions:
        return f"{options.remember} decides nothing: fill in its column decision, and give this command again"
    return (
        f"remembered in {file}: {counted(len(decisions), 'decision')}, for whenever these pictures are opened"
    )


def _copies(folder: Path, dataset: Dataset, found: Duplicates, decided: Decisions) -> str:
    """Write the list of copies and its sheet; return what to say."""
    from mien.data.decisions import copy_pairs, write_copies, write_copies_sheet

    pairs = copy_pairs(dataset, found, decided)
    if not pairs:
        return "no pairs of copies to decide on"
    folder.mkdir(parents=True, exist_ok=True)
    file, sheet = folder / COPIES_FILE, folder / COPIES_SHEET
    kept = _kept(file, sheet)
    write_copies(file, dataset, pairs)
    write_copies_sheet(sheet, dataset, pairs, mark=_mark_of_list(file))
    across = sum(pair.across for pair in pairs)
    return (
        f"{kept}{counted(len(pairs), 'pair')} of copies, {across} across splits\nwrote {file} and {sheet}; "
        f"{_then('--copies', file)}"
    )


def _kept(file: Path, sheet: Path) -> str:
    """Move a list that is no longer as mien wrote it out of the way of a new one; return what to say of it.

    The sheet, which is written behind the list, says what list it was.
    """
    if not file.is_file() or mark_of(sheet).startswith(_mark_of_list(file)):
        return ""
    place = free_place(file, "")
    file.rename(place)
    return f"{file} was changed by hand, and is kept as {place}\n"


def _mark_of_list(file: Path) -> str:
    return mark_for("list", file_sha256(file))


def _mark_of_data(options: argparse.Namespace) -> str:
    return mark_for("sheet", *map(os.path.realpath, options.words))


def _then(option: str, written: Path) -> str:
    """Say what to do with a list: the command that wrote it has all options by which the data is opened."""
    return (
        f"look, change the column decision, then give this command with --remember {shell_word(written)} "
        f"in place of {option}"
    )


def _label_errors(
    options: argparse.Namespace, dataset: Dataset, decided: Decisions, bar: ProgressBar
) -> LabelErrors:
    """Write the list and the sheet (with --csv print the list instead), and say what was found."""
    from mien.data.label_errors import find_label_errors, write_list, write_rows, write_sheet
    from mien.predict.analyzer import model_folder
    from mien.train.run_folder import learnt, run_of

    model = model_folder(options.model)
    run = run_of(model)
    found = find_label_errors(
        dataset,
        model,
        lambda done, of: bar.stage("looking at faces", done, of),
        decided,
        learnt(run) if run else (),
    )
    bar.end()
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.csv:
        write_rows(sys.stdout, found)
        return found
    data = _mark_of_data(options)
    wanted = options.errors_to or _ERRORS
    folder = options.errors_to or free_place(
        wanted, data, known=lambda place: mark_of(place / SHEET_FILE).partition(" ")[2]
    )
    folder.mkdir(parents=True, exist_ok=True)
    file, sheet = folder / LIST_FILE, folder / SHEET_FILE
    if note := taken_note(wanted, folder):
        print(f"mien: {note}", file=sys.stderr)
    kept = _kept(file, sheet)
    write_list(file, found)
    write_sheet(sheet, dataset, found, mark=f"{_mark_of_list(file)} {data}")
    first = found.doubts[0]
    print(
        f"{kept}likely wrong: about {found.likely} of {counted(len(found.doubts), 'label')}; first {first.name}, "
        f"labelled {first.label}, rather {first.suggestion}\nwrote {file} and {sheet}; "
        f"{_then('--label-errors', file)}; --apply instead of --remember: for this once",
        file=sys.stderr if options.json else sys.stdout,
    )
    return found


def _write(options: argparse.Namespace, dataset: Dataset, seed: int) -> Iterator[str]:
    """Write what was asked for, one after the other; yield a line for each. seed: of the examples on the sheet."""
    from mien.data import convert

    if options.sheet != "none" and (options.sheet or not options.json):
        yield _sheet(dataset, options.sheet, _mark_of_data(options), seed=seed)
    for target, writer in (
        (options.to_folders, convert.to_folders),
        (options.to_table, convert.to_table),
        (options.to_csv, convert.to_csv),
    ):
        if target:
            yield f"wrote {counted(writer(dataset, target), 'picture')} to {target}"


def _sheet(dataset: Dataset, asked: str | None, mark: str, *, seed: int) -> str:
    """Write the contact sheet; where nobody asked for it by name, a folder that cannot be written to is no error.

    Under a name that nobody chose it replaces no other data's sheet.
    """
    from mien.data.summary import contact_sheet
    from mien.images.canvas import write_picture

    path = Path(asked) if asked else free_place(Path(f"{file_name(dataset.name)}-sheet.png"), mark)
    try:
        write_picture(path, contact_sheet(dataset, seed=seed), mark)
    except OutputError as error:
        if asked:
            raise
        return f"no sheet: {error}"
    return f"wrote {path}: a row of examples for each class"


def as_text(summary: Summary) -> str:
    """Return the summary in lines of aligned text; what needs attention begins with 'warning:'."""
    from mien.data.split import COPIES_NOTE

    parts = [
        f"{summary.name}: {counted(sum(sum(row.values()) for row in summary.counts.values()), 'picture')}, "
        f"{counted(len(summary.classes), 'class', 'classes')}",
        "",
        *_table(summary),
        "",
        *_metadata(summary),
        # Copies across splits have warnings of their own below, with more in them.
        *(f"note: {note}" for note in summary.notes if not (summary.leaks and note.startswith(COPIES_NOTE))),
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
    return columns(rows).splitlines()


def _metadata(summary: Summary) -> list[str]:
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
            + (", soft labels counted by their shares" if summary.soft else "")
        )
    if summary.votes:
        lines.append("votes: FER+ raters' votes are there")
    for split, count in summary.repeats.items():
        near = (
            "near copies not looked for"
            if summary.near is None
            else f"{counted(summary.near_pairs[split], 'pair')} of near copies"
        )
        lines.append(f"copies within {split}: {counted(count, 'pixel copy', 'pixel copies')}, {near}")
    lines += _listed([f"  {pair.first} = {pair.second}: {pair.kind}" for pair in summary.near or ()])
    return lines


def _warnings(summary: Summary) -> list[str]:
    lines = []
    for leak in summary.leaks:
        total = sum(summary.counts[leak.split].values())
        lines.append(
            f"warning: leak: pixel copies of {leak.source} pictures: {leak.copies} of "
            f"{counted(total, f'{leak.split} picture')}, near copies besides: {leak.near}; scores on {leak.split} are "
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
    names = ", ".join(summary.missing)
    return f"warning: no {split} picture of {names}; add some, merge it (--merge) or leave it out (--classes)"


def _conflict(group: Sequence[str]) -> str:
    more = f" = {len(group) - _SAME} more" if len(group) > _SAME else ""
    return "  " + " = ".join(group[:_SAME]) + more


def _listed(lines: list[str]) -> list[str]:
    rest = len(lines) - _MOST
    return [*lines[:_MOST], f"  and {rest} more (--json lists all)"] if rest > 0 else lines
