"""Requests of the tasks of one event loop: one inbox, and one task that reads it while anybody waits."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from leanmq_topology.brokers.protocol import AsyncConnection, Correspondent, Reply
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
        self._reading: asyncio.Task[None] | None = None

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
                with self.expect(message_id) as answer:
                    await send(request)
                    return await answer
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeoutError(route, message_id, seconds) from None

    @contextlib.contextmanager
    def expect(self, request_id: str) -> Iterator[asyncio.Future[Reply]]:
        """The future of a reply; nobody waits for it any more once the block is left."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._box.add(request_id, answer)
        try:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read(), name="leanmq-replies")
            yield answer
        finally:
            self._box.waiting.pop(request_id, None)

    async def close(self) -> None:
        """Delete the inbox. Whoever still waits is told that no reply will come."""
        self._fail_all(BrokerUnavailableError("this client is closed", unknown=True))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._box.is_open:
            with contextlib.suppress(LeanMQError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.execute(self._broker.close_inbox(self._box.name))

    async def _keep(self) -> None:
        """Make the inbox, or renew it; one that is gone is followed by another."""
        box, now = self._box, time.monotonic()
        if not box.needs_keeping(now):
            return  # somebody else did, while this waited for its turn
        if box.is_open:
            keep = self._broker.keep_inbox(box.name, lifetime_ms=self._lifetime_ms, read_to=box.read_to)
            if not await persist_async(self._connection, keep):
                box.move()
        if not box.is_open:
            make = self._broker.open_inbox(box.name, lifetime_ms=self._lifetime_ms)
            await persist_async(self._connection, make)
        box.note_kept(now)

    async def _read(self) -> None:
        """Read as long as anybody waits. A break costs nothing: what was not read is still there."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while self._box.waiting:
                try:
                    await self._read_once()
                    pause = FIRST_PAUSE_SECONDS
                except BrokerUnavailableError:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except Exception as failure:
            self._fail_all(failure)
        finally:
            self._reading = None

    async def _read_once(self) -> None:
        if self._line is None:
            self._line = await self._open_connection()
        box = self._box
        name = box.name
        read = self._broker.read_inbox(name, box.read_to, count=READ_AT_ONCE, block_ms=LONGEST_READ_MS)
        arrived = await self._line.execute(read)
        if name == box.name:  # else it was gone meanwhile, and there is another
            for answer, reply in box.take(arrived):
                if not answer.done():
                    answer.set_result(reply)
        await self.open()

    def _fail_all(self, failure: Exception) -> None:
        for answer in self._box.waiting.values():
            if not answer.done():
                answer.set_exception(copy.copy(failure))
        self._box.waiting.clear()
