"""Requests of the tasks of one event loop: one inbox, and one read of it under way while anybody waits.

Answers are passed on in the turn of the loop they come in. A read is left under way for a while when nobody
waits any more, so that the next request finds it there already and has only itself to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from leanmq_topology.brokers.protocol import Arrived, AsyncConnection, Correspondent, Reply
from leanmq_topology.client.persistence import persist_async
from leanmq_topology.client.requesting import (
    LIFETIME_MS,
    LONGEST_READ_MS,
    READ_AT_ONCE,
    Mailbox,
    ReplyCounts,
    Request,
)
from leanmq_topology.client.sender import Batch
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, RequestTimeoutError
from leanmq_topology.messages.routing import Destination

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 1.0
"""How long closing may take to tell the server; it forgets the inbox by itself otherwise."""


async def read_in_time(route: str, reading: Awaitable[Destination], limit_ms: int | None) -> Destination:
    """What `reading` finds out about a route, unless that takes longer. Raises `RequestTimeoutError` then."""
    seconds = None if limit_ms is None else limit_ms / 1000
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await reading
    except TimeoutError:
        if seconds is None or not limit.expired():
            raise
        raise RequestTimeoutError(route, "", seconds) from None


class Requester:
    """Hands each reply to the task that waits for it."""

    def __init__(
        self,
        broker: Correspondent,
        connection: AsyncConnection,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        *,
        lifetime_ms: int = LIFETIME_MS,
    ) -> None:
        self._broker, self._connection = broker, connection
        self._open_connection, self._lifetime_ms = open_connection, lifetime_ms
        self._box: Mailbox[asyncio.Future[Reply]] = Mailbox(os.getpid())
        self._line: AsyncConnection | None = None
        self._opening = asyncio.Lock()
        self._is_reading = False
        self._preparing: asyncio.Task[None] | None = None
        """Opens the line, or renews the inbox, before the next read."""
        self._pause = FIRST_PAUSE_SECONDS
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

    async def ask(
        self,
        route: str,
        write: Callable[..., Request],
        send: Callable[[Batch], Awaitable[object]],
        *,
        seconds: float,
        began: float,
    ) -> Reply:
        """`write` a request to this inbox, `send` it, and wait for so long from `began` on (the loop's time).

        Raises `RequestTimeoutError`.
        """
        message_id = ""
        limit = asyncio.timeout_at(began + seconds)
        try:
            async with limit:
                request = write(inbox=await self.open())
                message_id = request.id
                answer = self._expect(message_id)
                try:
                    await send(request)
                    return await answer
                finally:
                    self._box.waiting.pop(message_id, None)
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeoutError(route, message_id, seconds) from None

    async def close(self) -> None:
        """Delete the inbox. Whoever still waits is told that no reply will come."""
        self._fail_all(BrokerUnavailableError("this client is closed", unknown=True))
        self._closed = True
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)
        if self._box.is_open:
            with contextlib.suppress(LeanMQError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.execute(self._broker.close_inbox(self._box.name))

    def _expect(self, request_id: str) -> asyncio.Future[Reply]:
        """The future of a reply, for as long as it is among those who wait."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._box.add(request_id, answer)
        if not self._is_reading:
            self._is_reading = True
            self._read_on()
        return answer

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
            self._read()

    def _read(self) -> None:
        assert self._line is not None
        box = self._box
        read = self._broker.read_inbox(box.name, box.read_to, count=READ_AT_ONCE, block_ms=LONGEST_READ_MS)
        self._line.begin(read, partial(self._hear, box.name))

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
        for future, reply in found:
            if not future.done():
                future.set_result(reply)
        if self._box.waiting:
            self._read_on()
        elif found:
            # After what those who were answered do in their turn, and send at the end of it.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._read_on)
        else:
            self._is_reading = False

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
