"""Decoding in processes of its own, each with a limit of memory and of time: a hostile picture costs one of them.

Run as a module, this is such a process. It reads requests from its standard input and answers on its standard output,
both as JSON with its length before it and the bytes of a picture behind it. No pickles: what comes out of a decoder
that was taken over must not run here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images import decode

# What decoding may need for each pixel of the largest picture: 16 bits a channel, transparent, and copies on the way.
_BYTES_PER_PIXEL, _MORE_BYTES = 48, 256_000_000
# On the clock, for each second of processor time and beyond: others want the processor too.
_WALL, _WALL_S = 10, 10.0
_RESTART_S = 0.5  # of processor time, about
_LENGTH = struct.Struct(">I")
_PIPE_BYTES = 1 << 20


class Decoder:
    """One process that decodes, started anew where it had to be ended. `decode` from one thread, `close` from any.

    warning: what is odd about the last picture though it was decoded, '' where nothing is.
    max_pixels: of the largest picture, from which the limit of memory follows, whatever a header claims.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._lock, self._busy = threading.Lock(), threading.Lock()
        self._closed = False
        self.warning = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def decode(self, data: bytes, name: str, limit_s: float) -> tuple[NDArray[np.uint8] | ImageError, float]:
        """Return what `mien.images.decode_image` returns or raises, and the seconds of processor time that it took.

        limit_s: after so much processor time the process is ended; an ImageError says so, as it does where the picture
        needs more memory than there may be, or brings the decoder down.
        """
        what = "brings the decoder down"
        with self._busy:
            # The process may have died while it was idle: the second time the picture is to blame.
            for _ in range(2):
                if self._process is None:
                    self._start()
                if self._process is None:
                    return ImageError(f"{name} was not decoded: the server is going down"), 0.0
                try:
                    image, seconds, self.warning = _asked(self._process, data, name, limit_s)
                    return image, seconds
                except (OSError, EOFError, TimeoutError) as error:
                    code = self._end(self._process)
                    if isinstance(error, TimeoutError) or code == -getattr(signal, "SIGPROF", 0):
                        what = f"takes more than {limit_s:.1f} seconds to decode"
                        break
        return ImageError(f"{name} {what}; open it and save it anew"), limit_s + _RESTART_S

    def close(self) -> None:
        """End the process, also while it decodes."""
        with self._lock:
            self._closed = True
            process = self._process
        if process:
            process.kill()
            with self._busy:
                if self._process:
                    self._end(process)

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._max_pixels)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what libraries print about a client's picture is no news
                bufsize=0,
                start_new_session=True,  # Ctrl-C in a terminal is for the server
            )
        if sys.platform == "linux":
            import fcntl

            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(OSError):  # the user has many pipes already; a small one does as well
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """Return how the process ended: negative for a signal."""
        self._process = None
        with suppress(subprocess.TimeoutExpired):  # let what made it stop be seen
            process.wait(0.5)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return process.wait()


def _asked(
    process: subprocess.Popen[bytes], data: bytes, name: str, limit_s: float
) -> tuple[NDArray[np.uint8] | ImageError, float, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    _write(process.stdin, {"name": name, "limit_s": limit_s, "bytes": len(data)}, data)
    if sys.platform != "win32":  # a backstop; the process is ended by the system before that
        answers = select.poll()
        answers.register(process.stdout, select.POLLIN)
        if not answers.poll(1000 * (_WALL * limit_s + _WALL_S)):
            raise TimeoutError
    answer = _read(process.stdout)
    if "error" in answer:
        return ImageError(answer["error"]), answer["seconds"], ""
    image = np.empty(answer["shape"], np.uint8)
    _fill(process.stdout, image.reshape(-1).data)
    return image, answer["seconds"], answer["warning"]


def _serve(max_pixels: int) -> None:
    """Answer requests until there are no more; runs in the other process."""
    # Comes to all of a service; the server says when this one ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(OSError):  # where memory is short, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit_memory(_BYTES_PER_PIXEL * max_pixels + _MORE_BYTES)
    while True:
        try:
            request = _read(requests)
            data = bytearray(request["bytes"])
            _fill(requests, memoryview(data))
        except EOFError:
            return
        answer: dict[str, Any]
        pixels: bytes | memoryview = b""
        begun = time.process_time()
        _limit_time(request["limit_s"])
        try:
            decoded = decode(bytes(data), request["name"])
            image = np.ascontiguousarray(decoded.pixels)
            answer, pixels = {"shape": image.shape, "warning": decoded.warning}, image.reshape(-1).data
        except ImageError as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": f"{request['name']} needs too much memory to decode; make it smaller first"}
        _limit_time(0)
        _write(answers, {**answer, "seconds": time.process_time() - begun}, pixels)


def _limit_memory(more_bytes: int) -> None:
    """Let this process take so much more than it has; systems other than Linux do not limit it."""
    if sys.platform == "linux":
        import resource

        has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        with suppress(ValueError):  # the limit that there is is lower
            resource.setrlimit(resource.RLIMIT_AS, (has + more_bytes, hard))


def _limit_time(seconds: float) -> None:
    """Have the system end this process after so much processor time from now on; 0: not at all."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)  # nobody handles SIGPROF, so it ends the process


def _write(pipe: Any, message: dict[str, Any], data: bytes | memoryview) -> None:
    head = json.dumps(message).encode()
    for part in (_LENGTH.pack(len(head)) + head, data):
        left = memoryview(part)
        while left:
            left = left[pipe.write(left) :]


def _read(pipe: Any) -> dict[str, Any]:
    length = bytearray(_LENGTH.size)
    _fill(pipe, memoryview(length))
    head = bytearray(_LENGTH.unpack(length)[0])
    _fill(pipe, memoryview(head))
    message: dict[str, Any] = json.loads(head)
    return message


def _fill(pipe: Any, target: memoryview) -> None:
    """Read until the target is full. Raises EOFError where the other side is gone."""
    while target:
        if not (count := pipe.readinto(target)):
            raise EOFError
        target = target[count:]


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
