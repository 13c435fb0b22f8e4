"""Pictures that wait for the decoder: clients take turns by what their pictures cost, and too much is refused at once.

The turns are start-time fair queueing (Goyal, Vin and Cheng, 1996): next is who has had least processor time so far,
and who was idle saves nothing up. They are taken twice: between the addresses of clients, then between the requests of
one address, so that a request with cheap pictures overtakes one with dear ones even where both come from one proxy.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mien.errors import ImageError
from mien.images.headers import read_header
from mien.serve.config import MEGA, ServeConfig
from mien.serve.problems import ApiError, Busy
from mien.terminal import counted

# Processor seconds on the machine that this was written on, roughly: they order pictures and bound what is begun.
_SEARCH_S = 0.03  # finding the faces of a picture and naming their expressions
_PER_MEGABYTE_S = 0.015
_PER_MEGAPIXEL_S = {"JPEG": 0.012, "PNG": 0.01}  # PNG: for each channel of eight bits
_OTHER_S = 0.03
_PER_SCAN_S = 0.0018  # of a JPEG, for each megapixel
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_DEAR_S = 0.25
_SLACK, _SLACK_S = 8, 0.25  # how much longer than estimated decoding may take

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A picture file that was not decoded yet; see `picture`. detect_size: see VideoSettings; None: as `analyze` does.

    decode_s: processor time that decoding takes, by a look at the header.
    """

    data: bytes = field(repr=False)
    name: str
    pixels: int
    decode_s: float
    detect_size: int | None = None

    @property
    def cost_s(self) -> float:
        return self.decode_s + _SEARCH_S

    @property
    def is_dear(self) -> bool:
        return self.decode_s > _DEAR_S

    @property
    def limit_s(self) -> float:
        """Processor time after which decoding is given up."""
        return _SLACK * self.decode_s + _SLACK_S


def picture(data: bytes, name: str, config: ServeConfig, detect_size: int | None = None) -> Picture:
    """Look at a picture's header. Raises ImageError for what is no picture, too large or too laborious."""
    header = read_header(data, name)
    pixels = header.width * header.height
    if pixels > config.max_pixels:
        raise ImageError(
            f"{name} has {header.width}x{header.height} pixels, more than the {config.max_pixels / MEGA:g} megapixels "
            "that this server takes; make it smaller first"
        )
    decode_s = _estimate(data, header.kind, pixels / MEGA)
    if decode_s > config.decode_s:
        raise ImageError(
            f"{name} would take about {decode_s:.0f} seconds to decode, more than the {config.decode_s:g} that this "
            "server gives; open it and save it anew"
        )
    return Picture(data, name, pixels, decode_s, detect_size)


def _estimate(data: bytes, kind: str, megapixels: float) -> float:
    seconds = _PER_MEGAPIXEL_S.get(kind, _OTHER_S) * megapixels
    if kind == "JPEG":  # inside compressed data these two bytes do not occur
        seconds += _PER_SCAN_S * megapixels * data.count(b"\xff\xda")
    elif kind == "PNG":
        depth, colour = data[24], data[25]  # of the IHDR, which is the first part of every PNG
        seconds *= _PNG_CHANNELS.get(colour, 4) * max(depth, 8) / 8
    return seconds + _PER_MEGABYTE_S * len(data) / MEGA


@dataclass(eq=False)
class Entry(Generic[T]):
    """A picture with what will hold its answer. address: of the client. request: of those that came together."""

    picture: Picture
    future: Future[T]
    address: Hashable
    request: int


class FairQueue(Generic[T]):
    """Not safe for threads: the caller holds a lock. workers: how many decode at the same time."""

    def __init__(self, config: ServeConfig, workers: int) -> None:
        self._config, self._workers = config, workers
        self._addresses: dict[Hashable, _Address[T]] = {}
        self._turns: _Turns[Hashable] = _Turns()
        self._requests = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pictures: Sequence[Picture], address: Hashable, already: int = 0) -> list[Future[T]]:
        """Queue the pictures of one request, all or none.

        already: pictures that wait elsewhere and count too. Raises Busy where there is no room or they would wait too
        long, ApiError where they would take too long even alone.
        """
        self._admit(pictures, address, already)
        self._requests += 1
        entries = [Entry[T](one, Future(), address, self._requests) for one in pictures]
        if entries:
            if address not in self._addresses:
                self._addresses[address] = _Address()
                self._turns.enter(address, self._addresses)
            self._addresses[address].add(entries)
            self._count += len(entries)
        return [entry.future for entry in entries]

    def take(self, room_pixels: float, *, dear: bool) -> Entry[T] | None:
        """Return the next picture; None where there is none, or not enough room for it.

        room_pixels: how many it may have. dear: whether it may be one that takes long to decode.
        """
        found = self._next(dear=dear)
        if found is None or found.picture.pixels > room_pixels:
            return None
        self._addresses[found.address].remove(found)
        self._turns.took(found.address, found.picture.cost_s)
        if not self._addresses[found.address].count:
            del self._addresses[found.address]
        self._count -= 1
        return found

    def charge(self, entry: Entry[T], decode_s: float) -> None:
        """Correct what a client has had by what decoding its picture has taken."""
        more_s = decode_s - entry.picture.decode_s
        self._turns.correct(entry.address, more_s)
        if entry.address in self._addresses:
            self._addresses[entry.address].turns.correct(entry.request, more_s)

    def _admit(self, pictures: Sequence[Picture], address: Hashable, already: int) -> None:
        config, own = self._config, self._addresses.get(address)
        if self._count + already + len(pictures) > config.queue:
            raise Busy(f"{counted(self._count + already, 'picture is', 'pictures are')} waiting already")
        if own and own.count + len(pictures) > max(config.queue // 2, config.max_pictures):
            raise Busy(
                f"{counted(own.count, 'picture of yours is', 'pictures of yours are')} waiting already"
            )
        cost_s = sum(one.cost_s for one in pictures)
        if cost_s / self._workers > config.timeout_s:
            raise ApiError(
                f"these pictures would take about {cost_s / self._workers:.0f} seconds, more than the "
                f"{config.timeout_s:g} that this server gives; send fewer at a time",
                413,
            )
        clients = len(self._addresses) + (own is None)
        wait_s = ((own.cost_s if own else 0.0) + cost_s) * clients / self._workers
        if own and wait_s > config.timeout_s:
            raise Busy(
                f"your pictures would have to wait about {wait_s:.0f} seconds", wait_s - config.timeout_s
            )

    def _next(self, *, dear: bool) -> Entry[T] | None:
        """Find who has had least after this turn: between addresses, and between the requests of each."""
        best, least = None, math.inf
        for address, waiting in self._addresses.items():
            entry = waiting.next(dear=dear)
            if entry and (had := self._turns.had[address] + entry.picture.cost_s) < least:
                best, least = entry, had
        return best


class _Address(Generic[T]):
    """What one address has in the queue. cost_s: of all of it."""

    def __init__(self) -> None:
        self.requests: dict[int, deque[Entry[T]]] = {}
        self.turns: _Turns[int] = _Turns()
        self.count, self.cost_s = 0, 0.0

    def add(self, entries: Sequence[Entry[T]]) -> None:
        request = entries[0].request
        self.requests[request] = deque(entries)
        self.turns.enter(request, self.requests)
        self.count += len(entries)
        self.cost_s += sum(entry.picture.cost_s for entry in entries)

    def remove(self, entry: Entry[T]) -> None:
        self.requests[entry.request].popleft()
        self.turns.took(entry.request, entry.picture.cost_s)
        if not self.requests[entry.request]:
            del self.requests[entry.request]
            self.turns.forget(entry.request)
        self.count -= 1
        self.cost_s -= entry.picture.cost_s

    def next(self, *, dear: bool) -> Entry[T] | None:
        heads: Iterator[Entry[T]] = (waiting[0] for waiting in self.requests.values())
        fitting = [entry for entry in heads if dear or not entry.picture.is_dear]
        return min(
            fitting, key=lambda entry: self.turns.had[entry.request] + entry.picture.cost_s, default=None
        )


K = TypeVar("K", bound=Hashable)


class _Turns(Generic[K]):
    """had: seconds that each has had. now: what those who are being served have had; who comes begins there."""

    def __init__(self) -> None:
        self.had: dict[K, float] = {}
        self.now = 0.0

    def enter(self, key: K, waiting: Container[K]) -> None:
        # Who waits for nothing and has had no more than others is like a newcomer.
        self.had = {one: had for one, had in self.had.items() if had > self.now or one in waiting}
        self.had.setdefault(key, self.now)

    def took(self, key: K, seconds: float) -> None:
        self.now = max(self.now, self.had[key])
        self.had[key] += seconds

    def correct(self, key: K, seconds: float) -> None:
        if key in self.had:
            self.had[key] += seconds

    def forget(self, key: K) -> None:
        self.had.pop(key, None)
