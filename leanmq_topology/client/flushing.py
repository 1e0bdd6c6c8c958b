"""Sends of one turn of the event loop travel together: one flush, one script call, one write.

One flush is in flight at a time; what is sent meanwhile gathers behind it. Each sender gets its own result or
its own error. A flush whose answer was lost is sent again under the same sequence, which the server notices.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Sequence
from typing import Final

from leanmq_topology.brokers.protocol import AsyncConnection, Flush, Sender, SendResult
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.persistence import persist_async
from leanmq_topology.client.sender import MOST_COPIES, weigh
from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.messages.envelope import Outgoing

MOST_FLUSH_BYTES: Final = 1024 * 1024
"""Above this a flush leaves without waiting for company; a single send or batch may be larger by itself."""


class _Parcel:
    """Sends that share one fate and one answer."""

    __slots__ = ("answer", "copies", "sends", "size", "together")

    def __init__(self, sends: tuple[Outgoing, ...], together: bool, answer: asyncio.Future[list[SendResult]]):
        self.sends, self.together, self.answer = sends, together, answer
        self.copies, self.size = weigh(sends)


class Flusher:
    """Gathers sends and flushes them over one connection."""

    def __init__(self, connection: AsyncConnection, broker: Sender) -> None:
        self._connection, self._broker = connection, broker
        self._producer = Producer()
        self._parcels: deque[_Parcel] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def submit(
        self, sends: Sequence[Outgoing], *, together: bool = False
    ) -> asyncio.Future[list[SendResult]]:
        """Queue sends for the next flush; results in their order. `together`: all of them or none.

        Cancelling withdraws what has not left yet; what has left is carried out.
        """
        loop = asyncio.get_running_loop()
        parcel = _Parcel(tuple(sends), together, loop.create_future())
        if self._closed:
            parcel.answer.set_exception(BrokerUnavailableError("this client is closed"))
            return parcel.answer
        self._parcels.append(parcel)
        if self._running is None:
            # A task starts in the next turn of the loop: everything sent in this one is gathered by then.
            self._running = loop.create_task(self._run(), name="leanmq-flush")
        return parcel.answer

    async def close(self) -> None:
        """Wait for what was sent already; a flush that fails now is not tried again."""
        self._closed = True
        if self._running is not None:
            await asyncio.shield(self._running)

    async def _run(self) -> None:
        try:
            while parcels := self._take():
                await self._flush(parcels)
        finally:
            self._running = None
            for parcel in self._parcels:  # only when this task itself was cancelled
                _fail(parcel, BrokerUnavailableError("the client stopped before this was sent"))
            self._parcels.clear()

    def _take(self) -> list[_Parcel]:
        """What goes into the next flush: a batch by itself, or single sends up to the bounds."""
        taken: list[_Parcel] = []
        copies = size = 0
        while self._parcels:
            parcel = self._parcels[0]
            if parcel.answer.done():  # cancelled before it left
                self._parcels.popleft()
                continue
            fits = copies + parcel.copies <= MOST_COPIES and size + parcel.size <= MOST_FLUSH_BYTES
            if taken and (parcel.together or taken[0].together or not fits):
                break
            taken.append(self._parcels.popleft())
            copies, size = copies + parcel.copies, size + parcel.size
        return taken

    async def _flush(self, parcels: list[_Parcel]) -> None:
        name, sequence = self._producer.next()
        sends = tuple(outgoing for parcel in parcels for outgoing in parcel.sends)
        flush = Flush(name, sequence, sends, all_or_none=parcels[0].together)
        try:
            operation = self._broker.send(flush)
            results = iter(await persist_async(self._connection, operation, goes_on=lambda: not self._closed))
        except asyncio.CancelledError:
            for parcel in parcels:
                _fail(parcel, BrokerUnavailableError("the client stopped while this was sent", unknown=True))
            raise
        except Exception as failure:
            for parcel in parcels:
                _fail(parcel, failure)
            return
        for parcel in parcels:
            answer = [next(results) for _ in parcel.sends]
            if not parcel.answer.done():
                parcel.answer.set_result(answer)


def _fail(parcel: _Parcel, failure: Exception) -> None:
    """Each sender gets an error of its own: a raised one collects its traceback."""
    if not parcel.answer.done():
        parcel.answer.set_exception(copy.copy(failure))
