"""A producer of fault tests: `python -m tests.support.fault_producer FOLDER NAME PLAN`.

Sends from several tasks at once until it is told to stop (SIGTERM) or has sent enough, and writes down how
each send ended. A send is *unknown* when its answer was lost; it is never sent again under another id.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from leanmq_topology import connect
from leanmq_topology.client import Client
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, SendUnconfirmedError
from tests.support.fault_handlers import HISTORY_VARIABLE
from tests.support.history import History, Kind

WISHES: Final = {"done": 0.93, "fail once": 0.05, "reject": 0.01, "discard": 0.01}


class ProducerPlan(msgspec.Struct):
    """What a producer does."""

    target: str
    queues: list[str]
    """Those a message is to reach."""
    seed: int = 0
    tasks: int = 4
    pause_ms: float = 10.0
    """Between two sends of one task."""
    count: int | None = None
    """None: until told to stop."""
    wishes: dict[str, float] = msgspec.field(default_factory=WISHES.copy)
    """What handlers are asked to do, by weight."""
    work_ms: int = 2
    delays_ms: tuple[int, ...] = (0,)
    padding: int = 0
    """Bytes that each message is larger by."""
    hold: bool = False
    """A first run waits for the gate to be opened."""
    batch: int = 1
    """Messages of one send; more than one go by `send_many`."""


class Producer:
    def __init__(self, plan: ProducerPlan, name: str, told: History, client: Client) -> None:
        self._plan, self._name, self._told, self._client = plan, name, told, client
        self._dice = random.Random(plan.seed)
        self._numbers: Iterator[int] = itertools.count() if plan.count is None else iter(range(plan.count))
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopped.set)
        await asyncio.gather(*(self._send_on() for _ in range(self._plan.tasks)))

    async def _send_on(self) -> None:
        while not self._stopped.is_set():
            numbers = list(itertools.islice(self._numbers, self._plan.batch))
            if not numbers:
                return
            await self._send([f"{self._name}-{number}" for number in numbers])
            try:
                async with asyncio.timeout(self._plan.pause_ms / 1000):
                    await self._stopped.wait()
            except TimeoutError:
                continue

    async def _send(self, keys: list[str]) -> None:
        items = [self._make(key) for key in keys]
        delay_s = self._dice.choice(self._plan.delays_ms) / 1000
        for key in keys:
            self._told.invoke(key, *self._plan.queues)
        result, note = Kind.OK, ""
        try:
            if self._plan.batch > 1:
                await self._client.send_many(self._plan.target, items, delay=delay_s or None)
            else:
                await self._client.send(self._plan.target, items[0], delay=delay_s or None)
        except (BrokerUnavailableError, SendUnconfirmedError) as failure:
            result = Kind.UNKNOWN if getattr(failure, "unknown", True) else Kind.FAIL
            note = str(failure)
        except LeanMQError as failure:
            result, note = Kind.FAIL, type(failure).__name__
        for key in keys:
            self._told.settle(result, key, *self._plan.queues, note=note)

    def _make(self, key: str) -> dict[str, Any]:
        wishes = self._plan.wishes
        [wish] = self._dice.choices(list(wishes), list(wishes.values()))
        return {
            "key": key,
            "do": wish,
            "ms": self._plan.work_ms,
            "hold": self._plan.hold,
            "padding": "x" * self._plan.padding,
        }


async def main(folder: Path, name: str, plan: ProducerPlan) -> None:
    with History(Path(os.environ[HISTORY_VARIABLE]), name) as told:
        async with connect(folder / "topology.yaml") as client:
            print("ready", flush=True)
            await Producer(plan, name, told, client).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], msgspec.json.decode(sys.argv[3], type=ProducerPlan)))
