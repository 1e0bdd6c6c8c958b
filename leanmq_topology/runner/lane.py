"""One queue as a worker consumes it: its handler, what is held of it, and how much more may be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Protocol, cast

from leanmq_topology.brokers.protocol import Damage, QueueHealth
from leanmq_topology.errors import LeanMQError, LeaseLostError
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Done, Failure, MoveToDeadLetters, Outcome, Released
from leanmq_topology.runner.commits import Commit, Errand
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.marks import Marker
from leanmq_topology.runner.middleware.counters import Counters
from leanmq_topology.runner.middleware.event_log import EventLog
from leanmq_topology.runner.pipeline import SUCCEEDED, Pipeline, Verdict
from leanmq_topology.runner.prefetch import Prefetch
from leanmq_topology.topology.model import Queue

logger = logging.getLogger("leanmq.runner")

_READABLE = {Delivered}
_entry_id = attrgetter("entry_id")


class Settle(Protocol):
    """Sends outcomes on their way (`Settlements`)."""

    def acknowledge(self, queue: str, entry_ids: Sequence[str]) -> None: ...
    def add(
        self, delivered: Delivered | Undecodable, outcome: Outcome, *, started: bool, late: bool = False
    ) -> None: ...
    def run_errand(self, errand: Errand) -> None: ...


Finish = Callable[[Incoming, Verdict], None]
Forget = Callable[[Incoming], None]
Succeed = Callable[[Sequence[Incoming], float], None]
"""Hears of plain successes, and of how many seconds a call of the handler took."""


class Crew(Protocol):
    """Those who run a handler: tasks of the loop, or threads."""

    @property
    def unstarted(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def in_hand(self) -> int:
        """Given and not finished: what waits, for whatever reason, and what runs."""
        ...

    def give(self, messages: Iterable[Incoming], pipeline: Pipeline) -> None: ...
    def start(self) -> None:
        """Run what was given: right now, if there is nothing to wait for."""
        ...

    def take_back(self) -> list[Incoming]: ...
    async def abort(self, grace_seconds: float) -> None: ...


Hire = Callable[[Finish, Forget, Succeed], Crew]
"""Puts a crew together that reports to these."""


class Lane:
    """`held` is all that was read and is not settled yet, by entry id; other threads may copy it."""

    def __init__(
        self,
        handler: LoadedHandler,
        pipeline: Pipeline,
        hire: Hire,
        settle: Settle,
        log: EventLog,
        counters: Counters,
        marker: Marker | None = None,
    ) -> None:
        self.handler = handler
        self.pipeline = pipeline
        """Replaced when what is applied changes; what was read before keeps the old one."""
        self.crew = hire(self.finish, self.forget, self.succeed)
        self.held: dict[str, Incoming] = {}
        self.backlogged = False
        """The last read brought as many messages as were asked for, so there are likely more."""
        self.damage: Damage | None = None
        """What is wrong with its keys on the server; it is not read until that is mended."""
        self.paused = False
        """By an operator: what has started ends, nothing more is started."""
        self.owed = False
        """A search for lapsed leases is due: the next room is for what it finds, before anything new is read.
        A backlog would keep it waiting for ever otherwise."""
        self.room_bell: Callable[[], None] | None = None
        """Rung when there is room for what is owed."""
        self.awaited = 0
        """How many the read under way may bring; if its answer was lost, it may have brought them."""
        self.claimed = 0
        """How many the search under way may take over."""
        self.unsure = False
        """An answer was lost that may have brought some: until that is looked up there is no room for any."""
        self.end_read: Callable[[], None] = lambda: None
        """Called when a read that waits has the room that is owed."""
        self.on_taken: Callable[[], None] = lambda: None
        """Called before the crew is given anything."""
        self.on_begun: Callable[[], None] = lambda: None
        """Called when the crew has run what it was given, or begun to: what can wait until then."""
        self.neighbours: Sequence[Lane] = ()
        """All lanes of a worker that has one message in hand at a time, this one included."""
        self._suspended_until = 0.0
        self._settle = settle
        self._log, self.counters = log, counters
        self._marker = marker
        self._prefetch = Prefetch.of(handler.declared)
        self._tells_all = log.tells_all

    @property
    def name(self) -> str:
        return self.pipeline.queue.name

    @property
    def queue(self) -> Queue:
        """As it is applied now."""
        return self.pipeline.queue

    @property
    def room(self) -> int:
        """How many more messages may be taken in."""
        if self.unsure:
            return 0
        if self.neighbours:
            return int(not any(lane.held for lane in self.neighbours))
        held = len(self.held) + self.awaited + self.claimed
        return self._prefetch.room(self.crew.in_hand, held)

    @property
    def hungry(self) -> bool:
        """Whether reading is worth while: there is room, and either nothing waits or half of it is free."""
        room = self.room
        if (
            not self.readable
            or self.owed
            or (self._suspended_until and time.monotonic() < self._suspended_until)
        ):
            return False
        return room > 0 and (self.crew.unstarted == 0 or room * 2 >= self._prefetch.limit)

    @property
    def readable(self) -> bool:
        return self.damage is None and not self.paused

    @property
    def running(self) -> int:
        return self.crew.running

    def suspend(self, seconds: float) -> None:
        """Reading it failed: leave it out for so long, unless a look at it says sooner that it is whole."""
        self._suspended_until = time.monotonic() + seconds

    def note_health(self, health: QueueHealth) -> bool:
        """Go by what was found on the server; True if reading has to be planned anew."""
        before = self.readable and not self._suspended_until
        if health.damage is None and health.paused is not self.paused:
            self._note_pause(health.paused)
        self.damage = health.damage
        if health.damage is None:
            self._suspended_until = 0.0
        return self.readable is not before

    def take(self, arrived: Sequence[Delivered | Undecodable]) -> None:
        """These were handed to this worker: have them run."""
        self.take_in(arrived)
        self.start()

    def start(self) -> None:
        """Run what was taken in: right now, if there is nothing to wait for."""
        self.crew.start()
        self.on_begun()

    def take_in(self, arrived: Sequence[Delivered | Undecodable]) -> None:
        """These were handed to this worker: they are run once they are `start`ed."""
        lease_ends = time.monotonic() + self.queue.visibility_timeout_ms / 1000
        self._tells_all = self._log.tells_all
        fresh = self._hold_all(arrived, lease_ends)
        if fresh is None:
            fresh = self._hold_each(arrived, lease_ends)
        if fresh:
            self.on_taken()
            self.crew.give(fresh, self.pipeline)

    def _hold_all(
        self, arrived: Sequence[Delivered | Undecodable], lease_ends: float
    ) -> Collection[Incoming] | None:
        """Hold what is all new and readable, as most often, for less; None: each is to be looked at."""
        if self.paused or set(map(type, arrived)) != _READABLE:
            return None
        incoming = map(Incoming, cast(Sequence[Delivered], arrived), repeat(lease_ends))
        fresh = dict(zip(map(_entry_id, arrived), incoming, strict=True))
        if len(fresh) < len(arrived) or not fresh.keys().isdisjoint(self.held):
            return None
        self.held.update(fresh)
        return fresh.values()

    def _hold_each(self, arrived: Sequence[Delivered | Undecodable], lease_ends: float) -> list[Incoming]:
        fresh = []
        for item in arrived:
            if isinstance(item, Undecodable):
                self._refuse(item)
            elif self.paused and item.entry_id not in self.held:
                self.release(item)  # it was on its way when the pause began
            elif (known := self.held.get(item.entry_id)) is not None:
                known.renew(item, lease_ends)  # our own lease had lapsed, and we took it over from ourselves
            else:
                message = self.held[item.entry_id] = Incoming(item, lease_ends)
                fresh.append(message)
        return fresh

    def _note_pause(self, paused: bool) -> None:
        self.paused = paused
        released = self.release_unstarted() if paused else 0
        logger.info(
            "queue %s is %s",
            self.name,
            f"paused: {self.running} running, {released} handed back unstarted" if paused else "read again",
            extra={"event": "paused" if paused else "resumed", "queue": self.name},
        )

    def finish(self, message: Incoming, verdict: Verdict) -> None:
        """A message has its outcome. Called by the crew, in the loop."""
        now = time.monotonic()
        if verdict is SUCCEEDED and message.is_ours(now) and not self._tells_all:
            assert message.started_at is not None
            self.succeed((message,), now - message.started_at)
        elif verdict.outputs or verdict.reply:
            self._commit(message, verdict)
        else:
            self._note(message, verdict, now)
            message.finished = True
            late = isinstance(verdict.outcome, Done) and not message.is_ours(now)
            if late:
                self._report_late(message)
            self._settle.add(
                message.delivered, verdict.outcome, started=message.started_at is not None, late=late
            )

    def succeed(self, messages: Sequence[Incoming], seconds: float) -> None:
        """These simply succeeded, in one call or in calls that took `seconds` each.

        The short way of almost every message: there is nothing to say of it.
        """
        now = time.monotonic()
        entry_ids = []
        for message in messages:
            if message.lost or now >= message.lease_ends or self._tells_all:
                break
            message.finished = True
            entry_ids.append(message.delivered.entry_id)
        if len(entry_ids) < len(messages):
            for message in messages:
                self.finish(message, SUCCEEDED)
            return
        if seconds > self._prefetch.ordinary_seconds:
            self._prefetch.measure(seconds)
        self.counters.successes += len(messages)
        self._settle.acknowledge(messages[0].delivered.queue, entry_ids)

    def _note(self, message: Incoming, verdict: Verdict, now: float) -> None:
        """Measure, count and log what became of a message."""
        if message.started_at is not None:
            self._prefetch.measure(now - message.started_at)
        self.counters.count(verdict.outcome)
        self._log(message, verdict, self.queue)

    def _commit(self, message: Incoming, verdict: Verdict) -> None:
        """It succeeded if what it sends finds its place; until then its lease is renewed."""
        assert message.writer is not None  # it sends or replies
        conclude = partial(self._conclude, message, verdict)
        commit = Commit(message, verdict.outputs, message.writer, conclude, verdict.reply)
        self._settle.run_errand(commit)

    def _conclude(self, message: Incoming, verdict: Verdict, failure: LeanMQError | None) -> None:
        if failure is not None and not isinstance(failure, LeaseLostError):
            self.finish(message, self.pipeline.fail(message, failure))
            return
        if failure is None:
            self._note(message, verdict, time.monotonic())
        else:
            self._report_unsent(message)
        message.finished = True

    def _report_unsent(self, message: Incoming) -> None:
        logger.warning(
            "%s: the lease on %s was lost: it is left to its new owner, and nothing it sent has left",
            self.handler.name,
            message.delivered.envelope.id,
            extra={"event": "lease_lost", "queue": self.name},
        )

    def forget(self, message: Incoming) -> None:
        """The lease lapsed before the message could start: it is somebody else's now."""
        self.held.pop(message.delivered.entry_id, None)
        logger.info(
            "%s: the lease on %s lapsed before it could start; it is left to others",
            self.handler.name,
            message.delivered.envelope.id,
            extra={"event": "lease_lapsed", "queue": self.name},
        )

    def lose(self, message: Incoming) -> None:
        """Renewing its lease was refused. What has started goes on; its settlement will tell."""
        if message.finished or self.held.get(message.delivered.entry_id) is not message:
            return
        message.lost = True
        if message.started_at is not None:
            logger.warning(
                "%s: the lease on %s was lost while its handler ran; it may run twice",
                self.handler.name,
                message.delivered.envelope.id,
                extra={"event": "lease_lost", "queue": self.name},
            )

    def _report_late(self, message: Incoming) -> None:
        logger.warning(
            "%s: %s was done after its lease had lapsed; that is taken, but it may run twice",
            self.handler.name,
            message.delivered.envelope.id,
            extra={"event": "late", "queue": self.name},
        )

    def settled(self, entry_ids: Sequence[str]) -> None:
        """These have left our hands."""
        popped = map(self.held.pop, entry_ids, repeat(None))
        messages = [message for message in popped if message is not None]
        if self._marker is not None:
            self._marker.settle(messages)
        self.tell_of_room()

    def owe(self) -> None:
        """A search found no room: the next is for it."""
        self.owed = True
        if self.awaited:
            self.end_read()

    def tell_of_room(self) -> None:
        """There may be some for what is owed."""
        if self.room_bell is None:
            return
        if self.owed or (self.neighbours and any(lane.owed for lane in self.neighbours)):
            self.room_bell()

    def release_unstarted(self) -> int:
        """Hand back what waits for its turn; its delivery will not count. Returns how many."""
        unstarted = self.crew.take_back()
        for message in unstarted:
            self.release(message.delivered)
            message.finished = True
        return len(unstarted)

    def next_in_line(self) -> str | None:
        """The entry that has waited longest of those that have not started."""
        waiting = (entry for entry, one in self.held.items() if one.started_at is None and not one.finished)
        return next(waiting, None)

    def hand_over(self, count: int) -> int:
        """Hand back the last `count` of what waits for its turn, and keep the rest. Returns how many."""
        unstarted = self.crew.take_back()
        kept = max(len(unstarted) - count, 0)
        for message in unstarted[kept:]:
            self.release(message.delivered)
            message.finished = True
        if kept:
            self.crew.give(unstarted[:kept], self.pipeline)
            self.crew.start()
        return len(unstarted) - kept

    def release(self, delivered: Delivered) -> None:
        self._settle.add(delivered, Released(), started=False)

    def renewable(self) -> list[Incoming]:
        """What is held and not finished; safe to call from another thread."""
        return [message for message in self.held.copy().values() if not (message.finished or message.lost)]

    def _refuse(self, item: Undecodable) -> None:
        outcome = MoveToDeadLetters(DeadReason.UNDECODABLE, Failure("UndecodableEntry", item.reason))
        logger.error(
            "queue %s: entry %s cannot be read, dead-lettered as undecodable: %s",
            item.queue,
            item.entry_id,
            item.reason,
            extra={"event": "dead-lettered", "queue": item.queue, "reason": "undecodable"},
        )
        self.counters.count(outcome)
        self._settle.add(item, outcome, started=False)
