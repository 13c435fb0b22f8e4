"""What a folder holds: pictures by content, the rest counted by kind."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.images import list_pictures, no_picture, passed_over_note

PIXELS = np.full((64, 64, 3), 90, np.uint8)


def picture(suffix: str) -> bytes:
    return cv2.imencode(suffix, PIXELS)[1].tobytes()


JPEG = picture(".jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in {
        "b10.jpg": JPEG, "b9.jpg": JPEG, "saved.jfif": JPEG, "web.jpg_large": JPEG, "again.jpg.1": JPEG,
        "nosuffix": picture(".png"), "wrong.txt": picture(".webp"), "old.pnm": picture(".ppm"),
        "new.avif": picture(".avif"), "scan.jp2": picture(".jp2"), "kodak.bin": picture(".ras"),
        "below/.thumbs/x.jpg": JPEG, "below/a.jpg": JPEG, "@eaDir/a.jpg": JPEG, ".hidden.jpg": JPEG, "Thumbs.db": b"x",
        "notes.txt": b"a list", "more.md": b"# b", "clip.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        "paper.pdf": b"%PDF-1.7", "what.xyz": bytes(range(256)), "nothing": b"", "camera.nef": b"II*\0" + bytes(90),
        "damaged.png": b"no picture", "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def test_content_decides_and_the_rest_is_counted_by_kind(folder: Path) -> None:
    found = list_pictures(folder)
    assert [path.relative_to(folder).as_posix() for path in found.pictures] == [
        "again.jpg.1", "b9.jpg", "b10.jpg", "damaged.png", "kodak.bin", "new.avif", "nosuffix", "old.pnm",
        "phone.heic", "saved.jfif", "scan.jp2", "web.jpg_large", "wrong.txt", "below/a.jpg",
    ]  # fmt: skip
    assert found.passed_over == {
        "text": 2, "video": 1, "PDF": 1, ".xyz": 1, "empty": 1, "camera raw": 1, "hidden file": 1,
        "hidden folder": 1, "system folder": 1,
    }  # fmt: skip
    assert passed_over_note(found.passed_over) == (
        "passed over, as no pictures: 2 text, 1 .xyz, 1 PDF, 1 camera raw, 1 empty, 1 hidden file, "
        "1 hidden folder, 1 system folder, 1 video"
    )


def test_a_folder_can_be_left_out(folder: Path) -> None:
    found = list_pictures(folder, lambda path: path.name == "below")
    assert folder / "below/a.jpg" not in found.pictures and len(found.pictures) == 13


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert no_picture(tmp_path / "pipe.jpg") == "pipe, socket or device"


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(JPEG)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert [path.name for path in list_pictures(tmp_path).pictures] == ["gone.jpg", "x.jpg"]
