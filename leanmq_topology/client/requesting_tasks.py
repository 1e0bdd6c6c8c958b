"""Requests of the tasks of one event loop: one inbox, and one read of it under way while anybody waits.

A request that is alone leaves in the turn it is made, the read of its reply right behind it: that one is made
and written while the server is at the request. Nothing wakes its task before the reply: it goes on in the
callback that the reply comes in with.
Where several ask at once they are sent together, and a read is left under way when nobody waits any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

from leanmq_topology.brokers.protocol import (
    Arrived,
    AsyncConnection,
    Flush,
    Operation,
    Reply,
    SendResult,
    Stored,
    Told,
)
from leanmq_topology.client.answers import Answer, Deadlines
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.persistence import persist_async
from leanmq_topology.client.requesting import (
    LIFETIME_MS,
    LONGEST_READ_MS,
    READ_AT_ONCE,
    Mailbox,
    ReplyCounts,
    Request,
    RequestBroker,
    ran_out,
)
from leanmq_topology.client.sender import Batch
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, RequestTimeoutError
from leanmq_topology.messages.routing import Destination

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 1.0
"""How long closing may take to tell the server; it forgets the inbox by itself otherwise."""


@asynccontextmanager
async def _limit(
    route: str, seconds: float | None, due_at: float | None, message_id: str = ""
) -> AsyncIterator[None]:
    """What takes longer raises `RequestTimeoutError`, naming the request if it has an id."""
    timeout = asyncio.timeout_at(due_at)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if seconds is None or not timeout.expired():
            raise
        raise RequestTimeoutError(route, message_id, seconds) from None


async def read_in_time(route: str, reading: Awaitable[Destination], limit_ms: int | None) -> Destination:
    """What `reading` finds out about a route, unless that takes longer. Raises `RequestTimeoutError` then."""
    seconds = None if limit_ms is None else limit_ms / 1000
    due_at = None if seconds is None else asyncio.get_running_loop().time() + seconds
    async with _limit(route, seconds, due_at):
        return await reading


class _Unsent(NamedTuple):
    """What comes first instead of a reply: the request may not have been sent."""

    flush: Flush | None
    """To be sent again as it is; None: it was not stored, as its address is out of date."""
    answer: Answer[Reply | _Unsent | None]
    """Where the reply will be."""


_Answer = Answer[Reply | _Unsent | None]
"""None: its time is up."""


class Requester:
    """Hands each reply to the task that waits for it."""

    def __init__(
        self,
        broker: RequestBroker,
        connection: AsyncConnection,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        view: AppliedView,
        *,
        lifetime_ms: int = LIFETIME_MS,
    ) -> None:
        self._broker, self._connection = broker, connection
        self._open_connection, self._lifetime_ms = open_connection, lifetime_ms
        self._view, self._producer = view, Producer()
        self._box: Mailbox[_Answer] = Mailbox(os.getpid())
        self._line: AsyncConnection | None = None
        self._opening = asyncio.Lock()
        self._is_reading = False
        self._preparing: asyncio.Task[None] | None = None
        """Opens the line, or renews the inbox, before the next read."""
        self._pause = FIRST_PAUSE_SECONDS
        self._deadlines = Deadlines(self._box.waiting.values, _expire)
        self._closed = False

    @property
    def counts(self) -> ReplyCounts:
        return self._box.counts

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return len(self._box.waiting)

    async def open(self) -> str:
        """The inbox, alive for a while from now."""
        if self._box.needs_keeping(time.monotonic()):
            async with self._opening:
                await self._keep()
        return self._box.name

    async def open_in_time(self, route: str, seconds: float, due_at: float) -> str:
        """The same, for a request that waits until `due_at`. Raises `RequestTimeoutError`."""
        if self._box.needs_keeping(time.monotonic()):
            async with _limit(route, seconds, due_at):
                return await self.open()
        return self._box.name

    async def ask(
        self,
        request: Request,
        destination: Destination,
        send: Callable[[Batch], Awaitable[object]],
        *,
        seconds: float,
        due_at: float,
    ) -> Reply:
        """Have a request to this inbox sent, by `send` or ahead, and wait for its reply until `due_at`.

        That is the loop's time, and `seconds` after it began. Raises `RequestTimeoutError`.
        """
        name, box = request.id, self._box
        answer: _Answer = Answer(asyncio.get_running_loop(), due_at)
        box.add(name, answer)
        try:
            ahead = self._send_ahead(request, destination)
            self._deadlines.watch(answer)
            outcome = await answer if ahead else _Unsent(None, answer)
            if type(outcome) is _Unsent:
                async with _limit(request.target, seconds, due_at, name):
                    outcome = await self._exchange(request, outcome, send)
        finally:
            box.waiting.pop(name, None)
        if type(outcome) is Reply and (
            outcome.failure is None or not ran_out(outcome, due_at - asyncio.get_running_loop().time())
        ):
            return outcome
        raise RequestTimeoutError(request.target, name, seconds)

    async def close(self) -> None:
        """Delete the inbox. Whoever still waits is told that no reply will come."""
        self._fail_all(BrokerUnavailableError("this client is closed", unknown=True))
        self._closed = True
        self._deadlines.stop()
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)
        if self._box.is_open:
            with contextlib.suppress(LeanMQError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.execute(self._broker.close_inbox(self._box.name))

    async def _exchange(
        self,
        request: Request,
        outcome: Reply | _Unsent | None,
        send: Callable[[Batch], Awaitable[object]],
    ) -> Reply | None:
        """Send it until it is sent, and wait for the reply."""
        while isinstance(outcome, _Unsent):
            if not self._is_reading:
                self._is_reading = True
                self._read_on()
            if outcome.flush is None or not await self._send_again(request, outcome.flush):
                await send(request)
            outcome = await outcome.answer
        return outcome

    def _send_ahead(self, request: Request, destination: Destination) -> bool:
        """Send it, a read of the inbox behind it. False: one is under way, or there is no line yet."""
        line = self._line
        if self._is_reading or self._closed or line is None:
            return False
        flush = Flush(*self._producer.next(), tuple(request.address(destination, self._view)))
        line.begin(self._broker.attempt(flush), partial(self._hear_sent, request, flush))
        self._is_reading = True
        line.begin(*self._next_read())
        return True

    def _hear_sent(self, request: Request, flush: Flush, answer: list[SendResult] | Exception | None) -> None:
        """It is stored and will be answered, unless whoever asked must be told otherwise."""
        if type(answer) is list and type(answer[0]) is Stored and not answer[0].differs:
            return
        waiting = self._box.waiting.get(request.id)
        if waiting is None or waiting.done():
            return
        again: Flush | None = flush
        if isinstance(answer, list):
            try:
                if request.read(answer, self._view) is not None:
                    return
            except LeanMQError as failure:
                waiting.set_exception(failure)
                return
            again = None
        if again is not None:
            # Who sends ahead meanwhile is another producer: of each the server remembers the last flush only,
            # and would take this one, once it is sent again, for an earlier one that it has.
            self._producer = Producer()
        fresh: _Answer = Answer(waiting.get_loop(), waiting.due_at)
        self._box.waiting[request.id] = fresh
        waiting.set_result(_Unsent(again, fresh))

    async def _send_again(self, request: Request, flush: Flush) -> bool:
        """The same flush once more, which the server notices if it has it. False: it is not stored."""
        results = await persist_async(self._connection, self._broker.send(flush))
        return request.read(results, self._view) is not None

    async def _keep(self) -> None:
        """Make the inbox, or renew it; one that is gone is followed by another."""
        box, now = self._box, time.monotonic()
        if not box.needs_keeping(now):
            return  # somebody else did, while this waited for its turn
        if box.is_open:
            keep = self._broker.keep_inbox(box.name, lifetime_ms=self._lifetime_ms, read_to=box.read_to)
            if not await persist_async(self._connection, keep):
                box.move()
                await self._drop_line()
        if not box.is_open:
            make = self._broker.open_inbox(box.name, lifetime_ms=self._lifetime_ms)
            await persist_async(self._connection, make)
        box.note_kept(now)

    def _read_on(self) -> None:
        """Read as long as anybody waits. A break costs nothing: what was not read is still there."""
        if self._closed:
            self._is_reading = False
        elif self._line is None or (self._box.waiting and self._box.needs_keeping(time.monotonic())):
            self._preparing = asyncio.create_task(self._prepare(), name="leanmq-replies")
        else:
            self._line.begin(*self._next_read())

    def _next_read(self) -> tuple[Operation[list[Arrived]], Told[list[Arrived]]]:
        box = self._box
        read = self._broker.read_inbox(box.name, box.read_to, count=READ_AT_ONCE, block_ms=LONGEST_READ_MS)
        return read, partial(self._hear, box.name)

    async def _prepare(self) -> None:
        try:
            if self._line is None:
                self._line = await self._open_connection()
            if self._box.waiting:
                await self.open()
        except BrokerUnavailableError:
            self._pause_reading()
        except Exception as failure:
            self._end_reading(failure)
        else:
            self._read_on()

    def _hear(self, name: str, answer: list[Arrived] | Exception) -> None:
        """What a read brought. It may be from an inbox that was gone meanwhile, and there is another."""
        if isinstance(answer, BrokerUnavailableError):
            self._pause_reading()
            return
        if isinstance(answer, Exception):
            self._end_reading(answer)
            return
        self._pause = FIRST_PAUSE_SECONDS
        found = self._box.take(answer) if name == self._box.name else []
        if self._box.waiting:
            self._read_on()
        elif len(found) > 1:
            # After what those who were answered do in their turn, and send at the end of it.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._read_on)
        else:
            self._is_reading = False
            if found and asyncio.current_task() is None:
                waiter, reply = found.pop()
                waiter.give(reply)
        for waiter, reply in found:
            if not waiter.done():
                waiter.set_result(reply)

    def _pause_reading(self) -> None:
        """After a break; once nobody waits, there is no need to go on."""
        if self._closed or not self._box.waiting:
            self._is_reading = False
            return
        asyncio.get_running_loop().call_later(self._pause, self._read_on)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    def _end_reading(self, failure: Exception) -> None:
        self._is_reading = False
        self._fail_all(failure)

    async def _drop_line(self) -> None:
        """The read under way waits in an inbox that is gone; the next one takes a line of its own."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    def _fail_all(self, failure: Exception) -> None:
        for answer in self._box.waiting.values():
            if not answer.done():
                answer.set_exception(copy.copy(failure))
        self._box.waiting.clear()


def _expire(answer: _Answer) -> None:
    """Its time is up."""
    if not answer.done():
        answer.set_result(None)
