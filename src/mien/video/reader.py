"""Frames of a video file with the times at which they are shown, decoded in a thread ahead of their use."""

from __future__ import annotations

import math
import os
import queue
import stat
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.files import address_note, is_utf8, shell_word
from mien.images.kinds import is_sound
from mien.images.listing import no_picture
from mien.video.interlaced import READS_INTERLACED, is_interlaced, same_picture

T = TypeVar("T")
_WAIT_S = 0.05  # how often a waiting thread looks whether it should end
_USUAL_FPS = 30.0  # where a file gives none that can be right
_SLOWEST_FPS, _FASTEST_FPS = 0.1, 1000.0
_STEP_S = 0.001  # between frames to which a file gives the same time
# A clock that falls back or leaps this far has started again: parts that were put one behind the other.
_BACK_S, _LEAP_S = 0.5, 600.0
# A container's length counts its audio as well, which may be a little longer than the pictures.
_CUT_S, _CUT_SHARE = 0.5, 0.02
_HEAD_BYTES = 4096
# Width over height of a pixel: below the first it changes no answer, beyond the others no camera made it.
_SQUARE, _NARROWEST, _WIDEST = 0.02, 0.25, 4.0
LOG_VARIABLE = "OPENCV_FFMPEG_LOGLEVEL"
OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# What FFmpeg may take a file for, and open meanwhile: no playlists (HLS, DASH, concat), which name other files.
ONLY_CONTAINERS = (
    "format_whitelist;mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif,h264,hevc,m4v,mpegvideo,ivf,dv,yuv4mpegpipe,rm"
    "|protocol_whitelist;file"
)


@dataclass(frozen=True)
class Frame:
    """index: from 0. time_s: seconds after the first frame. image: (height, width, 3) uint8, RGB, upright."""

    index: int
    time_s: float
    image: NDArray[np.uint8] = field(repr=False, compare=False)


class Video:
    """A video file that can be read once, from its beginning.

    size_px: (width, height), upright and with square pixels: a rotation and a shape of the pixels that the file asks
    for are applied, as players do. fps: the average frame rate that the file gives, or 30. length_s: what its header
    says; None where it says nothing. problem: empty, or after the last frame one line about what is missing.
    """

    def __init__(self, path: Path, capture: cv2.VideoCapture, source: IO[bytes]) -> None:
        """source: the bytes that `capture` reads."""
        self.path = path
        self.problem = ""
        self._capture = capture
        self._source = source
        self._before: NDArray[np.uint8] | None = None
        self._may_be_interlaced = not READS_INTERLACED
        self._pixel_scale = square_pixel_scale(capture)
        self.size_px = (
            round(capture.get(cv2.CAP_PROP_FRAME_WIDTH) * self._pixel_scale[0]),
            round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT) * self._pixel_scale[1]),
        )
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if _SLOWEST_FPS <= fps <= _FASTEST_FPS else _USUAL_FPS
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.length_s = frames / self.fps if math.isfinite(frames) and frames > 0 else None

    def frames(self) -> Iterator[Frame]:
        """Yield every frame in order; ImageError when there is none."""
        clock = Clock(1 / self.fps)
        begin_s = 0.0
        for stamp_s in self.stamps():
            if (image := self.image()) is None:
                break
            if not clock.frames:
                begin_s = self.begin_s()
            yield Frame(clock.frames, clock.read(stamp_s), image)
        self.problem = missing(self.path, self.fps, self.length_s, clock, begin_s)

    def stamps(self, begin_s: float | None = None) -> Iterator[float]:
        """Go from frame to frame and yield the time that the file gives each, in seconds; `image` decodes it.

        begin_s: where to begin, the time of a frame from which a decoder can begin; None: at the front. There frames
        may come that are shown before it.
        """
        if begin_s is not None:
            self._capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * begin_s)
        while self._capture.grab():
            yield self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def image(self) -> NDArray[np.uint8] | None:
        """Return the frame at which `stamps` is, RGB; None where it cannot be decoded.

        ImageError where OpenCV says that it has a frame and has none.
        """
        done, bgr = self._capture.retrieve()
        if not done:
            return None
        image = self._rgb(bgr)
        if self._may_be_interlaced:
            if self._before is not None and same_picture(self._before, image):
                self._refuse_interlaced()
            self._before = image
        return image

    def at(self, time_s: float) -> NDArray[np.uint8]:
        """Return the frame nearest to a time, which counts from the first frame as `Frame.time_s` does; RGB.

        Seeks, so it serves those who want one frame. Raises ImageError when there is none.
        """
        begin_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC) if self._capture.grab() else 0.0
        self._capture.set(cv2.CAP_PROP_POS_MSEC, begin_ms + 1000 * time_s)
        found, bgr = self._capture.read()
        if not found:
            raise ImageError(f"{self.path} has no frame at {time_s:.1f} s that can be decoded")
        return self._rgb(bgr)

    def begin_s(self) -> float:
        """Return when the first frame, just read, is shown. Matroska's length counts from 0, not from there."""
        begin_s = self._capture.get(cv2.CAP_PROP_PTS) / self.fps
        return max(0.0, begin_s) if math.isfinite(begin_s) else 0.0

    def _rgb(self, bgr: NDArray[Any]) -> NDArray[np.uint8]:
        """Return what OpenCV decoded as RGB with square pixels."""
        image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        if self._pixel_scale != (1.0, 1.0):
            across, down = self._pixel_scale
            image = cv2.resize(image, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
        return np.asarray(image, np.uint8)

    def _refuse_interlaced(self) -> None:
        """Find out, at the first frame equal to the one before it, whether FFmpeg decodes them; ImageError."""
        self._may_be_interlaced, self._before = False, None
        at_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        environment = {OPTIONS_VARIABLE: ONLY_CONTAINERS, **os.environ}
        # Errors are told by default, and with no number that it may be set to.
        environment.pop(LOG_VARIABLE, None)
        if is_interlaced(self.path, self._source, at_s, environment):
            raise ImageError(
                f"{self.path} is interlaced, and OpenCV {cv2.__version__} cannot read such a video; convert it first: "
                f"ffmpeg -i {shell_word(self.path)} -vf yadif converted.mp4"
            )


def square_pixel_scale(capture: cv2.VideoCapture) -> tuple[float, float]:
    """Return by what width and height of a decoded frame are multiplied to make its pixels square; none shrinks."""
    over, under = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    shape = over / under if over > 0 and under > 0 else 1.0
    # OpenCV has turned the frame, and not the shape of its pixels.
    if round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180:
        shape = 1 / shape
    if not _NARROWEST <= shape <= _WIDEST or abs(shape - 1) < _SQUARE:
        return 1.0, 1.0
    return (shape, 1.0) if shape > 1 else (1.0, 1 / shape)


def missing(path: Path, fps: float, length_s: float | None, clock: Clock, begin_s: float) -> str:
    """Say in one line what a video lacks that has been read to its end; '' for nothing. ImageError without a frame."""
    if not clock.frames:
        raise ImageError(f"{path} holds no frame that can be decoded; is it a whole video file?")
    end_s = clock.time_s + 1 / fps
    if length_s is None or begin_s + end_s >= length_s * (1 - _CUT_SHARE) - _CUT_S:
        return ""
    return (
        f"{path} ends after {end_s:.1f} of {length_s:.1f} seconds: it is cut off or damaged; what is "
        "there is done"
    )


@contextmanager
def open_video(path: Path, stream: IO[bytes] | None = None) -> Iterator[Video]:
    """Open a video file of any kind that OpenCV's FFmpeg decodes; its name's ending does not matter.

    stream: its bytes, an `io.BufferedIOBase` that can seek, where they are no file of this machine. Raises ImageError,
    in one line, for what is no file or no video.
    """
    with opened(path, stream) as capture:
        if not capture.isOpened():
            if stream is None and no_picture(path) == "":
                raise ImageError(
                    f"{path} is named or made like a picture; it is for mien predict, or for Photo on the page"
                )
            with path.open("rb") if stream is None else nullcontext(stream) as file:
                sound = is_sound(file)
            if sound:
                raise ImageError(f"{path} holds sound and no picture; name a video file")
            raise ImageError(
                f"{path} is not a video that can be decoded; is it a whole one? ffmpeg converts most kinds: "
                f"ffmpeg -i {shell_word(path)} converted.mp4"
            )
        with nullcontext(stream) if stream is not None else path.open("rb") as source:
            yield Video(path, capture, source)


@contextmanager
def opened(path: Path, stream: IO[bytes] | None, *, packets: bool = False) -> Iterator[cv2.VideoCapture]:
    """Open a file with OpenCV. packets: it goes from packet to packet, undecoded. ImageError for what is no video."""
    options = [cv2.CAP_PROP_FORMAT, -1] if packets else []
    with ExitStack() as stack:
        if stream is None:
            _check(path)
            if not is_utf8(path.resolve()):
                stream = stack.enter_context(path.open("rb"))
        else:
            stream.seek(0)
            _check_head(path, stream.read(_HEAD_BYTES))
            stream.seek(0)
        with silenced():
            # FFmpeg by name: other backends give the time of the next frame, or none.
            source: Any = str(path.resolve()) if stream is None else stream
            capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)
        stack.callback(capture.release)
        yield capture


class Clock:
    """Times that always grow, made of a container's timestamps.

    OpenCV gives 0 for a frame without a timestamp (raw streams have none at all): it is counted on by the frame rate.
    A clock that starts again is carried on. Small steps back, from rounding to milliseconds, are held.
    """

    def __init__(self, step_s: float) -> None:
        self.frames = 0
        self.time_s = 0.0
        self._step_s = step_s
        self._shift_s = 0.0

    def read(self, stamp_s: float) -> float:
        following = self.time_s + self._step_s
        shown = stamp_s + self._shift_s
        if self.frames == 0:
            self._shift_s = -stamp_s
            shown = 0.0
        elif stamp_s <= 0 or not math.isfinite(stamp_s):
            shown = following
        elif shown < self.time_s - _BACK_S or shown > self.time_s + _LEAP_S:
            self._shift_s = following - stamp_s
            shown = following
        elif shown <= self.time_s:
            shown = self.time_s + _STEP_S
        self.frames += 1
        self.time_s = shown
        return shown


def _check(path: Path) -> None:
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name one video file")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # would be waited for, perhaps for ever
            raise ImageError(
                f"{path} is a pipe, socket or device, in which a video cannot be searched; save it as a file first "
                "(a camera: mien live)"
            )
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        note = address_note(path) or f"cannot read {path}: {error.strerror}; name a video file"
        raise ImageError(note) from error
    _check_head(path, head)


def _check_head(path: Path, head: bytes) -> None:
    if not head:
        raise ImageError(f"{path} is empty (0 bytes); name a video file")
    # FFmpeg would draw a text as a film of letters, or follow a playlist to wherever it leads.
    if b"\0" not in head and _is_text(head):
        raise ImageError(f"{path} is a text, not a video; name a video file")


def _is_text(head: bytes) -> bool:
    try:
        head[: len(head) - 3].decode("utf-8")  # a letter of up to four bytes may be cut at the end
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 6
    return True


def prefetch(items: Iterable[T], size: int) -> Generator[T]:
    """Yield `items`, which a thread produces up to `size` in advance; what it raises is raised here.

    Closing the generator ends the thread before it returns.
    """
    ready: queue.Queue[T | BaseException | None] = queue.Queue(size)
    ended = threading.Event()

    def put(item: T | BaseException | None) -> None:
        while not ended.is_set():
            try:
                return ready.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if ended.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again where the items are used
            put(error)

    thread = threading.Thread(target=produce, name="mien-read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        thread.join()


@contextmanager
def silenced() -> Iterator[None]:
    """Keep OpenCV from warning of what becomes an error of ours."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def configure_ffmpeg() -> None:
    """Set OpenCV's FFmpeg up before its first use in this process: quiet, and for nothing but videos. For commands."""
    os.environ.setdefault(OPTIONS_VARIABLE, ONLY_CONTAINERS)
    os.environ.setdefault(LOG_VARIABLE, "-8")  # AV_LOG_QUIET
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
