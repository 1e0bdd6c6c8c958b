"""Consuming in an event loop. A read is a task of its own: a caller that is cancelled loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from leanmq_topology.brokers.protocol import (
    AsyncConnection,
    BlockingConnection,
    BlockingListener,
    Broker,
    Operation,
)
from leanmq_topology.client.consuming import settling
from leanmq_topology.client.consuming.arguments import (
    check_count,
    check_wait,
    read_delay_ms,
    read_extension_seconds,
)
from leanmq_topology.client.consuming.delivery import Delivery
from leanmq_topology.client.consuming.given import Given, give_back
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.client.consuming.housekeeper import Housekeeper
from leanmq_topology.client.consuming.naming import new_consumer_name
from leanmq_topology.client.consuming.opening import learn_queue
from leanmq_topology.client.consuming.settling import Grip, Pick, Settlement
from leanmq_topology.client.consuming.shelf import Rest, Shelf, Turn
from leanmq_topology.errors import LeanMQError
from leanmq_topology.messages.outcome import Released
from leanmq_topology.topology.model import Topology
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.steps import carry_out_async

ExecuteNoting = Callable[[Operation[Any]], Awaitable[tuple[Any, bool]]]
"""Carries an operation out in spite of breaks; the answer, and whether an earlier try may have done it."""

CLOSE_SECONDS = 2.0
TURN_SECONDS = 0.02
"""How often a task that waits for its turn looks whether its time is up."""


@dataclass(slots=True)
class _Desk:
    """One queue and the connection that reads it, one task at a time."""

    shelf: Shelf
    connection: AsyncConnection
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    reading: set[asyncio.Task[list[Held]]] = field(default_factory=set)
    reader: asyncio.Task[Any] | None = None
    """Whose turn it is."""


class AsyncConsumer:
    """Tasks of one event loop may share it: those that receive from one queue take turns."""

    def __init__(
        self,
        topology: Topology,
        broker: Broker,
        execute: ExecuteNoting,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        open_housekeeping: Callable[[], BlockingConnection],
        open_listener: Callable[[], BlockingListener],
    ) -> None:
        """`open_housekeeping` and `open_listener` are called in a thread."""
        self._topology, self._broker = topology, broker
        self._execute, self._open_connection = execute, open_connection
        self._open_housekeeping, self._open_listener = open_housekeeping, open_listener
        self._opening = asyncio.Lock()
        self._name, self._clock, self._outage = new_consumer_name(), ServerClock(), Outage()
        self._desks: dict[str, _Desk] = {}
        self._housekeeper: Housekeeper | None = None

    # -- receiving --------------------------------------------------------------------------------------

    async def receive(self, queue: str, count: int, wait: float, *, renew: bool) -> list[Delivery]:
        check_count("count", count)
        until = time.monotonic() + check_wait(wait)
        desk = await self._open(queue)
        found = await self._next(desk, count, until, count)
        return [self._hand_out(desk.shelf, held, renew) for held in found]

    def consume(self, queue: str, batch: int, *, renew: bool) -> AsyncIterator[Delivery]:
        return self._iterate(queue, check_count("batch", batch), renew)

    async def _iterate(self, queue: str, batch: int, renew: bool) -> AsyncIterator[Delivery]:
        desk = await self._open(queue)
        shelf, given = desk.shelf, Given(desk.shelf)
        shelf.users += 1
        try:
            while not shelf.closed:
                for held in await self._next(desk, 1, None, batch):
                    given.add(held)
                    # Without a name: while this waits, only the caller keeps the delivery alive.
                    yield self._hand_out(shelf, held, renew)
        finally:
            shelf.users -= 1
            given.give_back()
            if not shelf.users:
                shelf.release_ready()

    def _hand_out(self, shelf: Shelf, held: Held, renew: bool) -> Delivery:
        delivery = Delivery.make(Grip(shelf, held), self)
        held.hand_out(delivery, renew=renew)
        return delivery

    async def _next(self, desk: _Desk, count: int, until: float | None, read: int) -> list[Held]:
        found = desk.shelf.take_ready(count)
        if found or desk.shelf.closed:
            return found
        task = asyncio.create_task(self._read(desk, count, until, read), name="leanmq-receive")
        desk.reading.add(task)
        task.add_done_callback(desk.reading.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: _put_back(desk.shelf, done))
            self._call_back(desk, task)
            raise

    async def _read(self, desk: _Desk, count: int, until: float | None, read: int) -> list[Held]:
        """Of several tasks one reads, the others wait for their turn, or their time."""
        if not await self._take_turn(desk, until):
            return []
        desk.reader = asyncio.current_task()
        try:
            return await self._carry_out(desk, desk.shelf.receive(count, until, read=read))
        finally:
            desk.reader, desk.shelf.unwanted = None, False
            desk.turn.release()

    async def _take_turn(self, desk: _Desk, until: float | None) -> bool:
        """False: another task waits for messages already, and there was none in time."""
        while True:
            try:
                async with asyncio.timeout(TURN_SECONDS if until is not None else None):
                    return await desk.turn.acquire()
            except TimeoutError:
                in_time = until is None or time.monotonic() < until
                if desk.shelf.closed or (desk.shelf.waiting and not in_time):
                    return False

    async def _carry_out(self, desk: _Desk, turn: Turn[list[Held]]) -> list[Held]:
        try:
            step = next(turn)
            while True:
                answer, failure = await self._ask(desk, step)
                step = turn.send(answer) if failure is None else turn.throw(failure)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # its type, which StopIteration cannot say

    async def _ask(self, desk: _Desk, step: Operation[Any] | Rest) -> tuple[Any, LeanMQError | None]:
        if isinstance(step, Rest):
            await asyncio.sleep(step.seconds)
            return None, None
        try:
            return await desk.connection.execute(step), None
        except LeanMQError as failure:
            return None, failure
        except BaseException:
            desk.shelf.suspect()  # the whole loop is being torn down: the answer to come is lost
            raise

    def _call_back(self, desk: _Desk, task: asyncio.Task[Any]) -> None:
        """Nobody waits for this read any more: end it, without cutting off an answer on its way."""
        if desk.reader is not task:
            task.cancel()  # it only waits for its turn
            return
        desk.shelf.unwanted = True
        if self._housekeeper is not None:
            self._housekeeper.wake()

    # -- settling ---------------------------------------------------------------------------------------

    async def ack(self, grip: Grip) -> None:
        await self.settle([grip], settling.choose_done)

    async def nack(self, grip: Grip, delay: float | str | None, reason: str) -> None:
        await self.settle([grip], settling.choose_nack(reason, read_delay_ms(delay)))

    async def reject(self, grip: Grip, reason: str) -> None:
        await self.settle([grip], settling.choose_reject(reason))

    async def release(self, grip: Grip) -> None:
        await self.settle([grip], settling.choose_release)

    async def discard(self, grip: Grip) -> None:
        await self.settle([grip], settling.choose_discard)

    async def delete(self, grip: Grip) -> None:
        settling.raise_lost(await self._settle_one(settling.plan_deletion(self._broker, grip)))

    async def extend(self, grip: Grip, seconds: float | str) -> None:
        wanted, asked_at = read_extension_seconds(seconds), time.monotonic()
        kept, _ = await self._execute(settling.plan_extension(self._broker, grip))
        settling.note_extension(grip, kept, wanted, asked_at)

    async def settle_many(self, deliveries: Iterable[Delivery], choose: Pick) -> None:
        await self.settle([delivery._grip for delivery in deliveries], choose)

    async def settle(self, grips: Sequence[Grip], choose: Pick) -> None:
        steps = settling.plan_settlements(self._broker, grips, choose)
        lost: list[Grip] = []
        for at, step in enumerate(steps):
            try:
                lost += await self._settle_one(step)
            except BaseException:
                for later in steps[at + 1 :]:
                    later.withdraw()
                raise
        settling.raise_lost(lost)

    async def _settle_one(self, step: Settlement) -> list[Grip]:
        try:
            answer, repeated = await self._execute(step.operation)
        except BaseException:
            step.withdraw()
            raise
        return step.conclude(answer, repeated=repeated)

    # -- beginning and end ------------------------------------------------------------------------------

    async def _open(self, queue: str) -> _Desk:
        async with self._opening:
            desk = self._desks.get(queue)
            if desk is None:
                desk = self._desks[queue] = await self._open_desk(queue)
        return desk

    async def _open_desk(self, queue: str) -> _Desk:
        connection = await self._open_connection()
        try:
            learnt = learn_queue(self._broker, self._topology, queue)
            facts, acceptance = await carry_out_async(learnt, connection)
            housekeeper = self._housekeeper = self._housekeeper or await self._hire()
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
            await carry_out_async(shelf.watch.look(), connection)
        except BaseException:
            await connection.close()
            raise
        desk = self._desks[queue] = _Desk(shelf, connection)
        housekeeper.add(shelf)
        return desk

    async def _hire(self) -> Housekeeper:
        def connection_id(shelf: Shelf) -> int:
            desk = self._desks.get(shelf.name)
            return desk.connection.connection_id if desk else 0

        def begin() -> Housekeeper:
            connection = self._open_housekeeping()
            try:
                return Housekeeper(
                    self._broker,
                    connection,
                    self._name,
                    self._clock,
                    self._outage,
                    connection_id,
                    self._open_listener(),
                )
            except BaseException:
                connection.close()
                raise

        beginning = asyncio.ensure_future(asyncio.to_thread(begin))
        try:
            housekeeper = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_send_away)
            raise
        housekeeper.start()
        return housekeeper

    async def close(self) -> None:
        """End every read, give back what is not settled, give the name back."""
        housekeeper, self._housekeeper = self._housekeeper, None
        if housekeeper is None:
            return
        for desk in self._desks.values():
            desk.shelf.closed = True
        housekeeper.wake()
        for desk in self._desks.values():
            await self._close_desk(desk)
        await asyncio.to_thread(housekeeper.stop)
        for desk in self._desks.values():
            await desk.connection.close()
        self._desks = {}

    async def _close_desk(self, desk: _Desk) -> None:
        """The housekeeper calls a read that waits back."""
        if desk.reading:
            await asyncio.wait(desk.reading, timeout=CLOSE_SECONDS)
        for task in list(desk.reading):
            task.cancel()
            await asyncio.wait([task])
        if desk.shelf.is_suspect:
            with contextlib.suppress(LeanMQError):  # left to its leases
                await carry_out_async(desk.shelf.recover(), desk.connection)
        give_back(desk.shelf, list(desk.shelf.held.copy().values()))


def _put_back(shelf: Shelf, done: asyncio.Task[list[Held]]) -> None:
    """The caller was cancelled: what came for it goes back, uncounted."""
    if done.cancelled() or done.exception() is not None:
        return
    for held in done.result():
        shelf.give_up(held, Released())
    if not shelf.users:
        shelf.release_ready()


def _send_away(late: asyncio.Future[Housekeeper]) -> None:
    """Who asked for it was cancelled meanwhile."""
    if not late.cancelled() and late.exception() is None:
        late.result().send_away()
