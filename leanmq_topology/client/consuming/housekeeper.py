"""A thread beside a client that consumes: it renews leases, keeps the namespace up, gives back what is left.

It has a connection of its own and waits for nobody: neither code that blocks the event loop nor a read that
waits for half a minute lets a lease lapse. A program that only consumes is all the namespace may have, so it
does what a worker does beside its handlers.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from leanmq_topology.brokers.protocol import BlockingConnection, BlockingListener, Broker
from leanmq_topology.client.consuming.due_bell import DueBell
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.client.consuming.settling import plan_leftovers
from leanmq_topology.client.consuming.shelf import Leftover, Shelf
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, TopologyNotAppliedError
from leanmq_topology.upkeep.checkup import CheckUp
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.complaints import Complaints
from leanmq_topology.upkeep.outage import Outage, Pauses
from leanmq_topology.upkeep.promotion import TICK_SECONDS, Promotion, maintain
from leanmq_topology.upkeep.renewal import renew, renewal_seconds
from leanmq_topology.upkeep.steps import carry_out
from leanmq_topology.upkeep.watch import EARLY_SECONDS, Watch

logger = logging.getLogger("leanmq.client")

HEARTBEAT_SECONDS: Final = 5.0
CORRECTED_SECONDS: Final = 1.0
"""What was said of who reads is no older, for workers leave messages to those that do."""
GLANCE_SECONDS: Final = CORRECTED_SECONDS - TICK_SECONDS
"""So often who rests sees whether its client took something: telling it would cost with each message."""
LEFTOVERS_A_STEP: Final = 100
MISTAKE_SECONDS: Final = 0.2
"""The least rest after an error that nobody foresaw; what raised it may be due at once."""


class Housekeeper:
    def __init__(
        self,
        broker: Broker,
        connection: BlockingConnection,
        consumer: str,
        clock: ServerClock,
        outage: Outage,
        connection_id: Callable[[Shelf], int],
        listener: BlockingListener,
    ) -> None:
        """`connection_id` is the server's number for the connection that reads for a shelf; 0: none does.

        `listener` is opened once there is nothing to do: with it that is looked into every five seconds only.
        """
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._clock, self._outage = clock, outage
        self._connection_id = connection_id
        self._shelves: dict[str, Shelf] = {}
        self._renew_at: dict[str, float] = {}
        self._watch = Watch(broker, consumer, [], lambda: None)
        self._checkup = CheckUp(broker, [])
        seen = carry_out(maintain(broker, [], consumer, clock), connection)
        self._promotion = Promotion(broker, consumer, clock, seen, self._checkup.repair_clocks)
        self._going_by = (seen.generation, seen.epoch)
        self._beat_at = 0.0
        self._told_reading: set[str] = set()
        self._told_at = 0.0
        self._complaints = Complaints(logger)
        self._bell = threading.Event()
        self._due_bell = DueBell(broker, listener, self.wake, self._note_call)
        self._rests = False
        """For longer than a tick: who has something to say at once rings."""
        self._heard_all = False
        """The bell worked before the last look: what came later than that was told."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="leanmq-housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send_away(self) -> None:
        """Instead of `start`: close the connection it was given."""
        self._connection.close()

    def wake(self) -> None:
        """There is something to do. Safe from any thread."""
        self._bell.set()

    def _note_call(self) -> None:
        """Somebody paused, applied or handed something back. At every tick it is looked for soon enough."""
        self._watch.look_soon()
        if self._rests:
            self.wake()

    def add(self, shelf: Shelf) -> None:
        """Keep this one too. Its health is known already."""
        self._renew_at[shelf.name] = time.monotonic() + renewal_seconds(shelf.queue)
        self._shelves = {**self._shelves, shelf.name: shelf}  # last: from now on the thread sees it
        self._watch_together(list(self._shelves.values()))
        self._checkup.watch(list(self._shelves.values()))
        self._beat_at = 0.0
        self.wake()

    def _watch_together(self, shelves: list[Shelf]) -> None:
        """One look for all of them, from now on."""
        watch = Watch(self._broker, self._consumer, shelves, lambda: None)
        for shelf in shelves:
            watch.take_over(shelf.watch)
            shelf.watch = watch
        self._watch = watch

    def stop(self) -> None:
        """Settle what is left over, give the name back, and end; the connection is closed then."""
        self._stopped = True
        self.wake()
        self._thread.join()

    # -- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        pauses = Pauses()
        try:
            while not self._stopped:
                try:
                    rest = self._tick()
                except BrokerUnavailableError as failure:
                    self._outage.begin(failure)
                    self._bell.wait(pauses.seconds())
                else:
                    pauses.reset()
                    self._sleep(rest)
                self._bell.clear()
            self._end()
        finally:
            self._due_bell.stop()
            self._connection.close()

    def _sleep(self, seconds: float) -> None:
        """So long, or until it is called; little longer than a tick once there is something to do."""
        until = time.monotonic() + seconds
        self._rests = seconds > TICK_SECONDS  # first: who calls before this does not ring the bell
        while self._watch.quiet and self._is_idle() and (left := until - time.monotonic()) > TICK_SECONDS:
            if self._bell.wait(min(left, GLANCE_SECONDS)):
                return
        self._bell.wait(min(max(until - time.monotonic(), 0.0), TICK_SECONDS))

    def _tick(self) -> float:
        """Returns how long to rest, in seconds. A part that fails is no reason to leave out the others."""
        rest, hears = 0.0, self._due_bell.works
        if hears and not self._heard_all:
            self._watch.look_soon()  # nobody told what happened between the last look and the first call
        self._heard_all = hears
        for name, part in (
            ("leases", self._renew_all),
            ("leftovers", self._settle_leftovers),
            ("promotion", self._promote),
            ("watch", self._look),
            ("claims", self._call_readers),
            ("check-up", self._check_up),
            ("heartbeat", self._beat),
        ):
            if self._stopped:
                break
            try:
                part()
            except BrokerUnavailableError:
                raise
            except LeanMQError as failure:
                self._complaints.say(name, failure)
            except Exception as mistake:  # of ours: without this thread every lease would lapse
                self._complaints.say(name, mistake)
                rest = MISTAKE_SECONDS
        holding = (shelf.name for shelf in self._shelves.values() if shelf.held)
        renewal = min(map(self._renew_at.__getitem__, holding), default=inf)
        longest = self._watch.rest_seconds if self._is_quiet() and self._heard_all else TICK_SECONDS
        return max(min(self._promotion.rest(longest), renewal - time.monotonic()), rest)

    def _is_quiet(self) -> bool:
        """Nobody holds anything of these queues: what happens is told, or may be looked for at leisure."""
        quiet = self._watch.quiet and not self._checkup.busy and self._is_idle()
        if quiet:
            self._due_bell.start()
        return quiet

    def _is_idle(self) -> bool:
        """Nothing is held here, and what was said of who reads is still so."""
        return self._told_reading == self._read() and not any(shelf.held for shelf in self._shelves.values())

    def _read(self) -> set[str]:
        return {shelf.name for shelf in self._shelves.values() if shelf.is_read}

    def _renew_all(self) -> None:
        for name, shelf in self._shelves.items():
            if time.monotonic() < self._renew_at[name]:
                continue
            interval = renewal_seconds(shelf.queue)
            self._renew_at[name] = time.monotonic() + interval / 4  # sooner after a failure
            messages = [held for held in shelf.held.copy().values() if held.renewable]
            carry_out(renew(self._broker, shelf.queue, self._consumer, messages, _lose), self._connection)
            shelf.drop_forgotten()
            self._renew_at[name] = time.monotonic() + interval

    def _settle_leftovers(self) -> None:
        """A queue that is damaged holds nothing of the others up."""
        for shelf in self._shelves.values():
            try:
                self._settle_shelf(shelf)
            except BrokerUnavailableError:
                raise
            except LeanMQError as failure:
                self._complaints.say(f"leftovers of {shelf.name}", failure)

    def _settle_shelf(self, shelf: Shelf) -> None:
        """What is left over of a queue that is gone has no place to go to any more."""
        while shelf.leftovers:
            part = list(shelf.leftovers)[:LEFTOVERS_A_STEP]
            try:
                self._settle_some(shelf, part)
            except TopologyNotAppliedError:
                self._forget(shelf, part)
                raise

    def _settle_some(self, shelf: Shelf, part: Sequence[Leftover]) -> None:
        """What fails stays first in line; every step may be repeated without harm."""
        for operation in plan_leftovers(self._broker, shelf, part):
            self._connection.execute(operation)
        for leftover in part:
            _report(shelf, leftover)
        self._forget(shelf, part)

    def _forget(self, shelf: Shelf, part: Sequence[Leftover]) -> None:
        """These were first in line."""
        for leftover in part:
            shelf.leftovers.popleft()
            held = shelf.held.get(leftover.item.entry_id)
            if held is not None and held.ended:
                shelf.forget(held)

    def _promote(self) -> None:
        seen = carry_out(self._promotion.step(), self._connection)
        applied = (seen.generation, seen.epoch)
        if seen.generation and applied != self._going_by:
            self._going_by = applied
            for shelf in self._shelves.values():
                shelf.stale = True
            self._watch.look_soon()

    def _look(self) -> None:
        watch = self._watch
        if not watch.due:
            return
        before = [(shelf, shelf.readable, shelf.paused) for shelf in self._shelves.values()]
        carry_out(watch.look(), self._connection)
        for shelf, readable, paused in before:
            if (shelf.readable, shelf.paused) != (readable, paused):
                self._note_change(shelf)

    def _note_change(self, shelf: Shelf) -> None:
        self._beat_at = 0.0  # whoever paused a queue waits to see that it is so
        shelf.bell.set()
        if not shelf.readable:
            self.end_read(shelf)
        logger.info(
            "queue %s is %s",
            shelf.name,
            "paused" if shelf.paused else "read again" if shelf.readable else "not whole",
            extra={"event": "paused" if shelf.paused else "resumed", "queue": shelf.name},
        )

    def _call_readers(self) -> None:
        """What others left behind is taken by the reader itself, so that nothing is taken for nobody."""
        for shelf in self._shelves.values():
            if shelf.waiting and shelf.is_called_back:
                self.end_read(shelf)

    def end_read(self, shelf: Shelf) -> None:
        connection_id = self._connection_id(shelf)
        if connection_id:
            self._connection.execute(self._broker.end_fetch(connection_id))

    def _check_up(self) -> None:
        carry_out(self._checkup.step(), self._connection)

    def _beat(self) -> None:
        reading = self._read()
        if reading != self._told_reading:
            self._beat_at = min(self._beat_at, self._told_at + CORRECTED_SECONDS)
        now = time.monotonic()
        if now < self._beat_at or not self._shelves:
            return
        self._beat_at = now + HEARTBEAT_SECONDS - EARLY_SECONDS
        self._told_at, self._told_reading = now, reading
        lifetime_ms = int(3 * HEARTBEAT_SECONDS * 1000)
        facts = {**self._facts(), "reading": ",".join(reading), "lifetime_ms": str(lifetime_ms)}
        self._connection.execute(
            self._broker.heartbeat(self._consumer, facts, lifetime_ms=lifetime_ms, queues=list(self._shelves))
        )

    def _facts(self) -> dict[str, str]:
        shelves = self._shelves.values()
        held = [one for shelf in shelves for one in shelf.held.copy().values() if one.known]
        return {
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "handlers": "",
            "queues": ",".join(shelf.name for shelf in shelves),
            "paused": ",".join(shelf.name for shelf in shelves if shelf.paused),
            "held": str(len(held)),
            "running": str(sum(one.handed_out for one in held)),
            "seen_ms": str(self._clock.now_ms()),
        }

    def _end(self) -> None:
        """The last thing: one try each, what fails is left to the leases."""
        try:
            self._settle_leftovers()
            self._connection.execute(self._broker.leave(self._consumer, list(self._shelves)))
        except LeanMQError as failure:
            logger.info("what was held is left to its leases: %s", failure, extra={"event": "left_held"})


def _lose(held: Held) -> None:
    if not held.ended:
        held.lost = True


def _report(shelf: Shelf, leftover: Leftover) -> None:
    """A message that the caller never saw went elsewhere: say so, as a worker does."""
    outcome = leftover.outcome
    reason = getattr(outcome, "reason", None)
    failure = getattr(outcome, "failure", None)
    if reason is None or leftover.started:
        return
    logger.warning(
        "queue %s: message %s is not handed out: %s%s",
        shelf.name,
        getattr(getattr(leftover.item, "envelope", None), "id", leftover.item.entry_id),
        reason,
        f", {failure.message}" if failure else "",
        extra={"event": "not_handed_out", "queue": shelf.name, "reason": str(reason)},
    )
