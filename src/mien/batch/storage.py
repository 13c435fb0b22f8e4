"""Files by name, local or in a bucket: through Arrow's file systems, otherwise through fsspec's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from mien.errors import DataError, ImageError, MissingExtra, need
from mien.images.decode import read_bytes

WHAT = "mien batch"


def is_address(name: str) -> bool:
    """Say whether a name is an address (`s3://…`) and not a path of this machine."""
    return "://" in name


class Storage:
    """Opens files by name and keeps one connection to each place. Pickles without its connections.

    root: where relative paths start. queries: place (`s3://bucket`) to what its address ended in (`?region=…`).
    """

    def __init__(self, root: Path, queries: Mapping[str, str] | None = None) -> None:
        self.root, self.queries = root, dict(queries or {})
        self._open: dict[str, tuple[Any, str]] = {}

    def __reduce__(self) -> tuple[type[Storage], tuple[Path, dict[str, str]]]:
        return Storage, (self.root, self.queries)

    def learn(self, address: str) -> str:
        """Remember the options of an address; return it without them."""
        address, mark, query = address.partition("?")
        if mark:
            self.queries[_split(address)[0]] = f"?{query}"
        return address

    def read(self, name: str, shown: str) -> bytes:
        """Return a file's content; ImageError, with `shown` for its name, where it cannot be read."""
        if not is_address(name):
            return read_bytes(self.root / name, shown)
        try:
            system, path = self._place(name)
            with system.open_input_stream(path) as stream:
                return cast(bytes, stream.read())
        except (OSError, DataError) as error:
            raise ImageError(f"{shown} cannot be opened: {_reason(error)}") from error

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read anywhere in it; OSError or DataError where that cannot be done."""
        if not is_address(name):
            return (self.root / name).open("rb")
        system, path = self._place(name)
        return cast(IO[bytes], system.open_input_file(path))

    def walk(self, address: str) -> Iterator[str]:
        """Yield the files at an address and below it, sorted folder by folder; DataError where it cannot be listed."""
        fs = need("pyarrow.fs", "ray", WHAT)
        start = _split(address)[0]
        try:
            system, path = self._place(address)
            root = self._open[start][1]
            (info,) = system.get_file_info([path or "/"])
            if info.type == fs.FileType.File:
                yield address
                return
            waiting = [path]
            while waiting:
                found = system.get_file_info(fs.FileSelector(waiting.pop() or "/", allow_not_found=True))
                found.sort(key=lambda one: one.path)
                yield from (
                    f"{start}/{one.path[len(root) :].lstrip('/')}"
                    for one in found
                    if one.type == fs.FileType.File
                )
                waiting += [one.path for one in reversed(found) if one.type == fs.FileType.Directory]
        except OSError as error:
            raise DataError(
                f"cannot list {address}: {_reason(error)}; check its name and that this machine may read it"
            ) from error

    def _place(self, name: str) -> tuple[Any, str]:
        start, rest = _split(name)
        if start not in self._open:
            self._open[start] = _connect(start, self.queries.get(start, ""))
        system, root = self._open[start]
        return system, f"{root.rstrip('/')}/{rest}" if rest else root


def _split(address: str) -> tuple[str, str]:
    """Split an address into the place (`s3://bucket`) and what lies there."""
    scheme, _, rest = address.partition("://")
    place, _, path = rest.partition("/")
    return f"{scheme}://{place}", path.strip("/")


def _connect(start: str, query: str) -> tuple[Any, str]:
    """Return a file system and the path that the place has in it."""
    fs = need("pyarrow.fs", "ray", WHAT)
    arrow = need("pyarrow", "ray", WHAT)
    try:
        return cast(
            tuple[Any, str], fs.FileSystem.from_uri(f"{start}/{query}" if start[-1] == "/" else start + query)
        )
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as unknown:
        fsspec = need("fsspec", "ray", f"reading {start}")
        try:
            system, root = fsspec.core.url_to_fs(start)
        except ImportError as error:
            raise MissingExtra(f"reading {start} needs a package more: {error}") from error
        except ValueError as error:
            raise DataError(f"there is no way to read {start}: {unknown}; {error}") from error
        return fs.PyFileSystem(fs.FSSpecHandler(system)), root


def _reason(error: Exception) -> str:
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return " ".join(text.split())[:300]
