"""mien bench: a real server, and answers that are counted."""

import json
import subprocess
import sys
from pathlib import Path

from mien.predict.analyzer import load
from mien.serve.bench import PICTURES, group_picture


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mien.cli.main", "bench", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_picture_is_measured_with_one_client_and_with_several(tmp_path: Path) -> None:
    picture = tmp_path / "small.jpg"
    picture.write_bytes(group_picture(320, 240, 1))
    done = bench(str(picture), "--seconds", "0.1", "--clients", "2", "--detector", "whole", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [(one["width"], one["height"], one["clients"]) for one in results] == [
        (320, 240, 1),
        (320, 240, 2),
    ]
    for one in results:
        assert one["faces"] == 1, "the whole picture"
        assert one["pictures_per_s"] > 0
        assert 0 < one["p50_ms"] <= one["p99_ms"]


def test_what_cannot_be_served_is_one_line() -> None:
    done = bench("--model", "none-of-that-name")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no model none-of-that-name" in done.stderr
    assert "no-such.jpg" in bench("no-such.jpg").stderr
    assert bench("--clients", "0").stderr == "mien: --clients must be above 0, got 0\n"


def test_the_pictures_hold_the_faces_that_they_say() -> None:
    width, height, faces = PICTURES[1]
    found = load().analyze_bytes(group_picture(width, height, faces))
    assert sum((face.score or 0) > 0.8 for face in found) == faces
