"""Moves due messages of a namespace to their queues, and hears the server's time and generation with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from leanmq_topology.brokers.protocol import Broker, Upkeep
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.steps import Steps, ask

logger = logging.getLogger("leanmq.upkeep")

TICK_SECONDS = 0.25
"""A delayed message is at most so late while anybody keeps up its namespace who is not told of it."""
WORK_SECONDS = 0.010
"""So long messages are moved at a stretch; then whoever else waits for the server gets as long."""
CLOCK_STEP_MS = 1000
"""The server's clock went back by more than this: leases would run that much longer."""


class Promotion:
    def __init__(
        self,
        broker: Broker,
        consumer: str,
        clock: ServerClock,
        seen: Upkeep,
        clock_went_back: Callable[[], None],
    ) -> None:
        """`seen` is what the first round said (`maintain`)."""
        self._broker, self._consumer, self._clock = broker, consumer, clock
        self.seen = seen
        self._clock_went_back = clock_went_back
        self._highest_offset_ms = clock.offset_ms
        self._went_well = True
        self._working_since = 0.0

    def step(self) -> Steps[Upkeep]:
        """One round: at most 100 messages."""
        waiting, self._went_well = self.seen.waiting, False
        self.seen = yield from maintain(self._broker, waiting, self._consumer, self._clock)
        self._went_well = True
        self._note_time()
        return self.seen

    def rest(self, longest_seconds: float = TICK_SECONDS) -> float:
        """Until something is due, at most so long. While there is much to do, work and rest take turns."""
        seen = self.seen
        if not self._went_well:
            return TICK_SECONDS
        if seen.next_due_ms is None:
            return longest_seconds
        if seen.next_due_ms > seen.now_ms:
            return min(max((seen.next_due_ms - seen.now_ms) / 1000, WORK_SECONDS), longest_seconds)
        now = time.monotonic()
        if now - self._working_since < WORK_SECONDS:
            return 0.0
        self._working_since = now + WORK_SECONDS
        return WORK_SECONDS

    def _note_time(self) -> None:
        offset_ms = self._clock.offset_ms
        if offset_ms < self._highest_offset_ms - CLOCK_STEP_MS:
            logger.warning(
                "the server's clock went back by %.0f s; leases are set anew",
                (self._highest_offset_ms - offset_ms) / 1000,
                extra={"event": "clock_went_back"},
            )
            self._highest_offset_ms = offset_ms
            self._clock_went_back()
        self._highest_offset_ms = max(self._highest_offset_ms, offset_ms)


def maintain(broker: Broker, queues: Sequence[str], consumer: str, clock: ServerClock) -> Steps[Upkeep]:
    """One round of moving due messages; the clock learns the server's time from it."""
    asked_at = time.monotonic()
    upkeep = yield from ask(broker.maintain(queues, consumer))
    clock.adjust(upkeep.now_ms, asked_at=asked_at)
    return upkeep
