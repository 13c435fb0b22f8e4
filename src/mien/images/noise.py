"""Listening to what libjpeg and libpng print: the only way in which they tell that a picture is damaged."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ONE_AT_A_TIME = threading.RLock()
# What the C libraries below OpenCV write to stderr themselves, and OpenCV's own log lines with their
# continuation.
_THEIRS = re.compile(
    r"Corrupt JPEG|Premature end|Invalid SOS|Inconsistent progression|Unsupported (marker|JPEG)"
    r"|Warning: unknown JFIF|Application transferred|Bogus |libpng |\[ ?(WARN|ERROR|INFO)|Huffman"
    r"|JPEG datastream|OpenCV: FFMPEG"
)


@contextmanager
def damage_heard() -> Iterator[list[str]]:
    """Hold back stderr while pictures are decoded; afterwards the list holds what the decoders had to say.

    Works on the file descriptor, because the C libraries write there. Lines of anybody else are passed on
    when the block ends. One block at a time: threads wait for each other, so decode many pictures in one
    block.
    """
    heard: list[str] = []
    with _ONE_AT_A_TIME:
        try:
            kept = os.dup(2)
        except OSError:  # a process without stderr: nothing to hear, nothing to hide
            yield heard
            return
        with tempfile.TemporaryFile() as listener:
            if sys.stderr:
                sys.stderr.flush()
            os.dup2(listener.fileno(), 2)
            try:
                yield heard
            finally:
                if sys.stderr:
                    sys.stderr.flush()
                os.dup2(kept, 2)
                os.close(kept)
                listener.seek(0)
                _sort_lines(listener.read().decode(errors="replace"), heard)


def _sort_lines(text: str, heard: list[str]) -> None:
    theirs = False
    for line in text.splitlines(keepends=True):
        # OpenCV goes on with lines that begin with '>' and ends its messages with an empty line.
        theirs = bool(_THEIRS.search(line)) or (theirs and (line.startswith(">") or not line.strip()))
        if theirs:
            heard.append(line.strip())
        else:
            os.write(2, line.encode())
