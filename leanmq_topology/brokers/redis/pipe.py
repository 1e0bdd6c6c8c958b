"""Our own small asyncio pipe over hiredis: what `async_connection` speaks through.

Everything given in one turn of the event loop leaves in one write; answers come back in order and each goes
to its own future. redis-py's asyncio connection packs in Python, which halves what a sender can do.

Cancelling an await drops only its future: a call not yet written is withdrawn, a written one is carried out
and its answer is thrown away when it comes, so no other call ever gets it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol, cast

import hiredis
from msgspec import Struct

from leanmq_topology.brokers.redis.calls import Word, pack_words
from leanmq_topology.brokers.redis.failures import (
    connection_lost,
    timed_out,
)
from leanmq_topology.errors import BrokerUnavailableError

HIGH_WATER_BYTES = 8 * 1024 * 1024
"""Above this much written and not yet answered, `execute` waits; it goes on below half of it."""
BUFFER_BYTES = 128 * 1024
"""Read in one turn of the loop at most: what a full read of a backlog brings, at some 400 bytes a message."""


class Answer(Protocol):
    """Where the reply to a call goes: a future, or somebody who is told at once."""

    def done(self) -> bool: ...
    def set_result(self, reply: Any) -> None: ...
    def set_exception(self, failure: BrokerUnavailableError) -> None: ...


class _Exchange(Struct, eq=False):
    """One call on its way: its bytes until they are written, and where its answer goes."""

    packed: bytes
    size: int
    answer: Answer
    limit_s: float
    written_at: float = 0.0


class RespPipe(asyncio.BufferedProtocol):
    """RESP2 over one transport: a queue of calls to write, a queue of calls that wait for their answer.

    It brings the buffer that is read into. asyncio would make one of 256 KiB for each read; where the system
    gives and takes back that memory every time (glibc, until something larger was freed), a small answer
    costs three times as much.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, where: str) -> None:
        self._loop, self._where = loop, where
        self._reader = hiredis.Reader()
        self._buffer: Any = bytearray(BUFFER_BYTES)  # hiredis takes it, whatever its stub says
        self._view = memoryview(self._buffer)
        self._transport: asyncio.Transport | None = None
        self._unwritten: list[_Exchange] = []
        self._waiting: deque[_Exchange] = deque()
        self.outstanding = 0
        """Bytes given and not yet answered."""
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered_at = 0.0
        self._retired = False
        self.failure: BrokerUnavailableError | None = None
        self.ended: asyncio.Future[None] = loop.create_future()

    # -- what the connection calls ----------------------------------------------------------------------

    def call(self, words: tuple[Word, ...] | bytes, limit_s: float) -> asyncio.Future[Any]:
        """Queue one command; its future gets the raw reply, an error reply included."""
        answer = self._loop.create_future()
        if self.failure is not None:
            answer.set_exception(self._lost(unknown=False))
            return answer
        if not self._unwritten:
            self._loop.call_soon(self.write_queued)
        self.queue(words, limit_s, answer)
        return answer

    def queue(self, words: tuple[Word, ...] | bytes, limit_s: float, answer: Answer) -> None:
        """Have one command written with the next write. Not for an ended pipe."""
        packed = words if type(words) is bytes else pack_words(words)
        self._unwritten.append(_Exchange(packed, len(packed), answer, limit_s))
        self.outstanding += len(packed)

    def say(self, words: tuple[Word, ...] | bytes, limit_s: float, answer: Answer) -> None:
        """Write one command right now, and with it what has been queued before. Not for an ended pipe."""
        if self._unwritten or self._transport is None:
            self.queue(words, limit_s, answer)
            self.write_queued()
            return
        packed = words if type(words) is bytes else pack_words(words)
        self._transport.write(packed)  # first of all: what is noted here takes as long as some of the way
        size = len(packed)
        self.outstanding += size
        self._waiting.append(_Exchange(b"", size, answer, limit_s, self._loop.time()))
        if self._timer is None:
            self._arm()

    def write_queued(self) -> None:
        """All of it in one write: once a loop turn, unless something is to leave at once."""
        if self.failure is not None or self._transport is None or not self._unwritten:
            return
        leaving, chunks = [], []
        for exchange in self._unwritten:
            if exchange.answer.done():  # cancelled before it was written: withdrawn
                self.outstanding -= exchange.size
                continue
            leaving.append(exchange)
            chunks.append(exchange.packed)
        self._unwritten.clear()
        if chunks:
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            now = self._loop.time()
            for exchange in leaving:
                exchange.packed, exchange.written_at = b"", now
            self._waiting += leaving
            if self._timer is None:
                self._arm()
        if self._room is not None:
            self._open_room()

    @property
    def is_crowded(self) -> bool:
        """Whether a sender is to wait for room before it gives more."""
        return self.outstanding > HIGH_WATER_BYTES

    async def wait_for_room(self) -> None:
        """Return once little enough is outstanding; raises when the connection ends meanwhile."""
        while self.is_crowded and self.failure is None:
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)

    def abort(self, failure: BrokerUnavailableError) -> None:
        """End the connection at once. Written calls fail as unknown, unwritten ones as not done."""
        if self.failure is not None:
            return
        self.failure = failure
        if self._timer is not None:
            self._timer.cancel()
        for exchange in self._waiting:
            self._fail(exchange, unknown=True)
        for exchange in self._unwritten:
            self._fail(exchange, unknown=False)
        self._waiting.clear()
        self._unwritten.clear()
        self._open_room()
        if self._transport is not None:
            self._transport.abort()

    def retire(self) -> None:
        """Close once every call has its answer."""
        self._retired = True
        self._close_if_done()

    # -- what the event loop calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = str(exc) if exc is not None else "the server closed it"
        self.abort(connection_lost(reason, where=self._where, unknown=True))
        if not self.ended.done():
            self.ended.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view  # TLS fills it piece by piece: a slice of a bytearray would be a copy

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.feed(self._buffer, 0, nbytes)
        self._answered_at = self._loop.time()
        try:
            while (reply := self._reader.gets()) is not False:
                self._answer(reply)
        except hiredis.ProtocolError as failure:
            self.abort(connection_lost(f"unreadable answer: {failure}", where=self._where, unknown=True))

    # -- inside -----------------------------------------------------------------------------------------

    def _answer(self, reply: Any) -> None:
        if not self._waiting:
            # A server that turns a client away (protected mode, too many clients) says so unasked.
            said = str(reply) if isinstance(reply, hiredis.ReplyError) else "an answer nobody asked for"
            self.abort(connection_lost(said, where=self._where, unknown=True))
            return
        exchange = self._waiting.popleft()
        self.outstanding -= exchange.size
        if self._waiting and self._waiting[0].limit_s < exchange.limit_s:
            self._arm_anew()
        if not exchange.answer.done():
            exchange.answer.set_result(reply)
        if self._room is not None:
            self._open_room()
        if self._retired:
            self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._waiting and not self._unwritten:
            self.abort(connection_lost("it was left", where=self._where, unknown=False))

    def _arm(self) -> None:
        """One timer, for the oldest call that waits."""
        if self._timer is None and self._waiting:
            self._timer = self._loop.call_at(self._deadline(), self._check_deadline)

    def _arm_anew(self) -> None:
        """What waits now may take less time than what was waited for, as behind a blocking read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def _deadline(self) -> float:
        """Answers come in order, so the oldest call's time starts when the one before it was answered."""
        oldest = self._waiting[0]
        return max(oldest.written_at, self._answered_at) + oldest.limit_s

    def _check_deadline(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        if self._loop.time() >= self._deadline():
            self.abort(timed_out(where=self._where, seconds=self._waiting[0].limit_s))
        else:
            self._arm()

    def _open_room(self) -> None:
        if self._room is None or (self.failure is None and self.outstanding > HIGH_WATER_BYTES // 2):
            return
        room, self._room = self._room, None
        if not room.done():
            room.set_result(None)

    def _fail(self, exchange: _Exchange, *, unknown: bool) -> None:
        if not exchange.answer.done():
            exchange.answer.set_exception(self._lost(unknown=unknown))

    def _lost(self, *, unknown: bool) -> BrokerUnavailableError:
        """A fresh error for each call: exceptions carry tracebacks and must not be shared."""
        failure = self.failure
        message = failure.message if failure else f"the connection to {self._where} is closed"
        return BrokerUnavailableError(message, hint=failure.hint if failure else None, unknown=unknown)
