"""Consuming without an event loop: the caller's own thread reads, on a connection for that alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from leanmq_topology.brokers.protocol import BlockingConnection, BlockingListener, Broker, Operation
from leanmq_topology.client.consuming import settling
from leanmq_topology.client.consuming.arguments import (
    check_count,
    check_wait,
    read_delay_ms,
    read_extension_seconds,
)
from leanmq_topology.client.consuming.delivery import SyncDelivery
from leanmq_topology.client.consuming.given import Given, give_back
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.client.consuming.housekeeper import Housekeeper
from leanmq_topology.client.consuming.naming import new_consumer_name
from leanmq_topology.client.consuming.opening import learn_queue
from leanmq_topology.client.consuming.settling import Grip, Pick, Settlement
from leanmq_topology.client.consuming.shelf import Rest, Shelf, Turn
from leanmq_topology.errors import LeanMQError
from leanmq_topology.topology.model import Topology
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.steps import carry_out

T = TypeVar("T")

ExecuteNoting = Callable[[Operation[Any]], tuple[Any, bool]]
"""Carries an operation out in spite of breaks; the answer, and whether an earlier try may have done it."""

CLOSE_SECONDS = 2.0
AT_ONCE = 0.0
"""When a receive ends that does not wait: long ago, in monotonic seconds."""
TURN_SECONDS = 0.02


@dataclass(slots=True)
class _Desk:
    """One queue, one thread at a time: it waits for messages on a connection for that alone."""

    shelf: Shelf
    connection: BlockingConnection | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)


class _QuickLine:
    """The connection for all that is answered at once; threads take turns. Opened by the first."""

    def __init__(self, open_connection: Callable[[], BlockingConnection]) -> None:
        self._open, self._lock = open_connection, threading.Lock()
        self._connection: BlockingConnection | None = None

    def execute(self, operation: Operation[T]) -> T:
        """Nothing is repeated."""
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            return self._connection.execute(operation)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()


class SyncConsumer:
    """Threads may share it: those that receive from one queue take turns."""

    def __init__(
        self,
        topology: Topology,
        broker: Broker,
        execute: ExecuteNoting,
        open_connection: Callable[[], BlockingConnection],
        open_listener: Callable[[], BlockingListener],
    ) -> None:
        self._topology, self._broker = topology, broker
        self._execute, self._open_connection, self._open_listener = execute, open_connection, open_listener
        self._opening = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._name, self._clock, self._outage = new_consumer_name(), ServerClock(), Outage()
        self._desks: dict[str, _Desk] = {}
        self._quick = _QuickLine(self._open_connection)
        self._housekeeper: Housekeeper | None = None

    # -- receiving --------------------------------------------------------------------------------------

    def receive(self, queue: str, count: int, wait: float, *, renew: bool) -> list[SyncDelivery]:
        desk, helds = self._receive(queue, count, wait)
        return [self._hand_out(desk.shelf, held, renew) for held in helds]

    def hold(self, queue: str, count: int, wait: float) -> list[Held]:
        """As `receive`, for who settles by entry id, and then says so (`forget`)."""
        desk = self._desks.get(queue)
        if wait or desk is None or self._process != os.getpid() or type(count) is not int:
            _, helds = self._receive(queue, count, wait)
        else:
            helds = self._next(desk, count, AT_ONCE, count)
        for held in helds:
            held.keep()
        return helds

    def forget(self, queue: str, entry_ids: Iterable[str]) -> None:
        """These were settled by their ids: their leases are renewed no longer."""
        desk = self._desks.get(queue)
        if desk is not None and self._process == os.getpid():
            desk.shelf.forget_settled(entry_ids)

    def _receive(self, queue: str, count: int, wait: float) -> tuple[_Desk, list[Held]]:
        seconds = check_wait(wait)
        until = time.monotonic() + seconds if seconds else AT_ONCE
        desk = self._open(queue)
        return desk, self._next(desk, check_count("count", count), until, count)

    def is_quiet(self, queue: str) -> bool:
        """Whether `receive` would find only what came since the last one. Asks nobody."""
        desk = self._desks.get(queue) if self._process == os.getpid() else None
        return desk is not None and desk.shelf.is_quiet

    def consume(self, queue: str, batch: int, *, renew: bool) -> Iterator[SyncDelivery]:
        return self._iterate(queue, check_count("batch", batch), renew)

    def _iterate(self, queue: str, batch: int, renew: bool) -> Iterator[SyncDelivery]:
        desk = self._open(queue)
        shelf, given = desk.shelf, Given(desk.shelf)
        shelf.users += 1
        try:
            while not shelf.closed:
                for held in self._next(desk, 1, None, batch):
                    given.add(held)
                    # Without a name: while this waits, only the caller keeps the delivery alive.
                    yield self._hand_out(shelf, held, renew)
        finally:
            shelf.users -= 1
            given.give_back()
            if not shelf.users:
                shelf.release_ready()

    def _hand_out(self, shelf: Shelf, held: Held, renew: bool) -> SyncDelivery:
        delivery = SyncDelivery.make(Grip(shelf, held), self)
        held.hand_out(delivery, renew=renew)
        return delivery

    def _next(self, desk: _Desk, count: int, until: float | None, read: int) -> list[Held]:
        """The next messages. Of several threads one reads, the others wait for their turn, or their time."""
        shelf = desk.shelf
        found = shelf.take_ready(count) if shelf.has_ready else []
        if found or not (desk.turn.acquire(blocking=False) or self._take_turn(desk, until)):
            return found
        try:
            fetch = shelf.plan_fetch(read) if until == AT_ONCE else None
            if fetch is not None:
                return shelf.take_in(self._fetch(shelf, fetch), count)
            return self._carry_out(desk, shelf.receive(count, until, read=read))
        finally:
            desk.turn.release()

    def _fetch(self, shelf: Shelf, fetch: Operation[T]) -> T:
        """Without the course of a receive, most of which is about waiting."""
        try:
            return self._quick.execute(fetch)
        except LeanMQError as failure:
            shelf.note_failure(failure)
            raise
        except BaseException:
            shelf.suspect()  # interrupted: the answer to come is lost
            raise

    def _take_turn(self, desk: _Desk, until: float | None) -> bool:
        """False: another thread waits for messages already, and there was none in time."""
        while not desk.turn.acquire(timeout=TURN_SECONDS):
            if desk.shelf.closed or (until is not None and time.monotonic() >= until and desk.shelf.waiting):
                return False
        return True

    def _carry_out(self, desk: _Desk, turn: Turn[T]) -> T:
        try:
            step = next(turn)
            while True:
                answer, failure = self._ask(desk, step)
                step = turn.send(answer) if failure is None else turn.throw(failure)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # its type is T, which StopIteration cannot say

    def _ask(self, desk: _Desk, step: Operation[Any] | Rest) -> tuple[Any, LeanMQError | None]:
        if isinstance(step, Rest):
            desk.shelf.bell.wait(step.seconds)
            desk.shelf.bell.clear()
            return None, None
        try:
            return self._find_line(desk).execute(step), None
        except LeanMQError as failure:
            return None, failure
        except BaseException:
            desk.shelf.suspect()  # interrupted: the answer to come is lost
            raise

    def _find_line(self, desk: _Desk) -> BlockingConnection | _QuickLine:
        if not desk.shelf.waiting:
            return self._quick
        if desk.connection is None:
            desk.connection = self._open_connection()
        return desk.connection

    # -- settling ---------------------------------------------------------------------------------------

    def ack(self, grip: Grip) -> None:
        self.settle([grip], settling.choose_done)

    def nack(self, grip: Grip, delay: float | str | None, reason: str) -> None:
        self.settle([grip], settling.choose_nack(reason, read_delay_ms(delay)))

    def reject(self, grip: Grip, reason: str) -> None:
        self.settle([grip], settling.choose_reject(reason))

    def release(self, grip: Grip) -> None:
        self.settle([grip], settling.choose_release)

    def discard(self, grip: Grip) -> None:
        self.settle([grip], settling.choose_discard)

    def delete(self, grip: Grip) -> None:
        settling.raise_lost(self._settle_one(settling.plan_deletion(self._broker, grip)))

    def extend(self, grip: Grip, seconds: float | str) -> None:
        wanted, asked_at = read_extension_seconds(seconds), time.monotonic()
        kept, _ = self._execute(settling.plan_extension(self._broker, grip))
        settling.note_extension(grip, kept, wanted, asked_at)

    def settle_many(self, deliveries: Iterable[SyncDelivery], choose: Pick) -> None:
        self.settle([delivery._grip for delivery in deliveries], choose)

    def settle(self, grips: Sequence[Grip], choose: Pick) -> None:
        steps = settling.plan_settlements(self._broker, grips, choose)
        lost: list[Grip] = []
        for at, step in enumerate(steps):
            try:
                lost += self._settle_one(step)
            except BaseException:
                for later in steps[at + 1 :]:
                    later.withdraw()
                raise
        settling.raise_lost(lost)

    def _settle_one(self, step: Settlement) -> list[Grip]:
        try:
            answer, repeated = self._execute(step.operation)
        except BaseException:
            step.withdraw()
            raise
        return step.conclude(answer, repeated=repeated)

    # -- beginning and end ------------------------------------------------------------------------------

    def _open(self, queue: str) -> _Desk:
        with self._opening:
            if self._process != os.getpid():
                self._begin()  # a forked child has none of its parent's threads, and shares none of its names
            desk = self._desks.get(queue)
            if desk is None:
                desk = self._desks[queue] = self._open_desk(queue)
        return desk

    def _open_desk(self, queue: str) -> _Desk:
        facts, acceptance = carry_out(learn_queue(self._broker, self._topology, queue), self._quick)
        housekeeper = self._housekeeper = self._housekeeper or self._hire()
        shelf = Shelf(
            facts,
            acceptance,
            self._broker,
            self._topology.broker.namespace,
            self._name,
            self._clock.now_ms,
            self._outage,
            housekeeper.wake,
            lambda: learn_queue(self._broker, self._topology, queue),
        )
        carry_out(shelf.watch.look(), self._quick)
        desk = self._desks[queue] = _Desk(shelf)
        housekeeper.add(shelf)
        return desk

    def _hire(self) -> Housekeeper:
        def connection_id(shelf: Shelf) -> int:
            desk = self._desks.get(shelf.name)
            return desk.connection.connection_id if desk and desk.connection else 0

        housekeeper = Housekeeper(
            self._broker,
            self._open_connection(),
            self._name,
            self._clock,
            self._outage,
            connection_id,
            self._open_listener(),
        )
        housekeeper.start()
        return housekeeper

    def close(self) -> None:
        """End every read, give back what is not settled, give the name back."""
        if self._process != os.getpid() or self._housekeeper is None:
            return
        for desk in self._desks.values():
            desk.shelf.closed = True
            desk.shelf.bell.set()
        self._housekeeper.wake()
        for desk in self._desks.values():
            self._close_desk(desk)
        self._housekeeper.stop()
        for desk in self._desks.values():
            if desk.connection is not None:
                desk.connection.close()
        self._quick.close()
        self._housekeeper, self._desks = None, {}

    def _close_desk(self, desk: _Desk) -> None:
        """A thread that reads for it is called back by the housekeeper."""
        if not desk.turn.acquire(timeout=CLOSE_SECONDS):
            return
        try:
            if desk.shelf.is_suspect:
                carry_out(desk.shelf.recover(), self._quick)
        except LeanMQError:
            pass  # what it holds without our knowing is left to its leases
        give_back(desk.shelf, list(desk.shelf.held.copy().values()))
