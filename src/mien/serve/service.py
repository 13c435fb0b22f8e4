"""What the addresses share: network, engine, jobs and counts of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fastapi import Request, WebSocket

from mien.predict.analyzer import Analyzer
from mien.serve.config import MEGA, ServeConfig
from mien.serve.engine import Answer, Engine, Picture
from mien.serve.jobs import Jobs
from mien.serve.meter import Meter
from mien.serve.network import Network
from mien.serve.problems import Busy, Refusal
from mien.serve.runner import Runner
from mien.serve.uploads import Budget


@dataclass
class Service:
    """One for each process, made when it starts.

    draining: going down, takes no new work. connections: those that are open, kept up to date by the server.
    """

    config: ServeConfig
    card: str
    analyzer: Analyzer
    engine: Engine
    jobs: Jobs
    runner: Runner
    meter: Meter
    budget: Budget
    draining: bool = False
    cameras: int = 0
    connections: Collection[object] = ()
    last_videos: tuple[str, ...] = ()  # those that were unfinished when it began to go down

    @classmethod
    def open(cls, network: Network, config: ServeConfig, jobs: Jobs, meter: Meter) -> Service:
        """Load the network and start the threads that answer. Raises MienError where it cannot be loaded."""
        analyzer = network.open()
        return cls(
            config=config,
            card=network.card(),
            analyzer=analyzer,
            engine=Engine(analyzer, config, meter),
            jobs=jobs,
            runner=Runner(jobs, analyzer, config, meter),
            meter=meter,
            budget=Budget(config.waiting_megabytes * MEGA),
        )

    async def answers(self, pictures: Sequence[Picture]) -> list[Answer]:
        """Return what is in pictures. Raises Busy where they have no room, or have to wait too long."""
        futures = self.engine.submit(pictures)
        together = asyncio.gather(*map(asyncio.wrap_future, futures))
        try:
            found = await asyncio.wait_for(together, self.config.timeout_s)
        except TimeoutError as error:
            raise Busy(f"the pictures had to wait more than {self.config.timeout_s:g} seconds") from error
        self._count(found)
        return found

    def take_no_more(self) -> None:
        """Refuse new work from here on; what runs goes on."""
        self.draining = True
        self.last_videos = self.jobs.unfinished_here()
        self.runner.drain()

    def has_unfetched(self) -> bool:
        """Whether one of the last videos is done and nobody has fetched its results yet."""
        return any(map(self.jobs.is_unfetched, self.last_videos))

    def refuse_when_draining(self) -> None:
        if self.draining:
            raise Refusal("this server is going down; ask another, or later", 503, {"Retry-After": "5"})

    def close(self) -> None:
        """Give up the running video, answer what waits, end the threads."""
        self.runner.stop()
        self.engine.close()

    def _count(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                self.meter.problems.inc()
                continue
            for face in answer.faces:
                self.meter.faces.labels(face.emotion).inc()


def service_of(connection: Request | WebSocket) -> Service:
    """Return the service of the process that a request or channel came to."""
    service: Service = connection.app.state.service
    return service
