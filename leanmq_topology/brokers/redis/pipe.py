"""The asyncio connection: our own small pipe over hiredis.

Everything given in one turn of the event loop leaves in one write; answers come back in order and each goes
to its own future. redis-py's asyncio connection packs in Python, which halves what a sender can do.

Cancelling an await drops only its future: a call not yet written is withdrawn, a written one is carried out
and its answer is thrown away when it comes, so no other call ever gets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar, cast

import hiredis

from leanmq_topology.brokers.protocol import Operation
from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.calls import Call, Refused, Script, Word, as_call, pack_words
from leanmq_topology.brokers.redis.failures import (
    CHANGED_ROLE,
    cannot_connect,
    connecting_took_too_long,
    connection_lost,
    refuse_tls,
    reply_code,
    timed_out,
    translate_reply,
)
from leanmq_topology.brokers.redis.handshake import (
    GREETING,
    Greeting,
    entrance_words,
    read_greeting,
    refuse_unknown_greeting,
)
from leanmq_topology.errors import BrokerUnavailableError, SettingError

T = TypeVar("T")

BLOCK_MARGIN_MS = 5_000
"""A blocking read may answer this much after the server's own time is up."""
HIGH_WATER_BYTES = 8 * 1024 * 1024
"""Above this much written and not yet answered, `execute` waits; it goes on below half of it."""


class _Exchange:
    """One call on its way: its bytes until they are written, and the future its answer goes to."""

    __slots__ = ("answer", "limit_s", "packed", "size", "written_at")

    def __init__(self, packed: bytes, answer: asyncio.Future[Any], limit_s: float) -> None:
        self.packed, self.size = packed, len(packed)
        self.answer = answer
        self.limit_s = limit_s
        self.written_at = 0.0


class RespPipe(asyncio.Protocol):
    """RESP2 over one transport: a queue of calls to write, a queue of calls that wait for their answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, where: str) -> None:
        self._loop, self._where = loop, where
        self._reader = hiredis.Reader()
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

    def call(self, words: tuple[Word, ...], limit_s: float) -> asyncio.Future[Any]:
        """Queue one command; its future gets the raw reply, an error reply included."""
        answer = self._loop.create_future()
        if self.failure is not None:
            answer.set_exception(self._lost(unknown=False))
            return answer
        exchange = _Exchange(pack_words(words), answer, limit_s)
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append(exchange)
        self.outstanding += exchange.size
        return answer

    async def wait_for_room(self) -> None:
        """Return once little enough is outstanding; raises when the connection ends meanwhile."""
        while self.outstanding > HIGH_WATER_BYTES and self.failure is None:
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

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._answered_at = self._loop.time()
        try:
            while (reply := self._reader.gets()) is not False:
                self._answer(reply)
        except hiredis.ProtocolError as failure:
            self.abort(connection_lost(f"unreadable answer: {failure}", where=self._where, unknown=True))

    # -- inside -----------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Once a loop turn: everything queued since, in one write."""
        if self.failure is not None or self._transport is None:
            return
        now = self._loop.time()
        chunks = []
        for exchange in self._unwritten:
            if exchange.answer.done():  # cancelled before it was written: withdrawn
                self.outstanding -= exchange.size
                continue
            chunks.append(exchange.packed)
            exchange.packed = b""
            exchange.written_at = now
            self._waiting.append(exchange)
        self._unwritten.clear()
        if chunks:
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            self._arm()
        self._open_room()

    def _answer(self, reply: Any) -> None:
        if not self._waiting:
            # A server that turns a client away (protected mode, too many clients) says so unasked.
            said = str(reply) if isinstance(reply, hiredis.ReplyError) else "an answer nobody asked for"
            self.abort(connection_lost(said, where=self._where, unknown=True))
            return
        exchange = self._waiting.popleft()
        self.outstanding -= exchange.size
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


class AsyncRedisConnection:
    """Carries calls out in the order they are given; any number of tasks may share it.

    A connection that broke is opened again by the next call; calls that met the break fail and are never
    repeated here. A blocking read stalls everything behind it: give it a connection of its own.
    """

    def __init__(self, address: Address, *, client_name: str) -> None:
        self._address = address
        self._client_name = client_name
        self._pipe: RespPipe | None = None
        self._greeting: Greeting | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(cls, address: Address, *, client_name: str = "leanmq") -> Self:
        """Connect, enter, and check that the server will do.

        Raises `BrokerUnavailableError` if it cannot be reached, `BrokerRefusedError` if it says no.
        """
        connection = cls(address, client_name=client_name)
        await connection._connected()
        return connection

    @property
    def connection_id(self) -> int:
        """The server's number for this connection (`Receiver.end_fetch` takes it); 0 while not connected."""
        alive = self._pipe is not None and self._pipe.failure is None
        return self._greeting.connection_id if self._greeting and alive else 0

    @property
    def address(self) -> Address:
        return self._address

    async def execute(self, operation: Operation[T]) -> T:
        """Carry one operation out. Every error is one of `leanmq_topology.errors`."""
        call = as_call(operation)
        pipe = self._pipe
        if pipe is None or pipe.failure is not None:
            pipe = await self._connected()
        if pipe.outstanding > HIGH_WATER_BYTES:
            await pipe.wait_for_room()
        limit_ms = call.block_ms + BLOCK_MARGIN_MS if call.block_ms else self._address.timeout_ms
        limit_s = limit_ms / 1000
        reply = await _converse(pipe, call, call.words(), limit_s)
        if isinstance(reply, hiredis.ReplyError):
            reply = await self._recover(pipe, call, str(reply), limit_s)
        return cast(T, call.read(reply))

    async def close(self) -> None:
        """Close at once; calls under way fail as unknown. Closing twice is harmless."""
        self._closed = True
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            reason = connection_lost("it was closed here", where=self._address.masked, unknown=True)
            pipe.abort(reason)
            await pipe.ended

    async def _recover(self, pipe: RespPipe, call: Call[Any], text: str, limit_s: float) -> Any:
        """An error reply: send the text of a script the server does not know, else raise what it means."""
        if reply_code(text) == "NOSCRIPT" and isinstance(call.command, Script):
            reply = await _converse(pipe, call, call.full_words(), limit_s)
            if not isinstance(reply, hiredis.ReplyError):
                return reply
            text = str(reply)
        if reply_code(text) in CHANGED_ROLE:
            self._leave(pipe)
        meant = call.read_error(text) if call.read_error else None
        raise meant or translate_reply(text, where=self._address.masked)

    def _leave(self, pipe: RespPipe) -> None:
        """The next call connects anew; what this pipe still waits for comes to its end."""
        if self._pipe is pipe:
            self._pipe = None
        pipe.retire()

    async def _connected(self) -> RespPipe:
        async with self._connecting:
            if self._closed:
                raise cannot_connect("this connection was closed", where=self._address.masked)
            if self._pipe is None or self._pipe.failure is not None:
                self._pipe, self._greeting = await self._connect()
            return self._pipe

    async def _connect(self) -> tuple[RespPipe, Greeting]:
        address, where = self._address, self._address.masked
        try:
            async with asyncio.timeout(address.connect_timeout_ms / 1000):
                pipe = await _dial(address, self._make_pipe)
        except SettingError:
            raise
        except TimeoutError as failure:
            raise connecting_took_too_long(where=where, tls=address.tls) from failure
        except (OSError, ValueError) as failure:
            raise refuse_tls(failure, where=where) or cannot_connect(str(failure), where=where) from failure
        try:
            return pipe, await self._enter(pipe)
        except BaseException:
            pipe.abort(connection_lost("it was not entered", where=where, unknown=False))
            raise

    def _make_pipe(self, loop: asyncio.AbstractEventLoop) -> RespPipe:
        return RespPipe(loop, self._address.masked)

    async def _enter(self, pipe: RespPipe) -> Greeting:
        where, limit_s = self._address.masked, self._address.timeout_ms / 1000
        words = [*entrance_words(self._address, self._client_name), GREETING]
        replies = await asyncio.gather(*[pipe.call(word, limit_s) for word in words])
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                if "unknown command" in str(reply).lower():
                    raise refuse_unknown_greeting(where=where)
                raise translate_reply(str(reply), where=where)
        return read_greeting(replies[-1], where=where, again=self._greeting is not None)


def _converse(pipe: RespPipe, call: Call[Any], words: tuple[Word, ...], limit_s: float) -> Awaitable[Any]:
    """Say the call and its followers in one turn, hence one write; an error reply to the call is returned."""
    first = pipe.call(words, limit_s)
    if not call.followers:
        return first
    return _hear([first, *[pipe.call(follower, limit_s) for follower in call.followers]])


async def _hear(answers: list[asyncio.Future[Any]]) -> Any:
    replies = await asyncio.gather(*answers)
    if isinstance(replies[0], hiredis.ReplyError):
        return replies[0]
    return [Refused(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies]


async def _dial(address: Address, make_pipe: Callable[[asyncio.AbstractEventLoop], RespPipe]) -> RespPipe:
    loop = asyncio.get_running_loop()

    def make() -> RespPipe:
        return make_pipe(loop)

    if address.path is not None:
        _, pipe = await loop.create_unix_connection(make, address.path)
        return pipe
    transport, pipe = await loop.create_connection(
        make, address.host, address.port, ssl=address.tls_context() if address.tls else None
    )
    _tune(transport)
    return pipe


def _tune(transport: asyncio.BaseTransport) -> None:
    """Small writes leave at once, and a peer that vanished is noticed."""
    raw = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
