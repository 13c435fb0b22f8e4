"""Feed mien damaged and made-up files: an answer or one line is right, all else is a bug.

    python tools/fuzz.py                        some hundreds of inputs, as the tests do
    python tools/fuzz.py --count 100000         a long run
    python tools/fuzz.py --kind pictures --seed 3 --only 1234 --keep DIR    one input again, kept to look at

Pictures go through `mien.images.decode`, tables through `mien.data.open_dataset`, model folders through
`read_model_folder` and `read_detector`. Every input follows from its kind, the seed and its number. The work is done
in child processes with a limit of memory, so that a crash is a finding and not the end. An input fails when anything
but a MienError in one line is raised, when it takes longer than a limit, or when the process dies or grows too much.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"pictures": 0.8, "tables": 0.1, "models": 0.1}  # share of --count
MEMORY_BYTES = 3 << 30  # of address space: OpenCV and ONNX Runtime alone take one
GROWTH_BYTES = 1_600_000_000  # resident, by one input: eight bytes for each of the pixels that are allowed
LIMIT_S = 10  # for one input
CHUNK = 2_000  # inputs a child process

Random = np.random.Generator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the inputs; print what came out, and each failure with how to repeat it. Returns 1 where there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=400, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS), help="only one kind")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only this input of --kind")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="write inputs that fail here (with --only: it)"
    )
    parser.add_argument("--child", nargs=2, type=int, metavar=("FIRST", "END"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return child(options.kind, options.seed, range(*options.child), options.keep)
    counts = {options.kind: options.count} if options.kind else _shares(options.count)
    failures = 0
    for kind, count in counts.items():
        first = options.only or 0
        failures += supervise(
            kind, options.seed, first, first + 1 if options.only is not None else count, options.keep
        )
    return 1 if failures else 0


def _shares(count: int) -> dict[str, int]:
    return {kind: max(1, round(share * count)) for kind, share in KINDS.items()}


def supervise(kind: str, seed: int, first: int, end: int, keep: Path | None) -> int:
    """Run inputs in child processes; return how many failed."""
    outcomes: Counter[str] = Counter()
    begun = time.monotonic()
    at = first
    while at < end:
        stop = min(at + CHUNK, end)
        command = [
            sys.executable,
            __file__,
            "--kind",
            kind,
            "--seed",
            str(seed),
            "--child",
            str(at),
            str(stop),
        ]
        command += ["--keep", str(keep)] if keep else []
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                command,
                env={**os.environ, "XDG_CACHE_HOME": cache, "PYTHONWARNINGS": "error"},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        reached = at
        for line in done.stdout.splitlines():
            number, outcome, detail = [*line.split("\t"), "", ""][:3]
            reached = int(number) + 1
            outcomes[outcome] += 1
            if outcome == "FAILED":
                print(f"{kind} --seed {seed} --only {number}: {detail}", flush=True)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or [""]
            print(
                f"{kind} --seed {seed} --only {reached}: the process ended with {done.returncode}; {last[0]}",
                flush=True,
            )
            outcomes["FAILED"] += 1
            reached += 1
        at = max(reached, at + 1) if done.returncode != 0 else stop
    words = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(
        f"{kind}: {sum(outcomes.values()):,} inputs, seed {seed}: {words}; {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return outcomes["FAILED"]


def child(kind: str, seed: int, numbers: range, keep: Path | None) -> int:
    """Run inputs in this process, a line on stdout for each."""
    import resource

    from mien.errors import MienError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    make, read = {
        "pictures": (make_picture, read_picture),
        "tables": (make_table, read_table),
        "models": (make_model, read_model),
    }[kind]
    seeds: Any = picture_seeds() if kind == "pictures" else None
    for number in numbers:
        rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
        content = make(rng, seeds)
        before = _peak_bytes()
        signal.alarm(LIMIT_S)
        detail = ""
        try:
            outcome = read(content)
        except MienError as error:
            outcome = "refused"
            if "\n" in str(error) or not str(error):
                outcome, detail = "FAILED", f"not one line: {str(error)!r}"
        except BaseException as error:  # whatever else is raised is what we look for
            outcome = "FAILED"
            place = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        signal.alarm(0)
        if (grown := _peak_bytes() - before) > GROWTH_BYTES:
            outcome, detail = "FAILED", f"took {grown:,} bytes"
        if keep and (outcome == "FAILED" or len(numbers) == 1):
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{kind}-{seed}-{number}").write_bytes(content)
        print(f"{number}\t{outcome}\t{' '.join(detail.split())[:300]}", flush=True)
    return 0


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {LIMIT_S} s")


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# Pictures ---------------------------------------------------------------------------------------------------------


def picture_seeds() -> list[bytes]:
    """Return one small picture of every kind that we read."""
    from PIL import Image, features

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    pixels[:20] = 90
    colour = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 6
    frames = [colour.transpose(Image.Transpose.ROTATE_180)]
    forms: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("JPEG", colour, {"exif": exif}), ("JPEG", colour, {"progressive": True}),
        ("JPEG", colour, {"restart_marker_blocks": 3}), ("JPEG", colour.convert("L"), {}),
        ("JPEG", colour.convert("CMYK"), {}), ("PNG", colour, {"exif": exif}), ("PNG", colour.convert("P"), {}),
        ("PNG", colour.convert("RGBA"), {}), ("PNG", Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), {}),
        ("PNG", colour, {"save_all": True, "append_images": frames}), ("GIF", colour.convert("P"), {}),
        ("GIF", colour.convert("P"), {"save_all": True, "append_images": frames}), ("WEBP", colour, {}),
        ("WEBP", colour.convert("RGBA"), {"lossless": True, "exif": exif}),
        ("WEBP", colour, {"save_all": True, "append_images": frames}),
        ("BMP", colour, {}), ("BMP", colour.convert("P"), {}),
        ("TIFF", colour, {}), ("TIFF", colour, {"compression": "tiff_lzw"}), ("TIFF", colour, {"compression": "jpeg"}),
        ("TIFF", colour.convert("CMYK"), {"compression": "tiff_adobe_deflate"}),
        ("TIFF", colour.convert("1"), {"compression": "group4"}),
        ("PPM", colour, {}), ("PPM", colour.convert("L"), {}), ("PPM", colour.convert("1"), {}),
        ("JPEG2000", colour, {}), ("JPEG2000", colour, {"no_jp2": True, "tile_size": (16, 16)}),
    ]  # fmt: skip
    if features.check("avif"):
        forms += [("AVIF", colour, {"exif": exif}), ("AVIF", colour.convert("RGBA"), {})]
    seeds = []
    for form, picture, options in forms:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        seeds.append(buffer.getvalue())
    seeds.append(b"P3\n3 2\n255\n" + b" ".join(b"%d" % level for level in range(18)) + b"\n")
    seeds.append(b"qoif\0\0\0\x08\0\0\0\x08\3\0" + rng.integers(0, 256, 60, dtype=np.uint8).tobytes())
    seeds.append(
        b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x08\0\0\0\x08\0\x08\0\3" + bytes(12) + b"\0\0" + bytes(192)
    )
    seeds.append(
        b"\x59\xa6\x6a\x95" + b"".join(n.to_bytes(4, "big") for n in (8, 8, 24, 192, 1, 0, 0)) + bytes(192)
    )
    return seeds


def make_picture(rng: Random, seeds: list[bytes]) -> bytes:
    """Return a picture with one to three changes, or a mixture of two."""
    data = bytearray(seeds[int(rng.integers(len(seeds)))])
    if rng.random() < 0.05:
        other = seeds[int(rng.integers(len(seeds)))]
        cut = int(rng.integers(len(data)))
        data[cut:] = other[int(rng.integers(len(other))) :]
    for _ in range(int(rng.integers(1, 4))):
        CHANGES[int(rng.integers(len(CHANGES)))](data, rng)
        if not data:
            break
    if data[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.7:
        _mend_png(data)
    return bytes(data)


def _place(data: bytearray, rng: Random) -> int:
    """Mostly near the start, where sizes and tables are."""
    return int(len(data) * rng.random() ** (3 if rng.random() < 0.7 else 1))


def _some_bytes(data: bytearray, rng: Random) -> None:
    for _ in range(int(rng.integers(1, 8))):
        data[_place(data, rng)] = int(rng.integers(256))


def _number(data: bytearray, rng: Random) -> None:
    """Put a number that may mean something where a size or length may be."""
    width = int(rng.choice([1, 2, 4]))
    numbers = (
        0,
        1,
        2,
        7,
        255,
        256,
        1 << 14,
        (1 << 14) - 1,
        (1 << 15) - 1,
        65500,
        65535,
        1 << 24,
        (1 << 31) - 1,
        (1 << 32) - 1,
    )
    value = numbers[int(rng.integers(len(numbers)))] % (1 << 8 * width)
    at = _place(data, rng)
    data[at : at + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")


def _cut_end(data: bytearray, rng: Random) -> None:
    del data[int(rng.integers(len(data))) :]


def _cut_middle(data: bytearray, rng: Random) -> None:
    at = int(rng.integers(len(data)))
    del data[at : at + int(rng.integers(1, 40))]


def _insert(data: bytearray, rng: Random) -> None:
    at = int(rng.integers(len(data)))
    data[at:at] = rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8).tobytes()


def _again(data: bytearray, rng: Random) -> None:
    """Repeat a piece, often many times: parts twice, two sizes, nesting."""
    at = _place(data, rng)
    piece = data[at : at + int(rng.integers(1, 64))]
    to = _place(data, rng)
    data[to:to] = piece * int(rng.choice([1, 1, 2, 100, 1000]))


def _grow(data: bytearray, rng: Random) -> None:
    data += bytes(int(rng.integers(1, 5000)))


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    _some_bytes, _some_bytes, _number, _number, _number, _cut_end, _cut_middle, _insert, _again, _grow,
)  # fmt: skip


def _mend_png(data: bytearray) -> None:
    """Make the check sums right: libpng refuses a part with a wrong one, and nothing behind it would be tried."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def read_picture(content: bytes) -> str:
    from mien.images import MAX_PIXELS, decode
    from mien.images.headers import read_header

    header = read_header(content, "it")
    found = decode(content, "it")
    pixels = found.pixels
    assert pixels.dtype == np.uint8 and pixels.ndim in (2, 3) and pixels.shape[2:] in ((), (3,)), pixels.shape
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS, pixels.shape
    # What limits look at is what was decoded, turned or not.
    assert sorted(pixels.shape[:2]) == sorted((header.height, header.width)), (header, pixels.shape)
    return "warned" if found.warning else "read"


# Tables -----------------------------------------------------------------------------------------------------------

_ROWS = [
    [f"{number}.png", ("happy", "sad")[number % 2], ("train", "test")[number % 3 == 0]]
    for number in range(12)
]
_CELLS = (
    "", " ", '"', "'", ",", ";", "\t", "\0", "\r", "\n", "-1", "nan", "1e400", "../../x", "/dev/zero", "happy",
    "HAPPY ", "=1+1", "\u202e", "\ufeff", "\ud7ff", "x" * 300, "x" * 70_000, "9" * 5_000,
    "angry", "train", "\U0001f600", "con",
)  # fmt: skip


def make_table(rng: Random, _: object) -> bytes:
    """Return a table of pictures and labels, or of FER-2013's pixels, with changes; its first byte is the suffix."""
    if rng.random() < 0.5:
        rows = [["path", "label", "split"], *[list(row) for row in _ROWS]]
    else:
        faces = rng.integers(0, 256, (21, 48 * 48))
        pixels = [" ".join(map(str, face.tolist())) for face in faces]
        rows = [["emotion", "pixels", "Usage"]]
        rows += [
            [str(n % 7), text, ("Training", "PublicTest", "Training")[n // 7]]
            for n, text in enumerate(pixels)
        ]
    for _ in range(int(rng.integers(0, 4))):
        row = rows[int(rng.integers(len(rows)))]
        change = rng.integers(4)
        if change == 0 and row:
            row[int(rng.integers(len(row)))] = _CELLS[int(rng.integers(len(_CELLS)))]
        elif change == 1 and row:
            del row[int(rng.integers(len(row)))]
        elif change == 2:
            row.insert(int(rng.integers(len(row) + 1)), _CELLS[int(rng.integers(len(_CELLS)))])
        else:
            rows.insert(int(rng.integers(len(rows))), list(row))
    suffix = int(rng.choice([0, 0, 0, 1, 2, 3]))
    data = bytearray("\n".join(",\t,,"[suffix].join(row) for row in rows).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.4:
        CHANGES[int(rng.integers(len(CHANGES)))](data, rng)
    if suffix == 2 and rng.random() < 0.7:
        import gzip

        data = bytearray(gzip.compress(bytes(data), mtime=0))
        if rng.random() < 0.5 and data:
            CHANGES[int(rng.integers(len(CHANGES)))](data, rng)
    return bytes([suffix]) + bytes(data)


def read_table(content: bytes) -> str:
    from mien.data import open_dataset

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("set" + (".csv", ".tsv", ".csv.gz", ".parquet")[content[0]])
        path.write_bytes(content[1:])
        for number, picture in enumerate(_PNGS):
            (Path(folder) / f"{number}.png").write_bytes(picture)
        data = open_dataset(path)
        assert len(data.classes) > 1
    return "read"


def _small_png(number: int) -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    size = (8).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    levels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in levels))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", size) + part(b"IDAT", pixels) + part(b"IEND", b"")


_PNGS = tuple(map(_small_png, range(len(_ROWS))))


# Model folders ----------------------------------------------------------------------------------------------------


def make_model(rng: Random, _: object) -> bytes:
    """Return the text of a model.json (first byte 0) or a detector.json (1), changed."""
    from mien.detect.mien import SHIPPED as DETECTOR
    from mien.model.folder import shipped_models

    which = int(rng.integers(2))
    source = DETECTOR / "detector.json" if which else shipped_models()["mien"] / "model.json"
    stored = json.loads(source.read_text(encoding="utf-8"))
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        _change_json(stored, rng)
    text = json.dumps(stored)
    text = re.sub(r'"@(\w+)@"', lambda mark: _HUGE[mark[1]], text)
    data = bytearray(text.encode())
    if rng.random() < 0.3:
        CHANGES[int(rng.integers(len(CHANGES)))](data, rng)
    return bytes([which]) + bytes(data)


_HUGE = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "object": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "digits": "9" * 5_000,
    "negative": "-1" + "0" * 4_000,
    "float": "1e999",
    "small": "1e-999",
    "nan": "NaN",
    "infinite": "-Infinity",
}
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 5, 0.5, 1.5, -0.1, 1 << 31, 1 << 70, "", "x", "\0", "\u202e", "x" * 5_000, [], {},
    [[]], [1, 2], ["a", "a"], ["a", 3], {"a": 1}, {"": {}}, [None], *(f"@{name}@" for name in _HUGE),
)  # fmt: skip


def _change_json(stored: Any, rng: Random) -> None:
    """Change one place somewhere in nested lists and objects."""
    here = stored
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        inner = here[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.6:
            here = inner
            continue
        change = rng.random()
        if change < 0.7:
            here[key] = _VALUES[int(rng.integers(len(_VALUES)))]
        elif change < 0.85:
            del here[key]
        elif isinstance(here, dict):
            here[str(key) + "2"] = inner
        else:
            here.append(inner)
        return


def read_model(content: bytes) -> str:
    from mien.detect.mien import SHIPPED as DETECTOR
    from mien.detect.mien import read_detector
    from mien.model.classifier import Classifier
    from mien.model.folder import shipped_models

    source = DETECTOR if content[0] else shipped_models()["mien"]
    with tempfile.TemporaryDirectory() as folder:
        for file in source.iterdir():
            if file.suffix == ".onnx":
                (Path(folder) / file.name).symlink_to(file)
        (Path(folder) / ("detector.json" if content[0] else "model.json")).write_bytes(content[1:])
        if content[0]:
            read_detector(Path(folder)).metadata.to_json()
        else:
            answers = Classifier(Path(folder)).metadata
            answers.to_json()
            assert answers.head().labels
    return "read"


if __name__ == "__main__":
    sys.exit(main())
