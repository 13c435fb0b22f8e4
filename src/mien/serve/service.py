"""What the addresses share: model, batcher, jobs and counts of one process."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anyio import to_thread
from fastapi import Request, WebSocket

from mien.model.folder import CARD_FILE
from mien.model.views import AUTO
from mien.predict.analyzer import Analyzer, load, model_folder
from mien.serve.auth import Key, key_of, read_keys
from mien.serve.batcher import Answer, Batcher
from mien.serve.config import MEGA, ServeConfig
from mien.serve.database import Database
from mien.serve.fair_queue import Picture
from mien.serve.jobs import Jobs
from mien.serve.metrics import Metrics
from mien.serve.problems import ApiError, Busy
from mien.serve.uploads import Budget
from mien.serve.video_worker import VideoWorker
from mien.terminal import counted

_PORTRAIT = Path(__file__).parents[1] / "samples" / "grace-hopper.jpg"
_PORTRAIT_PIXELS = 512 * 600
_WARM_UP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model and detector a server uses, in a form that travels to other processes; fields: `mien.load`."""

    model: str | None = None
    head: str | None = None
    precision: str = "auto"
    detector: str = "auto"
    detector_file: Path | None = None
    prior: str | None = None
    tta: str = AUTO
    min_face: float = 0.0
    min_score: float = 0.0

    def open(self) -> Analyzer:
        """Load it; raises MienError in one line."""
        return load(**vars(self))

    def card(self) -> str:
        """Return the model's card, Markdown; empty where it has none."""
        card = model_folder(self.model) / CARD_FILE
        return card.read_text(encoding="utf-8") if card.is_file() else ""


@dataclass
class Service:
    """One for each process, made when it starts.

    draining: going down, takes no new work. connections: those that are open, kept up to date by the server;
    max_connections: how many there may be.
    """

    config: ServeConfig
    card: str
    analyzer: Analyzer
    batcher: Batcher
    database: Database
    jobs: Jobs
    video_worker: VideoWorker
    metrics: Metrics
    budget: Budget
    draining: bool = False
    cameras: int = 0
    connections: Collection[object] = ()
    max_connections: int = sys.maxsize
    keys: tuple[Key, ...] = ()
    last_videos: tuple[str, ...] = ()  # those that were unfinished when it began to go down

    @classmethod
    def open(cls, options: ModelOptions, config: ServeConfig, folder: Path, metrics: Metrics) -> Service:
        """Load the model, open the database and start the threads that answer. Raises MienError where that fails.

        folder: for temporary files.
        """
        # All that can be wrong is read before anything is started that would have to be stopped.
        keys = read_keys(Path(config.keys)) if config.keys else ()
        card = options.card()
        analyzer = options.open()
        database = Database(config.jobs, folder)
        jobs = Jobs(database, config)
        metrics.queued.set_function(lambda: jobs.waiting)
        return cls(
            config=config,
            card=card,
            analyzer=analyzer,
            batcher=Batcher(analyzer, config, metrics),
            database=database,
            jobs=jobs,
            video_worker=VideoWorker(jobs, analyzer, config, metrics, folder),
            metrics=metrics,
            budget=Budget(config.waiting_megabytes * MEGA),
            keys=keys,
        )

    def warm_up(self) -> None:
        """Answer a first picture. Raises MienError where that fails: then it would fail for clients too."""
        portrait = Picture(_PORTRAIT.read_bytes(), _PORTRAIT.name, _PORTRAIT_PIXELS, decode_s=0.1)
        self.batcher.warm_up(portrait, _WARM_UP_S)

    async def take(self, connection: Request | WebSocket, *, pictures: int = 0, videos: int = 0) -> None:
        """Count what a client asks for; ApiError (429) where its key allows no more."""
        if key := key_of(connection.scope):
            if key.has_limits:
                await to_thread.run_sync(partial(self.database.take, key, pictures=pictures, videos=videos))
            self.metrics.asked.labels(key.name).inc(pictures)

    async def answers(self, pictures: Sequence[Picture], address: str) -> list[Answer]:
        """Return what is in pictures. address: whose they are. Raises Busy where they would have to wait too long."""
        futures = self.batcher.submit(pictures, address)
        together = asyncio.gather(*map(asyncio.wrap_future, futures))
        try:
            found = await asyncio.wait_for(together, self.config.timeout_s)
        except TimeoutError as error:
            raise Busy(f"the pictures had to wait more than {self.config.timeout_s:g} seconds") from error
        self._count(found)
        return found

    def take_no_more(self) -> None:
        """Refuse new videos and cameras from here on; what runs goes on."""
        self.draining = True
        self.video_worker.drain()
        self.last_videos = () if self.jobs.outlive else self.jobs.mine

    def check_ready(self) -> None:
        """Raise ApiError (503) where a load balancer had better ask another server."""
        self.refuse_when_draining()
        self.jobs.check()
        if not (self.batcher.works and self.video_worker.works):
            raise ApiError("this server has a thread that hangs or has ended; start it again", 503)
        if self.batcher.waiting >= self.config.queue:
            raise Busy(f"{counted(self.batcher.waiting, 'picture is', 'pictures are')} waiting")

    def has_unfetched(self) -> bool:
        """Whether one of the last videos is done and nobody has fetched its results yet."""
        return bool(self.last_videos) and self.jobs.has_unfetched(self.last_videos)

    def refuse_when_draining(self) -> None:
        if self.draining:
            raise ApiError("this server is going down; ask another, or later", 503, {"Retry-After": "5"})

    def close(self) -> bool:
        """Give up the running video, answer what waits, end the threads; False where one does not end."""
        ended = self.video_worker.stop()
        ended = self.batcher.close() and ended
        self.jobs.close()
        self.database.close()
        return ended

    def _count(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                self.metrics.problems.inc()
                continue
            for face in answer.faces:
                self.metrics.faces.labels(face.emotion).inc()


def service_of(connection: Request | WebSocket) -> Service:
    """Return the service of the process that a request or channel came to."""
    service: Service = connection.app.state.service
    return service


def address_of(connection: Request | WebSocket) -> str:
    """Return what counts as one client: its key, an address, or the network of one subscriber (64 bits) in IPv6."""
    if key := key_of(connection.scope):
        return f"key {key.name}"
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return host
