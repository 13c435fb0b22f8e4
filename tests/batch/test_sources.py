"""What `mien batch` reads: folders, tables, tar files and globs, each picture once."""

from __future__ import annotations

import gzip
import re
import tarfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest

from mien.batch.plan import _translated, read_plan, write_plan
from mien.batch.storage import Storage
from mien.errors import DataError

parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
from mien.batch.part import Part  # noqa: E402
from mien.batch.worker import Worker  # noqa: E402

from .batch_files import answered, expected, fill, job, picture, shards, told  # noqa: E402


def test_pictures_in_a_tar_file(here: Path) -> None:
    with tarfile.open("set.tar", "w") as tar:
        for number in range(12):
            for name, content in ((f"{number:03}.jpg", picture(number)), (f"{number:03}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    assert told(answered(here, "set.tar")) == expected("set.tar#{:03}.jpg")
    whole = Path("set.tar").read_bytes()
    Path("cut.tar").write_bytes(whole[: len(whole) // 2])
    *rows, last = answered(here, "cut.tar")
    assert told(rows) == expected("cut.tar#{:03}.jpg")[: len(rows)]
    assert (last["path"], last["error"]) == ("cut.tar", "unreadable")
    # Python takes what is no header for the end, and what follows would be lost without a word.
    header = whole.index(b"003.jpg")
    for name, content, problem in (
        ("wrong.tar", whole[:header] + b"x" * 512 + whole[header + 512 :], "bad checksum|invalid header"),
        ("in-header.tar", whole[: header + 100], "truncated header"),
        ("between.tar", whole[:header], "no mark of its end"),
    ):
        Path(name).write_bytes(content)
        *rows, last = answered(here, name)
        assert told(rows) == expected(name + "#{:03}.jpg")[: len(rows)]
        assert {row["path"] for row in rows} == {f"{name}#{number:03}.jpg" for number in range(3)}
        assert re.fullmatch(
            rf"{name} cannot be read on: ({problem}) at byte {header:,}; what follows is lost",
            last["problem"],
        )
    # A hole that a disk left looks like the mark of the end; so does what stands between two that were joined.
    Path("hole.tar").write_bytes(whole[:header] + bytes(1024) + whole[header + 1024 :])
    *rows, last = answered(here, "hole.tar")
    assert (len({row["path"] for row in rows}), last["error"]) == (3, "unreadable")
    Path("joined.tar").write_bytes(whole + whole)
    assert told(answered(here, "joined.tar")) == expected("joined.tar#{:03}.jpg") * 2
    packed = bytearray(
        gzip.compress(whole, 0)
    )  # stored, so that a wrong byte of a picture is seen by the sum alone
    packed[header - 200] ^= 1
    Path("sum.tar.gz").write_bytes(packed)
    assert "CRC check failed" in answered(here, "sum.tar.gz")[-1]["problem"]
    import pyarrow as arrow

    Path("set.tar.zst").write_bytes(arrow.compress(whole, "zstd", asbytes=True))
    assert told(answered(here, "set.tar.zst")) == expected("set.tar.zst#{:03}.jpg")
    # What lies before the cut is answered, but for the block of up to 128 KB that zstd itself cannot read.
    parts = [arrow.compress(part, "zstd", asbytes=True) for part in (whole[:header], whole[header:])]
    Path("cut.tar.zst").write_bytes(parts[0] + parts[1][:-9])
    *rows, last = answered(here, "cut.tar.zst")
    assert {row["path"] for row in rows} == {f"cut.tar.zst#{number:03}.jpg" for number in range(3)}
    assert last["problem"] == "cut.tar.zst cannot be read on: Truncated compressed stream"


def test_a_damaged_tar_file_in_pieces_is_told_once(here: Path) -> None:
    with tarfile.open("set.tar", "w") as tar:
        for path in fill(here / "photos", 12):
            tar.add(path, path.name)
    whole = Path("set.tar").read_bytes()
    Path("set.tar").write_bytes(whole[: whole.index(b"7.jpg")])
    worker = Worker()
    worker.open(job(here, "set.tar"))
    (shard,) = shards(here, "set.tar")
    for ends in ((0, 3, 256, None), (0, 7, None), (0, 1, 7, 8, 9, None), (0, 11, None)):
        parts = [Part(shard, first or 0, last) for first, last in pairwise(ends)]
        rows = [
            row
            for part in parts
            for row in parquet.read_table(BytesIO(worker.answer(part).content[0])).to_pylist()
        ]
        assert list(dict.fromkeys(row["path"] for row in rows)) == [
            *(f"set.tar#{n}.jpg" for n in range(7)),
            "set.tar",
        ]
        assert [row["error"] for row in rows if row["error"]] == ["unreadable"]
    # An actor that dies where the damage lies is told without the damage being looked at again.
    part = Part(shard, 7, 8, problem="ended the process")
    (row,) = parquet.read_table(BytesIO(worker.answer(part).content[0])).to_pylist()
    assert (row["path"], row["problem"], row["error"]) == ("set.tar", "set.tar ended the process", "crash")


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_pictures_in_a_parquet_table(here: Path, form: str) -> None:
    import pyarrow as arrow

    cells = [
        picture(number) if form == "bytes" else {"bytes": picture(number), "path": ""} for number in range(12)
    ]
    parquet.write_table(arrow.table({"label": [0] * 12, "image": cells}), "set.parquet", row_group_size=7)
    assert told(answered(here, "set.parquet")) == expected("set.parquet#{}")
    damaged = bytearray(Path("set.parquet").read_bytes())
    start = parquet.read_metadata("set.parquet").row_group(1).column(1).data_page_offset
    damaged[start : start + 40] = b"\xff" * 40
    Path("damaged.parquet").write_bytes(damaged)
    rows = answered(here, "damaged.parquet")
    lost = [f"damaged.parquet#{row}" for row in range(7, 12)]
    assert told([row for row in rows if not row["error"]]) == expected("damaged.parquet#{}")[: len(rows) - 5]
    assert [row["path"] for row in rows if row["error"] == "unreadable"] == lost
    found = shards(here, "set.parquet", size=5)
    assert [(shard.items[0].first, shard.items[0].last) for shard in found] == [(0, 5), (5, 7), (7, 12)]
    assert shards(here, "set.parquet", column="image") == found
    with pytest.raises(DataError, match="has no column 'photo'; it has label, image"):
        shards(here, "set.parquet", column="photo")


@pytest.mark.parametrize(
    ("pattern", "fits", "not_fits"),
    [
        ("s3://b/[!x]*.jpg", "s3://b/y1.jpg", "s3://b/x1.jpg"),
        ("s3://b/[a-c].jpg", "s3://b/b.jpg", "s3://b/d.jpg"),
        ("s3://b/[^a].jpg", "s3://b/^.jpg", "s3://b/b.jpg"),
        ("s3://b/**/1.jpg", "s3://b/c/d/1.jpg", "s3://b/c/d/2.jpg"),
        ("s3://b/1?.jpg", "s3://b/12.jpg", "s3://b/1/.jpg"),
    ],
)
def test_a_glob_of_addresses_is_that_of_a_shell(pattern: str, fits: str, not_fits: str) -> None:
    found = re.compile(_translated(pattern))
    assert found.fullmatch(fits)
    assert not found.fullmatch(not_fits)


def test_every_picture_once_whatever_names_it(here: Path) -> None:
    fill(here / "photos" / "a", 3)
    fill(here / "photos" / "b", 3)  # the same names
    (here / "photos" / "b" / "link.jpg").symlink_to(here / "photos" / "a" / "0.jpg")
    (here / "photos" / "notes.txt").write_text("none")
    (here / "photos" / "list.csv").write_text('id,path\n1,a/1.jpg\n2,\n3,"no, such.jpg"\n')
    for name, mark in (("semicolons.csv", ";"), ("tabs.csv", "\t")):
        Path(name).write_text(f"id{mark}path\n1{mark}photos/a/1.jpg\n")
        assert [one.items[0].file for one in shards(here, name)] == ["photos/a/1.jpg"]
    text = "id,path\n1,photos/a/1.jpg\n"
    Path("excel.csv").write_text(text, encoding="utf-16")
    assert [one.items[0].file for one in shards(here, "excel.csv")] == ["photos/a/1.jpg"]
    Path("unmarked.csv").write_text(text, encoding="utf-16-le")
    with pytest.raises(
        DataError, match=r"unmarked\.csv has zero bytes: it is damaged, or UTF-16 without its mark"
    ):
        shards(here, "unmarked.csv")
    Path("latin.csv").write_text("path\nä.jpg\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"latin\.csv: .*invalid UTF8 data; save it as UTF-8 \(in Excel"):
        shards(here, "latin.csv")
    Path("twice.csv").write_text("path,path\na.jpg,b.jpg\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"twice\.csv has several columns 'path'; give each a name of its own"
    ):
        shards(here, "twice.csv")
    Path("films.csv").write_text("path\nphotos/a/1.jpg\nfilm.mp4\n", encoding="utf-8")
    found = write_plan(here / "plan.parquet", ["films.csv"], Storage(here), size=4, videos=False)
    assert (found.pictures, found.videos, dict(found.passed_over)) == (1, 0, {"video": 1})
    Path("excel.csv").write_text("\nsep=;\nname;path\nx,y;photos/a/1.jpg\n", encoding="utf-8")
    assert [item.file for item in shards(here, "excel.csv")[0].items] == ["photos/a/1.jpg"]
    Path("empty.csv").touch()
    with pytest.raises(DataError, match=r"the table empty\.csv is empty"):
        shards(here, "empty.csv")
    found = write_plan(
        here / "plan.parquet",
        ["photos", "photos/a/*.jpg", "photos/list.csv", "none/*.jpg"],
        Storage(here),
        size=4,
    )
    plan = list(read_plan(here / "plan.parquet", lambda number: number == 0))
    assert [[item.file for item in shard.items] for shard in plan] == [
        ["photos/b/1.jpg", "photos/b/2.jpg", "photos/list.csv#2", "photos/no, such.jpg"]
    ]
    assert (found.pictures, found.shards, found.named_twice) == (8, 2, 5)
    assert dict(found.passed_over) == {"text": 2}
    assert found.problems == ["no picture, table or tar file matches none/*.jpg"]
