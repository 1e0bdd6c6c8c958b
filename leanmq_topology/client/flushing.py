"""Sends of one turn of the event loop travel together: one flush, one script call, one write.

Up to two flushes are in flight, so that the server has one to store while the senders of the other go on;
what is sent meanwhile gathers behind them. Each sender gets its own result or its own error. A flush whose
answer was lost is sent again under the same sequence of the same producer, which the server notices.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from leanmq_topology.brokers.protocol import AsyncConnection, Flush, Operation, Sender, SendResult
from leanmq_topology.client.answers import Answer
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.persistence import persist_further_async
from leanmq_topology.client.sender import MOST_COPIES, weigh
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.envelope import Outgoing

MOST_FLUSH_BYTES: Final = 1024 * 1024
"""Above this a flush leaves without waiting for company; a single send or batch may be larger by itself."""

LEAST_SHARED: Final = 8
"""Sends that are waited for: fewer leave in one flush, for a flush costs as much as some sends."""

READY_QUEUE: Final = "_ready"
"""Where asyncio's loops keep what they are to run before they wait for events again."""


class _Parcel(Struct, eq=False):
    """Sends that share one fate and one answer."""

    sends: tuple[Outgoing, ...]
    together: bool
    answer: asyncio.Future[list[SendResult]]


class _Slot:
    """Room for one flush in flight, with its producer: of each the server remembers the last flush only."""

    __slots__ = ("carried", "producer")

    def __init__(self) -> None:
        self.producer = Producer()
        self.carried: list[_Parcel] = []


class Flusher:
    """Gathers sends and flushes them over one connection."""

    def __init__(self, connection: AsyncConnection, broker: Sender, *, in_flight: int = 2) -> None:
        """`in_flight`: flushes at a time."""
        self._connection, self._broker = connection, broker
        self._slots = [_Slot() for _ in range(in_flight)]
        self._free = self._slots[::-1]
        """Those with no flush in flight, the next one last."""
        self._parcels: deque[_Parcel] = deque()
        self._is_leaving = False
        """What has gathered leaves soon."""
        self._resending: asyncio.Task[None] | None = None
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        """Whoever closes waits for it."""

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
        if self._free and not self._is_leaving:
            self._is_leaving = True
            loop.call_soon(self._leave)  # in the next turn: everything sent in this one is gathered by then
        return parcel.answer

    def submit_lone(self, outgoing: Outgoing) -> asyncio.Future[list[SendResult]]:
        """`submit` for a send that its task waits for before it does anything else.

        It leaves right now if nothing is under way and the loop has nothing else to run that could send more
        in this turn: to wait for a turn that nobody else is in would only make it late.
        """
        loop = asyncio.get_running_loop()
        if self._is_busy or self._closed or _others_are_ready(loop):
            return self.submit((outgoing,))
        answer: Answer[list[SendResult]] = Answer(loop)
        self._flush([_Parcel((outgoing,), False, answer)])
        return answer

    async def close(self) -> None:
        """Wait for what was sent already; a flush that fails now is not tried again."""
        self._closed = True
        if self._is_busy:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    @property
    def _is_busy(self) -> bool:
        """A flush is in flight, or about to leave."""
        return len(self._free) < len(self._slots) or bool(self._parcels)

    def _leave(self) -> None:
        """What has gathered, as far as there is room for it."""
        self._is_leaving = False
        # Nothing overtakes what is sent again.
        while self._free and self._parcels and self._resending is None:
            parcels = self._take()
            if parcels:
                self._flush(parcels)
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._idle is not None and not self._is_busy and not self._idle.done():
            self._idle.set_result(None)

    def _flush(self, parcels: list[_Parcel]) -> None:
        slot = self._free.pop()
        slot.carried = parcels
        name, sequence = slot.producer.next()
        sends = parcels[0].sends
        if len(parcels) > 1:
            sends = tuple(outgoing for parcel in parcels for outgoing in parcel.sends)
        try:
            operation = self._broker.send(Flush(name, sequence, sends, all_or_none=parcels[0].together))
            self._connection.begin(operation, partial(self._hear, slot, operation, time.monotonic()))
        except Exception as failure:
            self._end(slot, failure)

    def _take(self) -> list[_Parcel]:
        """What goes into the next flush: a batch by itself, or single sends up to the bounds.

        Of many, half of what is waited for in all: so two flushes take turns, however uneven they began.
        """
        waited_for = len(self._parcels) + sum(len(slot.carried) for slot in self._slots)
        share = waited_for if waited_for < LEAST_SHARED else -(-waited_for // len(self._slots))
        taken: list[_Parcel] = []
        copies = size = 0
        while self._parcels and len(taken) < share:
            parcel = self._parcels[0]
            if parcel.answer.done():  # cancelled before it left
                self._parcels.popleft()
                continue
            more_copies, more_size = weigh(parcel.sends)
            copies, size = copies + more_copies, size + more_size
            fits = copies <= MOST_COPIES and size <= MOST_FLUSH_BYTES
            if taken and (parcel.together or taken[0].together or not fits):
                break
            taken.append(self._parcels.popleft())
        return taken

    def _hear(
        self,
        slot: _Slot,
        operation: Operation[list[SendResult]],
        began: float,
        answer: list[SendResult] | Exception,
    ) -> None:
        if isinstance(answer, LeanMQError):
            resending = self._resend(slot, operation, answer, began, after=self._resending)
            self._resending = asyncio.ensure_future(resending)
        else:
            self._end(slot, answer)

    async def _resend(
        self,
        slot: _Slot,
        operation: Operation[list[SendResult]],
        failure: LeanMQError,
        began: float,
        *,
        after: asyncio.Task[None] | None,
    ) -> None:
        """The same flush once more, while there is a point in it; `after` the one that left before it."""
        answer: list[SendResult] | Exception
        try:
            if after is not None:
                await asyncio.wait([after])
            answer, _ = await persist_further_async(
                self._connection, operation, failure, began=began, goes_on=lambda: not self._closed
            )
        except asyncio.CancelledError:
            lost = BrokerUnavailableError("the client stopped while this was sent", unknown=True)
            self._end_resending(slot, lost)
            raise
        except Exception as final:
            answer = final
        self._end_resending(slot, answer)

    def _end_resending(self, slot: _Slot, answer: list[SendResult] | Exception) -> None:
        if self._resending is asyncio.current_task():  # nobody comes after it
            self._resending = None
        self._end(slot, answer)

    def _end(self, slot: _Slot, answer: list[SendResult] | Exception) -> None:
        """Each sender gets its part. The next flush leaves when they have had their turn: what those who
        were answered send next goes with it.
        """
        if len(slot.carried) == 1 and not self._parcels:
            self._end_lone(slot, answer)
            return
        place = 0
        for parcel in slot.carried:
            place, start = place + len(parcel.sends), place
            if isinstance(answer, Exception):
                _fail(parcel, answer)
            elif not parcel.answer.done():
                parcel.answer.set_result(answer[start:place])
        asyncio.get_running_loop().call_soon(self._release, slot)

    def _end_lone(self, slot: _Slot, answer: list[SendResult] | Exception) -> None:
        """Nobody else waits: who sent goes on there and then where that may be, and may send the next."""
        [parcel] = slot.carried
        slot.carried = []
        self._free.append(slot)
        if isinstance(answer, Exception):
            _fail(parcel, answer)
        elif isinstance(parcel.answer, Answer) and asyncio.current_task() is None:
            parcel.answer.give(answer)
        elif not parcel.answer.done():
            parcel.answer.set_result(answer)
        self._tell_if_idle()

    def _release(self, slot: _Slot) -> None:
        slot.carried = []
        self._free.append(slot)
        self._leave()


def _others_are_ready(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether anything else runs before the loop waits for events again; True if it does not tell.

    What runs is taken out of the queue first. Nothing public says as much, and other loops have no such
    queue: there a send waits for the next turn.
    """
    ready: object = getattr(loop, READY_QUEUE, True)
    return bool(ready)


def _fail(parcel: _Parcel, failure: Exception) -> None:
    """Each sender gets an error of its own: a raised one collects its traceback."""
    if not parcel.answer.done():
        parcel.answer.set_exception(copy.copy(failure))
