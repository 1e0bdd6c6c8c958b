"""Looks now and then for what got out of order, and puts it right: bounded steps, a few a tick.

Messages that nobody holds, delayed ones that no index leads to, names of workers long gone, leases that begin
in the future because the server's clock went back. Workers take turns, so one of them checks each queue.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from leanmq_topology.brokers.protocol import Broker, Operation, Stretch
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, TopologyNotAppliedError
from leanmq_topology.upkeep.fitness import Fitness
from leanmq_topology.upkeep.steps import Steps, ask
from leanmq_topology.upkeep.watch import EARLY_SECONDS
from leanmq_topology.upkeep.watched import Watched

logger = logging.getLogger("leanmq.upkeep")

GOOD_FOR_SECONDS = 30.0
ASK_SECONDS = 15.0
"""A queue is checked at least every 30 + 15 (and a fifth) seconds while any of its workers lives."""
SWEEP_SECONDS = 5.0
"""An expired message that nobody reads is gone by then."""
FORGOTTEN_SECONDS = 300.0
"""A worker reads every 5 s; a name that was not heard of for so long belongs to nobody."""
WORK_SECONDS = 0.010
"""At most about so long in one tick."""
QUEUES_A_CALL = 100


class Search(Struct, frozen=True):
    """One search through one queue, as far as it came."""

    verb: Callable[..., Operation[Stretch]]
    queue: str
    event: str = ""
    """What to say when it found something; empty: nothing."""
    cursor: str = ""


class CheckUp:
    def __init__(self, broker: Broker, lanes: Sequence[Watched]) -> None:
        self._broker, self._lanes = broker, lanes
        self.fitness = Fitness(broker)
        self._searches: deque[Search] = deque()
        self._ask_at = 0.0
        self._sweep_at = 0.0
        self.repair_clocks()

    def watch(self, lanes: Sequence[Watched]) -> None:
        """From now on it is about these."""
        self._lanes = lanes
        self._ask_at = 0.0
        self.repair_clocks()

    def repair_clocks(self) -> None:
        """The server's clock went back, or may have before we came: look at every lease."""
        repair = self._broker.repair_clock
        kept = [search for search in self._searches if search.verb != repair]
        self._searches = deque([Search(repair, queue) for queue in self._queues()] + kept)

    @property
    def busy(self) -> bool:
        """In the middle of a search."""
        return bool(self._searches)

    def step(self) -> Steps[None]:
        """Do what is due, for a moment. What fails is left to the next turn."""
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + ASK_SECONDS * random.uniform(0.8, 1.2)
            yield from self._take_turns()
        if now >= self._sweep_at - EARLY_SECONDS:
            self._sweep_at = now + SWEEP_SECONDS * random.uniform(0.8, 1.0)
            yield from self._sweep()
        while self._searches and time.monotonic() - now < WORK_SECONDS:
            yield from self._search(self._searches.popleft())
        yield from self.fitness.step()

    def _take_turns(self) -> Steps[None]:
        for names in self._parts():
            turns = self._broker.take_turns(names, good_for_ms=int(GOOD_FOR_SECONDS * 1000))
            mine = yield from ask(turns)
            if not mine:
                continue
            for queue in (yield from ask(self._broker.list_filled(mine))):
                self._searches.append(Search(self._broker.rescue, queue, "orphans_rescued"))
                self._searches.append(Search(self._broker.rescue_delayed, queue, "delayed_rescued"))
            yield from ask(self._broker.reap(mine, idle_ms=int(FORGOTTEN_SECONDS * 1000)))

    def _sweep(self) -> Steps[None]:
        for names in self._parts():
            try:
                yield from ask(self._broker.sweep(names))
            except BrokerUnavailableError:
                raise
            except LeanMQError:
                yield from self._sweep_one_by_one(names)

    def _sweep_one_by_one(self, names: Sequence[str]) -> Steps[None]:
        """One of these cannot be swept; that is no reason to leave the others."""
        failure: LeanMQError | None = None
        for name in names:
            try:
                yield from ask(self._broker.sweep([name]))
            except TopologyNotAppliedError:
                continue  # the queue is gone, which is the watch's to tell
            except LeanMQError as met:
                failure = met
        if failure is not None:
            raise failure

    def _search(self, search: Search) -> Steps[None]:
        try:
            found = yield from ask(search.verb(search.queue, cursor=search.cursor))
        except BrokerUnavailableError:
            self._searches.appendleft(search)
            raise
        except TopologyNotAppliedError:
            return  # the queue is gone, which is the watch's to tell
        if found.found and search.event:
            logger.warning(
                "queue %s: %s",
                search.queue,
                _WORDS[search.event] % found.found,
                extra={"event": search.event},
            )
        if found.cursor:
            self._searches.append(Search(search.verb, search.queue, search.event, found.cursor))

    def _queues(self) -> list[str]:
        return [lane.name for lane in self._lanes if lane.damage is None]

    def _parts(self) -> list[list[str]]:
        names = self._queues()
        return [names[start : start + QUEUES_A_CALL] for start in range(0, len(names), QUEUES_A_CALL)]


_WORDS = {
    "orphans_rescued": "%d messages were handed out and held by nobody; they are handed out again",
    "delayed_rescued": "%d delayed messages had lost their place in line and are due now",
}
