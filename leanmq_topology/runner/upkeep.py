"""What somebody has to do now and then: move due messages, take over lapsed leases, learn the server's time.

Every worker does it; there is no leader. Two that do it at once do no harm: each step is atomic, and the one
that moves due messages is left alone by the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from leanmq_topology.brokers.protocol import AsyncConnection, Broker, Upkeep
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, TopologyNotAppliedError
from leanmq_topology.runner.checkup import CheckUp
from leanmq_topology.runner.clocks import ServerClock
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.outage import Outage, Pauses
from leanmq_topology.runner.watch import Watch

logger = logging.getLogger("leanmq.runner")

TICK_SECONDS = 0.25
"""A delayed message is at most so late while any worker of its namespace lives."""
WORK_SECONDS = 0.010
"""So long messages are moved at a stretch; then whoever else waits for the server gets as long."""
LONGEST_SCAN_SECONDS = 5.0
LARGEST_CLAIM = 100
FRONT = "0-0"
HEARTBEAT_SECONDS = 5.0
REPEATED_SECONDS = 60.0
CLOCK_STEP_MS = 1000
"""The server's clock went back by more than this: leases would run that much longer."""


class Scan:
    """Where one queue's search for lapsed leases stands."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.cursor = FRONT
        self.due_at = 0.0

    @property
    def goes_on(self) -> bool:
        """It is in the middle of a round, and there is room for what it may find."""
        return self.cursor != FRONT and self.lane.readable and self.lane.room > 0

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
        watch: Watch,
        seen: Upkeep,
        generation_changed: Callable[[], Awaitable[None]],
        beat: Callable[[], Awaitable[None]],
        room_again: Callable[[], None],
    ) -> None:
        """`seen` is what the first round said, which the worker does before it starts.

        `room_again` is called when a search that kept a queue from being read is over.
        """
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._scans = [Scan(lane) for lane in lanes]
        self._clock, self._outage, self._watch = clock, outage, watch
        self._checkup = CheckUp(broker, connection, lanes)
        self._seen = seen
        self._going_by = (seen.generation, seen.epoch)
        self._generation_changed = generation_changed
        self._beat, self._beat_at = beat, 0.0
        self._room_again = room_again
        for lane in lanes:
            lane.room_bell = self._wake_up
        self._highest_offset_ms = clock.offset_ms
        self._promoted = True
        """The last round went well."""
        self._working_since = 0.0
        self._said: dict[str, tuple[str, float]] = {}
        """What failed last in each part, and when that was logged."""
        self._stopping = False
        self._rested: asyncio.Future[None] | None = None

    def stop(self) -> None:
        """End after the step under way: one that is cut off might have taken messages over unseen."""
        self._stopping = True
        _wake(self._rested)

    async def run(self) -> None:
        """Keep things up until told to stop."""
        pauses = Pauses()
        while not self._stopping:
            try:
                pause = await self._tick()
            except BrokerUnavailableError as failure:
                self._outage.begin(failure)
                pause = pauses.seconds()
            else:
                pauses.reset()
            await self._sleep(pause)

    def _wake_up(self) -> None:
        _wake(self._rested)

    async def _sleep(self, seconds: float) -> None:
        """A timer and a future: an idle worker does little else, and a timeout costs several times that."""
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        self._rested = loop.create_future()
        timer = loop.call_later(seconds, _wake, self._rested)
        try:
            await self._rested
        finally:
            timer.cancel()

    async def _tick(self) -> float:
        """Returns how long to rest, in seconds. A part that fails is no reason to leave out the others."""
        parts = {
            "promotion": self._promote,
            "watch": self._look,
            "claims": self._claim_all,
            "check-up": self._checkup.step,
            "heartbeat": self._beat_now_and_then,
        }
        for name, part in parts.items():
            if self._stopping:
                break
            try:
                await part()
            except BrokerUnavailableError:
                raise
            except LeanMQError as failure:
                self._report(name, failure)
        return self._rest()

    def _report(self, part: str, failure: LeanMQError) -> None:
        """The same once a minute at most."""
        self._watch.look_soon()
        now, (said, said_at) = time.monotonic(), self._said.get(part, ("", 0.0))
        if said != failure.message or now - said_at >= REPEATED_SECONDS:
            self._said[part] = (failure.message, now)
            logger.error("upkeep failed (%s): %s", part, failure, extra={"event": "upkeep_failed"})

    async def _promote(self) -> None:
        waiting, self._promoted = self._seen.waiting, False
        self._seen = await maintain(self._broker, self._connection, waiting, self._consumer, self._clock)
        self._promoted = True
        self._note_time()
        await self._note_topology(self._seen)

    async def _note_topology(self, seen: Upkeep) -> None:
        back = self._watch.topology_gone and seen.generation > 0
        self._watch.note_topology(gone=not seen.generation)
        applied = (seen.generation, seen.epoch)
        if seen.generation and (back or applied != self._going_by):
            await self._generation_changed()
            self._going_by = applied
            self._watch.look_soon()

    def _note_time(self) -> None:
        offset_ms = self._clock.offset_ms
        if offset_ms < self._highest_offset_ms - CLOCK_STEP_MS:
            logger.warning(
                "the server's clock went back by %.0f s; leases are set anew",
                (self._highest_offset_ms - offset_ms) / 1000,
                extra={"event": "clock_went_back"},
            )
            self._highest_offset_ms = offset_ms
            self._checkup.repair_clocks()
        self._highest_offset_ms = max(self._highest_offset_ms, offset_ms)

    async def _look(self) -> None:
        if not self._watch.due:
            return
        before = self._watch.paused
        await self._watch.look()
        if self._watch.paused != before:
            self._beat_at = 0.0  # whoever paused a queue waits to see that it is so

    async def _claim_all(self) -> None:
        now, free = time.monotonic(), self._watch.free
        for scan in self._scans:
            if self._stopping:
                return
            if now >= scan.due_at or scan.lane.owed or scan.lane.name in free:
                await self._claim(scan)

    async def _claim(self, scan: Scan) -> None:
        lane = scan.lane
        if not lane.readable:
            self._pay(lane)
            return
        if scan.cursor == FRONT and not self._watch.is_wanted(lane):
            scan.plan_next(FRONT)
            self._pay(lane)
            return
        if not lane.room:
            lane.owed = True
            return
        since = time.monotonic()
        try:
            await self._claim_some(scan)
            while scan.goes_on and time.monotonic() - since < WORK_SECONDS:
                await self._claim_some(scan)
        except TopologyNotAppliedError:
            self._watch.look_soon()
            scan.plan_next(FRONT)
        finally:
            self._pay(lane)

    def _pay(self, lane: Lane) -> None:
        """Nothing is owed any more: what room is left is for new messages."""
        if lane.owed:
            lane.owed = False
            self._room_again()

    async def _claim_some(self, scan: Scan) -> None:
        lane = scan.lane
        operation = self._broker.claim(
            lane.queue,
            self._consumer,
            cursor=scan.cursor,
            count=min(lane.room, LARGEST_CLAIM),
            held=list(lane.held),
        )
        cursor, taken_over = await self._connection.execute(operation)
        scan.plan_next(cursor)
        lane.take(taken_over)

    async def _beat_now_and_then(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + HEARTBEAT_SECONDS
            await self._beat()

    def _rest(self) -> float:
        """Until something is due, at most a tick. While there is much to do, work and rest take turns."""
        seen = self._seen
        if any(scan.lane.owed and scan.lane.room for scan in self._scans):
            return 0.0
        if any(scan.goes_on for scan in self._scans):
            return WORK_SECONDS
        if seen.next_due_ms is None or not self._promoted:
            return TICK_SECONDS
        if seen.next_due_ms > seen.now_ms:
            return min(max((seen.next_due_ms - seen.now_ms) / 1000, WORK_SECONDS), TICK_SECONDS)
        now = time.monotonic()
        if now - self._working_since < WORK_SECONDS:
            return 0.0
        rest = WORK_SECONDS
        self._working_since = now + rest
        return rest


async def maintain(
    broker: Broker, connection: AsyncConnection, queues: Sequence[str], consumer: str, clock: ServerClock
) -> Upkeep:
    """One round of moving due messages; the clock learns the server's time from it."""
    asked_at = time.monotonic()
    upkeep = await connection.execute(broker.maintain(queues, consumer))
    clock.adjust(upkeep.now_ms, asked_at=asked_at)
    return upkeep


def _wake(sleeper: asyncio.Future[None] | None) -> None:
    if sleeper is not None and not sleeper.done():
        sleeper.set_result(None)
