"""Which pictures a run answers: listed once, cut into shards, kept as a file, so that a run goes on exactly.

A shard is what one actor answers at a time: some pictures in files, some rows of a Parquet table that holds the bytes
of pictures, or a tar file; or a video, which several can work at.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from csv import reader
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from mien.batch.storage import WHAT, Storage, is_address, reason
from mien.data.readers import words
from mien.errors import DataError, need
from mien.files import natural
from mien.images.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from mien.images.listing import no_picture, walk_pictures

PICTURE, ROWS, TAR, NO_PATH, VIDEO = "picture", "rows", "tar", "no path", "video"
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_TABLES = (".csv", ".parquet")
_BYTES_COLUMNS = ("image", "bytes", "image_bytes", "img", "picture", "data", "content", "jpg", "png")
_AT_ONCE = 10_000  # lines of the plan in memory
_ABOVE_HEADER = re.compile(r'\s*|"?sep=."?\s*', re.IGNORECASE)  # empty lines, and Excel's word on separators
_TAIL_BYTES = 1 << 20  # of a Parquet file, which holds what is known of all its pages
_MAGIC = re.compile(r"[*?\[]")


class Item(NamedTuple):
    """Pictures in one place. source: which of the words named it, from 0. file: its name.

    kind: PICTURE (a file), ROWS (of a table with the bytes of pictures; from first to last, which is not included), TAR
    (a tar file, whole), VIDEO (a file), NO_PATH (a row of a table that names no picture).
    """

    kind: str
    source: int
    file: str
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Shard:
    """What one actor answers at a time, in this order."""

    number: int
    items: tuple[Item, ...]

    @property
    def size(self) -> int | None:
        """How many pictures; None for a tar file, which nobody has opened yet."""
        if any(item.kind == TAR for item in self.items):
            return None
        return sum(item.last - item.first if item.kind == ROWS else 1 for item in self.items)

    @property
    def is_video(self) -> bool:
        """A video is a shard of its own, which many actors can work at."""
        return self.items[0].kind == VIDEO


@dataclass
class Listed:
    """What was found. pictures: those in tar files not counted. passed_over: other files by kind.

    tables: the mark of each table, by its name (see `table_mark`).
    """

    pictures: int = 0
    videos: int = 0
    shards: int = 0
    named_twice: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)


def write_plan(
    path: Path,
    sources: Sequence[str],
    storage: Storage,
    *,
    size: int,
    column: str | None = None,
    videos: bool = True,
    skip: str = "",
    seen: Callable[[int], None] = lambda _: None,
) -> Listed:
    """List what the words name, cut it into shards of `size` pictures or one video, and write that to `path`.

    column: of tables, that with the paths or bytes; None: found by its name. videos: False passes them over. skip: a
    folder or address that is not searched. seen: told now and then how many pictures were found. Memory grows by some
    90 bytes a picture and by the largest folder.
    Raises DataError where nothing can be listed.
    """
    listed = Listed()
    films: list[Item] = []  # each a shard of its own, after all pictures
    with _Plan(path, listed, storage.root, size, seen) as plan:
        for source, word in enumerate(sources):
            before = plan.items + len(films)
            for name, is_video in _names(word, storage, skip, listed.passed_over):
                low = name.lower()
                if is_video and not videos:
                    listed.passed_over[VIDEO] += 1
                elif is_video:
                    films.append(Item(VIDEO, source, name))
                elif low.endswith(_TARS):
                    plan.add(Item(TAR, source, name))
                elif low.endswith(_TABLES):
                    listed.tables[name] = table_mark(name, storage)
                    for item in _rows_of_table(name, source, storage, column, size):
                        if item.kind != PICTURE or not item.file.lower().endswith(VIDEO_SUFFIXES):
                            plan.add(item)
                        elif videos:
                            films.append(item._replace(kind=VIDEO))
                        else:
                            listed.passed_over[VIDEO] += 1
                else:
                    plan.add(Item(PICTURE, source, name))
            if plan.items + len(films) == before:
                listed.problems.append(_nothing(word))
        for item in films:
            plan.add(item)
    return listed


def read_plan(plan: Any, done: Callable[[int], bool]) -> Iterator[Shard]:
    """Yield the shards of a plan in their order, without those that are done, a few at a time in memory."""
    parquet = need("pyarrow.parquet", "ray", WHAT)
    number = -1
    items: list[Item] = []
    with parquet.ParquetFile(plan) as file:
        for batch in file.iter_batches(_AT_ONCE):
            columns = [batch.column(place).to_pylist() for place in range(6)]
            for shard, kind, source, name, first, last in zip(*columns, strict=True):
                if shard != number:
                    if items and not done(number):
                        yield Shard(number, tuple(items))
                    number, items = shard, []
                items.append(Item(kind, source, os.fsdecode(name), first, last))
    if items and not done(number):
        yield Shard(number, tuple(items))


class _Plan:
    """The file of a plan while it is written. A picture that was listed already is left out and counted."""

    def __init__(
        self, path: Path, listed: Listed, root: Path, size: int, seen: Callable[[int], None]
    ) -> None:
        arrow = need("pyarrow", "ray", WHAT)
        parquet = need("pyarrow.parquet", "ray", WHAT)
        self._listed, self._root, self._size, self._seen = listed, root, size, seen
        columns = {"shard": "int32", "kind": "string", "source": "int32"}
        columns |= {"file": "binary", "first": "int64", "last": "int64"}
        self._schema = arrow.schema(list(columns.items()))
        self._arrow, self._writer = arrow, parquet.ParquetWriter(path, self._schema)
        self._lines: list[tuple[Any, ...]] = []
        self._in_shard = self.items = 0
        self._known: set[bytes] = set()
        self._parent: tuple[str, str] = ("", "")

    def add(self, item: Item) -> None:
        """Put a picture, some rows or a tar file into the plan."""
        self.items += 1
        if item.kind != ROWS and self._again(item):
            self._listed.named_twice += 1
            return
        whole = item.kind in (ROWS, TAR, VIDEO)  # a shard of its own
        if self._in_shard and (whole or self._in_shard == self._size):
            self._next()
        self._lines.append(
            (self._listed.shards, item.kind, item.source, os.fsencode(item.file), item.first, item.last)
        )
        count = item.last - item.first if item.kind == ROWS else int(item.kind in (PICTURE, NO_PATH))
        self._listed.pictures += count
        self._listed.videos += item.kind == VIDEO
        self._in_shard += 1
        if whole:
            self._next()
        if len(self._lines) >= _AT_ONCE:
            self._flush()

    def _next(self) -> None:
        self._listed.shards += 1
        self._in_shard = 0

    def _again(self, item: Item) -> bool:
        """Say whether this very file is in the plan already, under whatever name."""
        if not item.file:
            return False
        key = item.file if is_address(item.file) else self._real(str(self._root / item.file))
        digest = hashlib.blake2b(os.fsencode(key), digest_size=12).digest()
        if digest in self._known:
            return True
        self._known.add(digest)
        return False

    def _real(self, path: str) -> str:
        """Return where a path leads; most files lie in the folder of the one before and are no links."""
        parent, name = os.path.split(path)
        if os.path.islink(path):  # noqa: PTH114 - a million times
            return os.path.realpath(path)
        if parent != self._parent[0]:
            self._parent = (parent, os.path.realpath(parent))
        return f"{self._parent[1]}/{name}"

    def _flush(self) -> None:
        self._seen(self._listed.pictures)
        if self._lines:
            columns = list(zip(*self._lines, strict=True))
            self._writer.write_table(
                self._arrow.table(
                    [
                        self._arrow.array(values, one.type)
                        for values, one in zip(columns, self._schema, strict=True)
                    ],
                    schema=self._schema,
                )
            )
        self._lines = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
            if self._in_shard:
                self._next()
        self._writer.close()


def _names(word: str, storage: Storage, skip: str, passed_over: Counter[str]) -> Iterator[tuple[str, bool]]:
    """Yield the files that a word names, pictures, tables, tar files and videos, each with whether it is a video."""
    if is_address(word):
        yield from _names_in_bucket(storage.learn(word), storage, skip, passed_over)
        return
    path = storage.root / word
    if path.is_dir():
        yield from _below(word, storage.root, skip, passed_over)
    elif path.exists():
        yield str(Path(word)), no_picture(path) == VIDEO
    elif glob.has_magic(word):
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        absolute = os.path.isabs(word)  # noqa: PTH117
        for match in sorted(matches, key=lambda one: tuple(map(natural, Path(one).parts))):
            name = match if absolute else os.path.relpath(match, storage.root)
            if Path(match).is_dir():
                yield from _below(name, storage.root, skip, passed_over)
            elif match.lower().endswith((*_TARS, *_TABLES)) or not (kind := no_picture(Path(match))):
                yield name, False
            elif kind == VIDEO:
                yield name, True
            else:
                passed_over[kind] += 1


def _below(folder: str, root: Path, skip: str, passed_over: Counter[str]) -> Iterator[tuple[str, bool]]:
    skipped = os.path.realpath(skip) if skip and not is_address(skip) else None
    start = str(root / folder)
    films: list[Path] = []
    others: Counter[str] = Counter()
    for path in walk_pictures(
        Path(start), others, lambda below: os.path.realpath(below) == skipped, films.append
    ):
        yield str(Path(folder, path.relative_to(start))), False
    for path in films:
        yield str(Path(folder, path.relative_to(start))), True
    del others[VIDEO]  # which are not passed over here
    passed_over.update(others)


def _names_in_bucket(
    address: str, storage: Storage, skip: str, passed_over: Counter[str]
) -> Iterator[tuple[str, bool]]:
    """The same for an address. Only its name says what a file is: to open each would cost a request."""
    magic = _MAGIC.search(address)
    wanted = re.compile(_translated(address)) if magic else None
    start = address[: address.rindex("/", 0, magic.start())] if magic else address
    for name in storage.walk(start):
        if (wanted and not wanted.fullmatch(name)) or (skip and name.startswith(f"{skip}/")):
            continue
        low = name.lower()
        is_video = low.endswith(VIDEO_SUFFIXES)
        if is_video or low.endswith(PICTURE_SUFFIXES):
            yield name, is_video
        elif (wanted or name == address) and low.endswith((*_TARS, *_TABLES)):
            yield name, False
        else:
            passed_over[os.path.splitext(low)[1] or "no suffix"] += 1  # noqa: PTH122


def _translated(pattern: str) -> str:
    """Return a glob as a regular expression: ** for any folders, * and ? within one, [abc] and [!abc] as in a shell."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(part: str) -> str:
        if not part.startswith("["):
            return words.get(part) or re.escape(part)
        no, letters = ("^", part[2:-1]) if part[1] == "!" and len(part) > 3 else ("", part[1:-1])
        return "[" + no + re.sub(r"([\\^\[&~|])", r"\\\1", letters) + "]"

    return "".join(map(translated, re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", pattern)))


def table_mark(name: str, storage: Storage) -> str:
    """Return by what a table is known again, touched or copied; DataError where it cannot be read."""
    try:
        with storage.open(name) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES) if name.lower().endswith(".parquet") else 0)
            digest = hashlib.blake2b(str(size).encode(), digest_size=16)
            while part := stream.read(_TAIL_BYTES):
                digest.update(part)
            return digest.hexdigest()
    except OSError as error:
        raise DataError(f"cannot read the table {name}: {reason(error)}") from error


def _rows_of_table(name: str, source: int, storage: Storage, column: str | None, size: int) -> Iterator[Item]:
    """Yield the pictures that a table names, or ranges of its rows where it holds their bytes."""
    try:
        with storage.open(name) as stream:
            yield from (
                _of_parquet(Item(ROWS, source, name), storage.root, stream, column, size)
                if name.lower().endswith(".parquet")
                else _of_csv(name, source, storage, stream, column)
            )
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        if isinstance(error, DataError):
            raise
        todo = "; save it as UTF-8 (in Excel: 'CSV UTF-8')" if "invalid UTF8" in str(error) else ""
        raise DataError(f"cannot read the table {name}: {reason(error)}{todo}") from error


def _of_parquet(table: Item, root: Path, stream: Any, column: str | None, size: int) -> Iterator[Item]:
    parquet = need("pyarrow.parquet", "ray", WHAT)
    with parquet.ParquetFile(stream) as file:
        chosen = picture_column(file.schema_arrow, table.file, column)
        if chosen.bytes_in is None:
            start = 1
            for batch in file.iter_batches(_AT_ONCE, columns=[chosen.name]):
                yield from _paths(table.file, table.source, root, batch.column(0).to_pylist(), start)
                start += len(batch)
            return
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            for first in range(start, end, size):
                yield table._replace(first=first, last=min(end, first + size))
            start = end


def _of_csv(name: str, source: int, storage: Storage, stream: Any, column: str | None) -> Iterator[Item]:
    csv = need("pyarrow.csv", "ray", WHAT)
    arrow = need("pyarrow", "ray", WHAT)
    head = stream.read(1 << 16)
    # Excel's 'Unicode text' is UTF-16. utf-8-sig: Excel puts a mark before UTF-8, too.
    encoding = "utf-16" if head[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in head:
        raise DataError(
            f"the table {name} has zero bytes: it is damaged, or UTF-16 without its mark; get it again, or save it as "
            "UTF-8"
        )
    lines = head.decode(encoding, "replace").splitlines()
    above = sum(1 for _ in takewhile(_ABOVE_HEADER.fullmatch, lines))
    if above == len(lines):
        raise DataError(f"the table {name} is empty")
    delimiter = max(",;\t", key=lines[above].count)
    header = next(reader(lines[above : above + 1], delimiter=delimiter), [])
    chosen = picture_column(arrow.schema([(one, arrow.string()) for one in header]), name, column)
    with storage.open(name) as again:
        convert = csv.ConvertOptions(
            include_columns=[chosen.name],
            column_types={chosen.name: arrow.string()},
            strings_can_be_null=True,
        )
        start = 1
        options = {
            "read_options": csv.ReadOptions(encoding=encoding.removesuffix("-sig"), skip_rows=above),
            "parse_options": csv.ParseOptions(delimiter=delimiter),
            "convert_options": convert,
        }
        for batch in csv.open_csv(again, **options):
            yield from _paths(name, source, storage.root, batch.column(0).to_pylist(), start)
            start += len(batch)


def _paths(table: str, source: int, root: Path, cells: list[Any], start: int) -> Iterator[Item]:
    """Yield the pictures of some rows. Paths start from the table's folder, or from here where they are there."""
    folder = table.rpartition("/")[0]
    for row, cell in enumerate(cells, start=start):
        path = str(cell or "").strip()
        if path and not is_address(path) and not path.startswith("/") and folder:
            beside = f"{folder}/{path}"
            path = (
                beside
                if is_address(table) or (root / beside).exists() or not (root / path).exists()
                else path
            )
        yield Item(PICTURE, source, path) if path else Item(NO_PATH, source, f"{table}#{row}")


@dataclass(frozen=True)
class PictureColumn:
    """The column with the pictures. bytes_in: None where it holds paths; '' bytes; else the field with the bytes."""

    name: str
    bytes_in: str | None


def picture_column(schema: Any, table: str, column: str | None) -> PictureColumn:
    """Choose the column of a table that holds the paths or the bytes of pictures; DataError where none does."""
    names = list(schema.names)
    if column and column not in names:
        raise DataError(
            f"{table} has no column {column!r}; it has {', '.join(names)}; name one with --column"
        )
    by_words = words.pick_column(names, words.PATH_COLUMNS)
    paths = [names[by_words]] if by_words is not None else []
    for name in [column] if column else [*(n for n in names if n.lower() in _BYTES_COLUMNS), *paths]:
        if names.count(name) > 1:
            raise DataError(f"{table} has several columns {name!r}; give each a name of its own")
        kind = str(schema.field(name).type)
        if kind in ("binary", "large_binary") or kind.startswith("fixed_size_binary"):
            return PictureColumn(name, "")
        if kind.startswith("struct") and "bytes: " in kind:  # as Hugging Face writes pictures
            return PictureColumn(name, "bytes")
        if "string" in kind and (column or name in paths):
            return PictureColumn(name, None)
    raise DataError(
        f"{table} has no column of paths (path, file, image …) or of bytes (image, bytes …); it has "
        f"{', '.join(names)}; name one with --column"
    )


def _nothing(word: str) -> str:
    word = word.partition("?")[0] if is_address(word) else word
    if _MAGIC.search(word):
        return f"no picture, table or tar file matches {word}"
    return (
        f"there is no picture in {word}; name a folder, a picture, a table (.csv, .parquet), a tar file, a glob or an "
        "address; tables and tar files in a folder are named by a glob, such as 'FOLDER/*.tar'"
    )
