"""A worker on two queues, and things that happen to their keys."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from leanmq_topology import Message, Reject
from tests.support.workers import PATIENCE_SECONDS, Place, Running, load, working

NOTICED_SECONDS = 10.0
"""The bound of the promise; it takes about one."""


@dataclass
class Scene:
    """A worker on two queues, `work` and `spare`, and what it ran."""

    place: Place
    running: Running
    log: pytest.LogCaptureFixture
    ran: list[tuple[str, int, int]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def events(self, name: str) -> list[logging.LogRecord]:
        return [record for record in self.log.records if getattr(record, "event", "") == name]

    async def until(self, holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> float:
        """How long it took; a log has no way to signal."""
        since = time.monotonic()
        while not holds():
            assert time.monotonic() - since < seconds, [record.getMessage() for record in self.log.records]
            await asyncio.sleep(0.01)
        return time.monotonic() - since

    async def handles(self, number: int, queue: str) -> None:
        """A message sent now is run."""
        await self.place.send(number, queue=queue)
        await self.until(lambda: (queue, number) in [(name, ran) for name, ran, _ in self.ran])

    def key_names(self) -> list[bytes]:
        namespace = self.place.topology.broker.namespace
        return sorted(self.place.command("KEYS", rf"\{{{namespace}\}}:*"))

    def calls(self, command: str) -> int:
        stats = self.place.command("INFO", "commandstats").decode()
        [line] = [line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}:")] or [
            ":calls=0,"
        ]
        return int(line.partition("calls=")[2].partition(",")[0])


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker does every second or every minute comes round sooner."""
    monkeypatch.setattr("leanmq_topology.upkeep.watch.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("leanmq_topology.upkeep.checkup.ASK_SECONDS", 0.3)
    monkeypatch.setattr("leanmq_topology.upkeep.checkup.GOOD_FOR_SECONDS", 0.3)
    monkeypatch.setattr("leanmq_topology.runner.upkeep.HEARTBEAT_SECONDS", 0.2)


@asynccontextmanager
async def on_stage(place: Place, log: pytest.LogCaptureFixture) -> AsyncIterator[Scene]:
    scene: Scene

    async def handler(message: Message) -> None:
        if message.data["n"] < 0:
            raise Reject("as told")
        scene.ran.append((message.queue, message.data["n"], message.attempt))

    handlers = [load(handler, queue) for queue in ("work", "spare")]
    with log.at_level(logging.INFO, logger="leanmq"):
        async with working(place, *handlers) as running:
            scene = Scene(place, running, log)
            await scene.handles(0, "work")
            await scene.handles(0, "spare")
            await place.until_settled("work")
            await place.until_settled("spare")
            yield scene
