"""What somebody has to do now and then: move due messages, take over lapsed leases, learn the server's time.

Every worker does it for the queues it handles. Two that do it at once do no harm: each step is atomic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from leanmq_topology.brokers.protocol import AsyncConnection, Broker, Upkeep
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, TopologyNotAppliedError
from leanmq_topology.runner.clocks import ServerClock
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.outage import Outage, Pauses

logger = logging.getLogger("leanmq.runner")

TICK_SECONDS = 0.25
"""A delayed message is at most so late while any worker of its queue lives."""
LONGEST_SCAN_SECONDS = 5.0
LARGEST_CLAIM = 100
FULL_PROMOTION = 100
"""A round that moved so many likely left some."""
FRONT = "0-0"
HEARTBEAT_SECONDS = 5.0


class Scan:
    """Where one queue's search for lapsed leases stands."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.cursor = FRONT
        self.due_at = 0.0

    def plan_next(self, cursor: str) -> None:
        """Go on at once behind `cursor`; after a whole round, rest for a while."""
        self.cursor = cursor
        self.due_at = time.monotonic() + (self.interval() if cursor == FRONT else 0.0)

    def interval(self) -> float:
        """A quarter of the lease, at most 5 s, give or take a fifth so that workers spread."""
        lease_seconds = self.lane.queue.visibility_timeout_ms / 1000
        return min(lease_seconds / 4, LONGEST_SCAN_SECONDS) * random.uniform(0.8, 1.2)


class Maintenance:
    """`generation_changed` is awaited when somebody applied; `beat` says that this worker lives."""

    def __init__(
        self,
        broker: Broker,
        connection: AsyncConnection,
        consumer: str,
        lanes: Sequence[Lane],
        clock: ServerClock,
        outage: Outage,
        generation: int,
        generation_changed: Callable[[], Awaitable[None]],
        beat: Callable[[], Awaitable[None]],
    ) -> None:
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._names = [lane.name for lane in lanes]
        self._scans = [Scan(lane) for lane in lanes]
        self._clock, self._outage = clock, outage
        self._generation, self._generation_changed = generation, generation_changed
        self._beat, self._beat_at = beat, 0.0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the step under way: one that is cut off might have taken messages over unseen."""
        self._stopping.set()

    async def run(self) -> None:
        """Keep things up until told to stop."""
        pauses = Pauses()
        while not self._stopping.is_set():
            try:
                pause = await self._tick()
            except BrokerUnavailableError as failure:
                self._outage.begin(failure)
                pause = pauses.seconds()
            except LeanMQError as failure:
                logger.error("upkeep failed: %s", failure, extra={"event": "upkeep_failed"})
                pause = pauses.seconds()
            else:
                pauses.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _tick(self) -> float:
        """Returns how long to rest, in seconds."""
        upkeep = await maintain(self._broker, self._connection, self._names, self._clock)
        if upkeep.generation != self._generation:
            await self._generation_changed()
            self._generation = upkeep.generation
        for scan in self._scans:
            if self._stopping.is_set():
                return 0.0
            if time.monotonic() >= scan.due_at:
                await self._claim(scan)
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + HEARTBEAT_SECONDS
            await self._beat()
        return _rest(upkeep)

    async def _claim(self, scan: Scan) -> None:
        lane = scan.lane
        if not lane.room:
            return  # asked again at the next tick: what lapsed may go to a worker that has room
        count = min(lane.room, LARGEST_CLAIM)
        operation = self._broker.claim(lane.queue, self._consumer, cursor=scan.cursor, count=count)
        try:
            cursor, taken_over = await self._connection.execute(operation)
        except TopologyNotAppliedError:
            lane.suspend(LONGEST_SCAN_SECONDS)
            scan.plan_next(FRONT)
            return
        scan.plan_next(cursor)
        lane.take(taken_over)


async def maintain(
    broker: Broker, connection: AsyncConnection, names: Sequence[str], clock: ServerClock
) -> Upkeep:
    """One round of moving due messages; the clock learns the server's time from it."""
    asked_at = time.monotonic()
    upkeep = await connection.execute(broker.maintain(names))
    clock.adjust(upkeep.now_ms, asked_at=asked_at)
    return upkeep


def _rest(upkeep: Upkeep) -> float:
    if upkeep.promoted >= FULL_PROMOTION:
        return 0.0
    if upkeep.next_due_ms is None or (upkeep.next_due_ms <= upkeep.now_ms and not upkeep.promoted):
        return TICK_SECONDS  # nothing is due, or what is due has no queue to go to
    return min(max((upkeep.next_due_ms - upkeep.now_ms) / 1000, 0.001), TICK_SECONDS)
