"""Durable sends of the tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from leanmq_topology.brokers.protocol import AsyncConnection, Operation, SendResult, Told, tell
from leanmq_topology.client.confirmed import Levels
from leanmq_topology.client.flushing import Flusher
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.topology.durability import Durability

T = TypeVar("T")


class Confirmer:
    """Gathers durable sends and confirms them in groups, over one connection that the first of them opens."""

    def __init__(self, levels: Levels, open_connection: Callable[[], Awaitable[AsyncConnection]]) -> None:
        self._levels = levels
        self._line = _SingleLine(open_connection)
        self._flushers: dict[Durability, Flusher] = {}

    async def submit(
        self, sends: Sequence[Outgoing], level: Durability, *, together: bool = False
    ) -> list[SendResult]:
        """Send, and return once `level` is reached, or not in time. `together`: all of them or none.

        Cancelling withdraws what has not left yet; what has left is carried out.
        """
        flusher = self._flushers.get(level)
        if flusher is None:
            flusher = self._flushers[level] = Flusher(
                self._line, self._levels.make_sender(level), in_flight=1
            )
        return await flusher.submit(sends, together=together)

    async def close(self) -> None:
        """Wait for what was sent already. The connection belongs to whoever gave the way to open it."""
        await asyncio.gather(*(flusher.close() for flusher in self._flushers.values()))


class _SingleLine:
    """One operation at a time, so that one level's deadline does not run while another's is waited for."""

    def __init__(self, open_connection: Callable[[], Awaitable[AsyncConnection]]) -> None:
        self._open = open_connection
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def connection_id(self) -> int:
        return 0 if self._connection is None else self._connection.connection_id

    async def execute(self, operation: Operation[T]) -> T:
        async with self._turn:
            if self._connection is None:
                self._connection = await self._open()
            return await self._connection.execute(operation)

    def begin(self, operation: Operation[T], told: Told[T]) -> None:
        task = asyncio.ensure_future(tell(self.execute(operation), told))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def begin_all(self, begun: Iterable[tuple[Operation[Any], Told[Any]]]) -> None:
        for operation, told in begun:
            self.begin(operation, told)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
