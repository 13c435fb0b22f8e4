"""Archives (zip, tar): unpacked once, into the folder for caches, and read there.

What is unpacked is named by the content of what it came from, so the second read finds it. An archive is taken apart by
name: members that would lie outside the folder, links and devices are left out and counted, and what it claims to hold
must fit on the disk before anything is written.
"""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Self

from mien.data import cache
from mien.errors import DataError
from mien.files import cache_folder, clipped, whole_folder

_UNICODE_PATH = 0x7075  # among a zip member's extra fields
_SAYS_UTF8 = 0x800  # in a zip member's flags (APPNOTE.TXT, section 4.4.4, bit 11)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_MOST_MEMBERS = 20_000_000
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    RuntimeError,
    ValueError,
)
_SPARE_BYTES = 200_000_000  # left free on the disk
_LONGEST_BYTES = 255  # of one file's or folder's name, on the disks of Linux, macOS and Windows
_LEFT_OUT = ".left-out"  # the file that counts members without a place, where there were any


class _WholeMember(tarfile.TarInfo):
    """What stands before a file in a tar file.

    Python takes one that is damaged or cut for the end of the tar file, and would lose what follows without a word.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        assert isinstance(archive, WholeTar)
        try:
            member = super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            kind = type(error).__name__
            if kind == "EOFHeaderError":
                archive.marked = True
            elif kind != "EmptyHeaderError" or not archive.marked:
                what = "no mark of its end" if kind == "EmptyHeaderError" else str(error)
                raise tarfile.ReadError(f"{what} at byte {archive.offset:,}; what follows is lost") from error
            raise
        archive.marked = False
        return member


class WholeTar(tarfile.TarFile):
    """A tar file that is read to its last byte, as by `tar -i`; tarfile.ReadError where something is wrong with it.

    What stands behind the mark of the end is read as well: another tar file, joined to this one by `cat`. A hole that a
    disk left is such a mark, too, and what follows on it is no member, which is an error.
    """

    tarinfo = _WholeMember
    ignore_zeros = True
    marked = False  # whether the last that was read is a mark of the end


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpacked(path: Path) -> tuple[Path, int]:
    """Return the folder in which the files of an archive lie, and how many members were left out.

    Raises DataError where it is damaged, locked or too large.
    """
    folder = unpacked_place(path)
    if not folder.is_dir():
        _unpack(path, folder)
    count = folder / _LEFT_OUT
    return folder, int(count.read_text()) if count.is_file() else 0


def _unpack(path: Path, folder: Path) -> None:
    with whole_folder(folder) as inside:
        try:
            if path.name.lower().endswith(".zip"):
                with zipfile.ZipFile(path) as stored:
                    left_out = _unpack_zip(stored, inside, path)
            else:
                with WholeTar.open(path) as tar:
                    left_out = _unpack_tar(tar, inside, path)
        except _DAMAGE as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path} cannot be unpacked: {clipped(str(error))}; get the file again"
            ) from error
        if left_out:
            (inside / _LEFT_OUT).write_text(str(left_out))


def unpacked_place(path: Path) -> Path:
    try:
        return cache_folder() / "unpacked" / cache.content_hash(path)[:40]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _unpack_zip(stored: zipfile.ZipFile, folder: Path, path: Path) -> int:
    left_out = 0
    members = [info for info in stored.infolist() if not info.is_dir()]
    check_room(sum(info.file_size for info in members), path, folder)
    if any(info.flag_bits & 1 for info in members):
        raise DataError(f"{path} is locked with a password; unpack it and give the folder")
    for info in members:
        if target := _target(folder, _zip_name(info)):
            left_out += target.exists()  # of two with one name the later counts, as unzip and tar have it
            with stored.open(info) as source:  # ends at the size that was counted above
                _write(source, target)
        else:
            left_out += 1
    return left_out


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name. macOS writes UTF-8 without saying so, which zipfile reads as code page 437.

    Names in another encoding are hardly ever valid UTF-8. Which one they are in, GBK or code page 866, no byte of the
    file tells, and unzip and 7-Zip want to be told; but WinRAR and Info-ZIP say the name in UTF-8 beside.
    """
    if info.flag_bits & _SAYS_UTF8:
        return info.filename
    try:
        if name := _name_beside(info.extra, info.orig_filename.encode("cp437")):
            return name
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _name_beside(extra: bytes, raw: bytes) -> str:
    """Return the name in a member's Unicode Path Extra Field; '' where there is none, or the member was renamed since.

    APPNOTE.TXT, section 4.6.9: the version, 1, the CRC of the name that it stands for, and the name in UTF-8.
    """
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return field[5:].decode("utf-8")
    return ""


def _unpack_tar(tar: tarfile.TarFile, folder: Path, path: Path) -> int:
    left_out = 0
    room = shutil.disk_usage(folder).free - _SPARE_BYTES
    for number, info in enumerate(tar):
        room -= info.size
        if room < 0 or number > _MOST_MEMBERS:
            check_room(shutil.disk_usage(folder).free + info.size, path, folder)
        if info.isreg() and (target := _target(folder, info.name)) and (source := tar.extractfile(info)):
            left_out += target.exists()
            with source:
                _write(source, target)
        else:
            left_out += not info.isdir()
    return left_out


def check_room(needed: int, path: Path, folder: Path) -> None:
    free = shutil.disk_usage(folder).free - _SPARE_BYTES
    if needed > free:
        raise DataError(
            f"{path} unpacks to {needed / 1e9:,.1f} GB, and there is room for {max(free, 0) / 1e9:,.1f} GB in "
            f"{cache_folder()}; unpack it elsewhere and give the folder, or let MIEN_CACHE name one on a larger disk"
        )


def _target(folder: Path, name: str) -> Path | None:
    """Return where a member goes; None for a name that leads out of the folder or that no file can have."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or not all(map(_is_file_name, parts)) or parts[-1] == _LEFT_OUT:
        return None
    target = folder.joinpath(*parts)
    return target if target.is_relative_to(folder) else None


def _is_file_name(part: str) -> bool:
    # A first part of slashes alone ("/", "//") stands for the root, and a joined path would begin anew there.
    bad = part == ".." or "/" in part or "\0" in part or (os.name == "nt" and ":" in part)
    return not bad and len(os.fsencode(part)) <= _LONGEST_BYTES


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
