"""Gives back what waits here for its turn while another worker has nothing to do.

A worker reads ahead, and cannot know how long the messages before these will take. Once one has waited for a
while, it looks around: are all messages of the queue handed out, and is there a worker that holds none and
takes what comes? That one is left its share. What was handed back is uncounted, and seen by every worker
within a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import Protocol

from leanmq_topology.brokers.protocol import Inspector, Roster, WorkerState
from leanmq_topology.runner.lane import Lane
from leanmq_topology.upkeep.steps import Steps, ask

logger = logging.getLogger("leanmq.runner")

WAITED_SECONDS = 1.0
"""A message that has waited for so long since it was seen waiting is worth a look around."""
LEFT_SECONDS = 3.0
"""For so long what was handed back is left to others; the heartbeat that called them idle may be that old."""


class LookingBroker(Inspector, Roster, Protocol):
    """What looking around needs of a broker."""


class HandOver:
    def __init__(self, broker: LookingBroker, consumer: str, lanes: Sequence[Lane]) -> None:
        self._broker, self._consumer, self._lanes = broker, consumer, lanes
        self._look_at = 0.0
        self._waiting: dict[str, str] = {}
        """By queue: the entry that was the next in line at the last look."""
        self._left_until: dict[str, float] = {}

    def may_take(self, queue: str) -> bool:
        """Whether what was handed back may be taken by this worker too."""
        return time.monotonic() >= self._left_until.get(queue, 0.0)

    def step(self, free: Collection[str]) -> Steps[None]:
        """Look, if it is time, and give back what others could run now.

        Nobody is left more while something of the queue lies `free` already.
        """
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + WAITED_SECONDS
        if not any(lane.held for lane in self._lanes):
            self._waiting.clear()
            return
        for lane in self._lanes:
            if self._has_waited(lane) and lane.name not in free:
                idle = yield from self._count_idle(lane.name)
                if idle:
                    self._hand_over(lane, idle)

    def _has_waited(self, lane: Lane) -> bool:
        """The same message has been the next in line since the last look."""
        before = self._waiting.pop(lane.name, None)
        following = lane.next_in_line() if lane.crew.unstarted else None
        if following is not None:
            self._waiting[lane.name] = following
        return following is not None and following == before

    def _count_idle(self, queue: str) -> Steps[int]:
        [state] = yield from ask(self._broker.inspect_queues([queue]))
        if state.ready:
            return 0  # they have enough to read
        names = yield from ask(self._broker.list_consumers([queue]))
        others = [name for name in names if name != self._consumer]
        workers = (yield from ask(self._broker.inspect_workers(others))) if others else []
        return sum(_would_take(worker, queue) for worker in workers)

    def _hand_over(self, lane: Lane, idle: int) -> None:
        count = lane.crew.unstarted
        given = lane.hand_over(count - count // (idle + 1))
        self._left_until[lane.name] = time.monotonic() + LEFT_SECONDS
        logger.info(
            "queue %s: %d messages that waited here are left to %d idle worker%s",
            lane.name,
            given,
            idle,
            "" if idle == 1 else "s",
            extra={"event": "handed_over", "queue": lane.name},
        )


def _would_take(worker: WorkerState, queue: str) -> bool:
    """Whether it holds nothing, takes what lies free of this queue as it comes, and was heard of lately.

    A process for suspects reads nothing, and a client that consumes only while somebody waits for messages.
    """
    facts = worker.facts
    return facts.get("held") == "0" and queue in facts.get("reading", "").split(",") and not worker.silent
