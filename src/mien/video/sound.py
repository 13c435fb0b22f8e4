"""Putting the sound of the original under the marked video, with ffmpeg."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mien.video.encoding import prove_whole

_QUIET = ("-v", "error", "-nostdin", "-y")


def add_sound(program: str, pictures: Path, original: Path, result: Path, length_s: float) -> str:
    """Write `result`: the pictures as they are, and the sound of the original, in step with its first frame.

    length_s: where the sound ends as well, because the pictures may have been stopped early. Returns an empty string,
    or what ffmpeg said when it failed; a file without sound is no failure, the result has none then.
    """
    said = _run(
        program,
        *(
            "-i",
            f"file:{pictures}",
            "-ss",
            f"{_first_frame_s(program, original):.6f}",
            "-i",
            f"file:{original}",
        ),
        *("-map", "0:v:0", "-map", "1:a?", "-c:v", "copy", "-c:a", "aac", "-b:a", "160k", "-sn", "-dn"),
        *("-t", f"{length_s:.6f}", "-movflags", "+faststart", f"file:{result}"),
    )[1]
    if not said:
        try:
            prove_whole(result)
        except OSError as error:
            return str(error.strerror or error)
    return said


def _first_frame_s(program: str, original: Path) -> float:
    """Return how long after the beginning of the file (where sound may begin) its first frame is shown."""
    said = _run(
        program,
        *("-i", f"file:{original}", "-map", "0:v:0", "-c", "copy", "-frames:v", "1", "-f", "framecrc", "-"),
    )[0]
    base = re.search(r"^#tb 0: (\d+)/(\d+)", said, re.M)
    packet = re.search(r"^0, *-?\d+, *(-?\d+),", said, re.M)
    if not base or not packet:
        return 0.0
    return max(0.0, int(packet[1]) * int(base[1]) / int(base[2]))


def _run(program: str, *words: str) -> tuple[str, str]:
    done = subprocess.run([program, *_QUIET, *words], capture_output=True, check=False)
    said = done.stderr.decode(errors="replace").strip()
    return done.stdout.decode(errors="replace"), "" if done.returncode == 0 else said or "ffmpeg failed"
