"""Pictures of many clients: decoded in processes, searched in threads, gathered for few calls of the network."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, ModelError
from mien.images.decode import workers
from mien.predict.analyzer import Analyzer
from mien.predict.results import Face
from mien.serve.config import ServeConfig
from mien.serve.decoder import Decoder
from mien.serve.fair_queue import Entry, FairQueue, Picture
from mien.serve.problems import Busy
from mien.video.analyze import detect_in_frame

_STUCK_S = 30.0  # beyond the time limit of a request: whatever a thread does then, it is not going to end


@dataclass(frozen=True)
class Seen:
    """width and height in pixels, upright. faces: the largest first. warning: what is odd about the file, or ''.

    coarse: as of `Faces`.
    """

    width: int
    height: int
    faces: tuple[Face, ...]
    warning: str = ""
    coarse: bool = False


Answer = Seen | ImageError
_Decoded = tuple[Entry[Answer], NDArray[np.uint8], str]  # and what is odd about the file


class BatchMetrics(Protocol):
    """Hears of every batch: how many pictures, and how many wait still."""

    def batch(self, pictures: int, waiting: int) -> None: ...


class Batcher:
    """Answers pictures with the numbers of `Analyzer.analyze`. Safe to use from several threads.

    Each decoder takes the picture whose turn it is (see FairQueue); one of them never takes what is dear to decode, so
    that cheap pictures always get through. While threads search what is decoded, more gathers: batches grow with the
    load by themselves, and an idle server answers at once. Decoded pictures have at most twice `max_megapixels`.
    """

    def __init__(self, analyzer: Analyzer, config: ServeConfig, metrics: BatchMetrics) -> None:
        self._analyzer, self._config, self._metrics = analyzer, config, metrics
        self._decoders = [Decoder(config.max_pixels) for _ in range(max(2, -(-workers() // config.workers)))]
        self._queue: FairQueue[Answer] = FairQueue(config, len(self._decoders))
        self._decoded: deque[_Decoded] = deque()
        self._decoding = self._dear = 0  # pictures; those of them that are dear
        self._pixels = 0  # of what is being decoded, is decoded, or is being searched
        self._searching: dict[int, float] = {}  # thread -> since when
        self._closed = False
        lock = threading.RLock()
        self._to_decode, self._to_search = threading.Condition(lock), threading.Condition(lock)
        self._searchers = min(workers(), config.batch)
        self._threads = [
            threading.Thread(target=self._decode, args=(decoder,), name="mien-decode", daemon=True)
            for decoder in self._decoders
        ]
        self._threads += [
            threading.Thread(target=self._search, name="mien-search", daemon=True)
            for _ in range(self._searchers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, pictures: Sequence[Picture], address: Hashable = None) -> list[Future[Answer]]:
        """Queue the pictures of one request and return what will hold their answers; cancel one to give it up.

        address: of the client. Raises Busy or ApiError where not all of them have room, or would wait too long.
        """
        with self._to_decode:
            if self._closed:
                raise Busy("this server is going down")
            futures = self._queue.add(pictures, address, already=self._decoding + len(self._decoded))
            self._to_decode.notify(len(futures))
            return futures

    def warm_up(self, picture: Picture, limit_s: float) -> None:
        """Give each decoder and the network something to do, so that the first client need not wait for their start.

        Raises what answering the picture raises, ModelError where there is no answer within limit_s seconds.
        """
        count = min(len(self._decoders), self._config.queue)
        futures = [future for _ in range(count) for future in self.submit([picture])]
        if wait(futures, limit_s).not_done:
            raise ModelError(
                f"the network has not answered a first picture after {limit_s:g} seconds; try another"
            )
        for future in futures:
            if isinstance(answer := future.result(), ImageError):
                raise answer

    @property
    def waiting(self) -> int:
        return len(self._queue) + self._decoding + len(self._decoded)

    @property
    def works(self) -> bool:
        """Whether all threads live and none has hung itself up."""
        latest = time.monotonic() - self._config.timeout_s - _STUCK_S
        alive = all(thread.is_alive() for thread in self._threads)
        return alive and all(since > latest for since in list(self._searching.values()))

    def close(self, patience_s: float = 5.0) -> bool:
        """Answer what is queued and end threads and processes; False where a thread is still at work by then."""
        with self._to_decode:
            self._closed = True
            self._to_decode.notify_all()
            self._to_search.notify_all()
        ends = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        for decoder in self._decoders:
            decoder.close()
        return not any(thread.is_alive() for thread in self._threads)

    def _decode(self, decoder: Decoder) -> None:
        """Decode pictures until the batcher is closed."""
        while entry := self._taken():
            picture = entry.picture
            try:
                limit_s = min(picture.limit_s, self._config.decode_s)
                image, seconds = decoder.decode(picture.data, picture.name, limit_s)
            except BaseException as error:  # a bug: the client must not wait for ever, the thread lives on
                image, seconds = ImageError(f"{picture.name} was not decoded"), 0.0
                entry.future.set_exception(error)
            with self._to_decode:
                self._queue.charge(entry, seconds)
                self._decoding -= 1
                self._dear -= picture.is_dear
                if isinstance(image, ImageError):
                    self._pixels -= picture.pixels
                else:
                    self._decoded.append((entry, image, decoder.warning))
                    self._to_search.notify()
                self._to_decode.notify()
            if isinstance(image, ImageError) and not entry.future.done():
                entry.future.set_result(image)

    def _taken(self) -> Entry[Answer] | None:
        """Wait for a picture and take it; None once the batcher is closed and empty."""
        with self._to_decode:
            while True:
                room = 2 * self._config.max_pixels - self._pixels if self._pixels else float("inf")
                if len(self._decoded) < self._config.batch and (
                    entry := self._queue.take(room, dear=self._dear < len(self._decoders) - 1)
                ):
                    if entry.future.set_running_or_notify_cancel():
                        self._decoding += 1
                        self._dear += entry.picture.is_dear
                        self._pixels += entry.picture.pixels
                        return entry
                elif self._closed and not len(self._queue):
                    self._to_search.notify_all()
                    return None
                else:
                    self._to_decode.wait()

    def _search(self) -> None:
        """Search what is decoded until the batcher is closed."""
        me = threading.get_ident()
        while batch := self._gathered():
            self._searching[me] = time.monotonic()
            self._answer(batch)
            del self._searching[me]
            with self._to_decode:
                self._pixels -= sum(entry.picture.pixels for entry, *_ in batch)
                self._to_decode.notify_all()
            batch.clear()  # or the last one stays in memory until the next comes

    def _gathered(self) -> list[_Decoded]:
        """Wait for decoded pictures and take a share of them; none once the batcher is closed and empty."""
        with self._to_search:
            while True:
                self._wait_for_more()
                if self._decoded:
                    break
                if self._closed and not len(self._queue) and not self._pixels:
                    return []
                self._to_search.wait(0.1 if self._closed else None)
            idle = self._searchers - len(self._searching)
            count = min(self._config.batch, -(-len(self._decoded) // max(1, idle)))
            batch = [self._decoded.popleft() for _ in range(min(count, len(self._decoded)))]
            self._metrics.batch(len(batch), self.waiting)
            self._to_decode.notify_all()
            return batch

    def _wait_for_more(self) -> None:
        """Give a batch a few milliseconds to fill, unless nothing else is being done."""
        ends = time.monotonic() + self._config.batch_wait_ms / 1000
        while (
            0 < len(self._decoded) < self._config.batch
            and (self._searching or self._decoding)
            and (left_s := ends - time.monotonic()) > 0
        ):
            self._to_search.wait(left_s)

    def _answer(self, batch: Sequence[_Decoded]) -> None:
        """Find the faces in some pictures, and name all their expressions with one call of the network."""
        images = [image for _, image, _ in batch]
        try:
            found = [
                self._analyzer.detect(image)
                if (px := entry.picture.detect_size) is None
                else detect_in_frame(image, self._analyzer, px)
                for entry, image, _ in batch
            ]
            answers = self._analyzer.classify_faces(images, found)
        except BaseException as error:  # a bug or no memory: the clients must not wait for ever
            for entry, *_ in batch:
                entry.future.set_exception(error)
            return
        for (entry, image, warning), faces in zip(batch, answers, strict=True):
            coarse = self._analyzer.search.coarse(self._analyzer.detector, image)
            entry.future.set_result(Seen(image.shape[1], image.shape[0], faces, warning, coarse))
