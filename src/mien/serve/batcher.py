"""Pictures of many clients, gathered into batches: decoded and searched in threads, few calls of the network."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images import decode_each
from mien.images.headers import read_header
from mien.predict.analyzer import Analyzer
from mien.predict.results import Face
from mien.serve.config import MEGA, ServeConfig
from mien.serve.problems import Busy
from mien.video.analyze import detect_resized
from mien.workers import workers


@dataclass(frozen=True)
class Picture:
    """A picture file that was not decoded yet; see `picture`. search_px: see VideoSettings; None: as `analyze` does."""

    data: bytes = field(repr=False)
    name: str
    pixels: int
    search_px: int | None = None


@dataclass(frozen=True)
class Seen:
    """width and height in pixels, upright. faces: the largest first."""

    width: int
    height: int
    faces: tuple[Face, ...]


Answer = Seen | ImageError


class BatchMetrics(Protocol):
    """Hears of every batch: how many pictures, and how many wait still."""

    def batch(self, pictures: int, waiting: int) -> None: ...


def picture(data: bytes, name: str, max_pixels: int, search_px: int | None = None) -> Picture:
    """Look at a picture's header. Raises ImageError for what is none, or has more pixels than are allowed."""
    header = read_header(data, name)
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise ImageError(
            f"{name} has {header.width}x{header.height} pixels, more than the {max_pixels / MEGA:g} megapixels that "
            "this server takes; make it smaller first"
        )
    return Picture(data, name, pixels, search_px)


class Batcher:
    """Answers pictures with the numbers of `Analyzer.analyze`. Safe to use from several threads.

    While a batch is being searched the next one is gathered, so batches grow with the load by themselves and an idle
    server answers at once. At most two batches are in memory, each of at most `max_megapixels` or one picture.
    """

    def __init__(self, analyzer: Analyzer, config: ServeConfig, metrics: BatchMetrics) -> None:
        self._analyzer, self._config, self._metrics = analyzer, config, metrics
        self._threads = min(workers(), config.batch)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mien-batcher")
        self._waiting: deque[tuple[Picture, Future[Answer]]] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._coordinator = threading.Thread(target=self._run, name="mien-batches", daemon=True)
        self._coordinator.start()

    def submit(self, pictures: Sequence[Picture]) -> list[Future[Answer]]:
        """Queue pictures and return what will hold their answers; cancel one to give it up.

        Raises Busy where not all of them have room.
        """
        futures: list[Future[Answer]] = [Future() for _ in pictures]
        with self._news:
            if self._closed or len(self._waiting) + len(pictures) > self._config.queue:
                raise Busy(f"{len(self._waiting)} pictures are waiting already")
            self._waiting.extend(zip(pictures, futures, strict=True))
            self._news.notify()
        return futures

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Answer what is queued and end the threads."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._coordinator.join()
        self._pool.shutdown()

    def _run(self) -> None:
        before: list[Future[None]] = []
        while group := self._gather(before):
            if self._config.batch == 1:
                wait(before)
            begun = self._begin(group)
            wait(before)
            before = begun

    def _gather(self, before: list[Future[None]]) -> list[tuple[Picture, Future[Answer]]]:
        """Wait for pictures and take a batch of them; none only once the engine is closed."""
        with self._news:
            while True:
                self._news.wait_for(lambda: self._waiting or self._closed)
                self._wait_for_more(before)
                if (group := self._taken()) or self._closed:
                    return group

    def _wait_for_more(self, before: list[Future[None]]) -> None:
        """Give a batch a few milliseconds to fill, unless nothing else is being done."""
        ends = time.monotonic() + self._config.batch_wait_ms / 1000
        while (
            0 < len(self._waiting) < self._config.batch
            and not all(part.done() for part in before)
            and (left_s := ends - time.monotonic()) > 0
        ):
            self._news.wait(left_s)

    def _taken(self) -> list[tuple[Picture, Future[Answer]]]:
        group: list[tuple[Picture, Future[Answer]]] = []
        room = self._config.max_pixels
        while self._waiting and len(group) < self._config.batch:
            picture, future = self._waiting[0]
            if group and picture.pixels > room:
                break
            self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                group.append((picture, future))
                room -= picture.pixels
        if group:
            self._metrics.batch(len(group), len(self._waiting))
        return group

    def _begin(self, group: list[tuple[Picture, Future[Answer]]]) -> list[Future[None]]:
        """Decode a batch and hand it to the threads, which alone keep it then."""
        try:
            images = decode_each([(picture.data, picture.name) for picture, _ in group], self._pool)
        except BaseException as error:  # a bug or no memory: the clients must not wait for ever
            for _, future in group:
                future.set_exception(error)
            return []
        work: list[_Work] = []
        for (picture, future), image in zip(group, images, strict=True):
            if isinstance(image, ImageError):
                future.set_result(image)
            else:
                work.append((image.pixels, picture.search_px, future))
        step = max(1, -(-len(work) // self._threads))
        return [self._pool.submit(self._answer, work[at : at + step]) for at in range(0, len(work), step)]

    def _answer(self, work: list[_Work]) -> None:
        """Search some pictures, and name the expressions of all their faces with one call of the network."""
        images = [image for image, _, _ in work]
        try:
            detector = self._analyzer.detector
            found = [
                self._analyzer.detect(image) if px is None else detect_resized(image, detector, px)
                for image, px, _ in work
            ]
            answers = self._analyzer.classify_faces(images, found)
        except BaseException as error:
            for _, _, future in work:
                future.set_exception(error)
            return
        for (image, _, future), faces in zip(work, answers, strict=True):
            future.set_result(Seen(image.shape[1], image.shape[0], faces))


_Work = tuple[NDArray[np.uint8], int | None, Future[Answer]]
