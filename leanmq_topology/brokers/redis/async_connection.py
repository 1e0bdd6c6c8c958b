"""The asyncio connection: carries operations out over a `pipe`, and opens another when one broke."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, Self, TypeVar, cast

import hiredis
from msgspec import Struct

from leanmq_topology.brokers.protocol import Operation, Told, tell
from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.calls import Call, Refused, Word, amend, as_call
from leanmq_topology.brokers.redis.failures import (
    CHANGED_ROLE,
    cannot_connect,
    connecting_took_too_long,
    connection_lost,
    refuse_tls,
    reply_code,
    translate_reply,
)
from leanmq_topology.brokers.redis.handshake import GREETING, Greeting, entrance_words, read_entrance
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.pipe import RespPipe
from leanmq_topology.brokers.redis.wire import tune
from leanmq_topology.errors import BrokerUnavailableError, SettingError

T = TypeVar("T")

BLOCK_MARGIN_MS = 5_000
"""A blocking read may answer this much after the server's own time is up."""


class AsyncRedisConnection:
    """Carries calls out in the order they are given; any number of tasks may share it.

    A connection that broke is opened again by the next call; calls that met the break fail and are never
    repeated here. A blocking read stalls everything behind it: give it a connection of its own.
    """

    def __init__(self, address: Address, *, client_name: str, keys: Keys | None = None) -> None:
        """`keys` are those that the operations are made with: they learn where queues lie."""
        self._address, self._keys = address, keys
        self._client_name = client_name
        self._pipe: RespPipe | None = None
        self._greeting: Greeting | None = None
        self._connecting = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()
        """Tasks that `begin` could not do without."""
        self._closed = False

    @classmethod
    async def open(cls, address: Address, *, client_name: str = "leanmq", keys: Keys | None = None) -> Self:
        """Connect, enter, and check that the server will do.

        Raises `BrokerUnavailableError` if it cannot be reached, `BrokerRefusedError` if it says no.
        """
        connection = cls(address, client_name=client_name, keys=keys)
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
        if pipe.is_crowded:
            await pipe.wait_for_room()
        reply = await _converse(pipe, call, call.written(), self._limit_s(call))
        if isinstance(reply, hiredis.ReplyError):
            return cast(T, await self._recover(pipe, call, str(reply)))
        if reply is None and call.otherwise is not None:
            return await self.execute(call.otherwise())
        return cast(T, call.read(reply))

    def begin(self, operation: Operation[T], told: Told[T]) -> None:
        """Carry one operation out without a task, unless there is no open pipe or it has followers.

        One that falls back to a task may be overtaken by a later one that does not.
        """
        call, pipe = as_call(operation), self._pipe
        if pipe is None or pipe.failure is not None or pipe.is_crowded or call.followers:
            self._tell(self.execute(operation), told)
        else:
            pipe.say(call.written(), self._limit_s(call), _Beginning(self, pipe, call, told))

    def begin_all(self, begun: Iterable[tuple[Operation[Any], Told[Any]]]) -> None:
        """Several, as `begin` does it, in one write."""
        pipe = self._pipe
        if pipe is None or pipe.failure is not None or pipe.is_crowded:
            for operation, told in begun:
                self._tell(self.execute(operation), told)
            return
        for operation, told in begun:
            call = as_call(operation)
            if call.followers:
                self._tell(self.execute(operation), told)
            else:
                words = call.packed or call.words()
                pipe.queue(words, self._limit_s(call), _Beginning(self, pipe, call, told))
        pipe.write_queued()

    def take_refusal(self, pipe: RespPipe, call: Call[T], text: str, told: Told[T]) -> None:
        """An error reply to what was begun; what there is to do about it takes a task."""
        self._tell(self._recover(pipe, call, text), told)

    async def close(self) -> None:
        """Close at once; calls under way fail as unknown. Closing twice is harmless."""
        self._closed = True
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            reason = connection_lost("it was closed here", where=self._address.masked, unknown=True)
            pipe.abort(reason)
            await pipe.ended

    def _limit_s(self, call: Call[Any]) -> float:
        limit_ms = call.block_ms + BLOCK_MARGIN_MS if call.block_ms else self._address.timeout_ms
        return limit_ms / 1000

    def _tell(self, answer: Coroutine[Any, Any, T], told: Told[T]) -> None:
        task = asyncio.ensure_future(tell(answer, told))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _recover(self, pipe: RespPipe, call: Call[T], text: str) -> T:
        """An error reply: say it as the server can take it, else raise what the reply means."""
        while again := amend(call, text, self._keys):
            call = again[0]
            reply = await _converse(pipe, call, again[1], self._limit_s(call))
            if not isinstance(reply, hiredis.ReplyError):
                missing = reply is None and call.otherwise
                return await self.execute(missing()) if missing else call.read(reply)
            text = str(reply)
        if call.if_missing is not None and reply_code(text) == "NOGROUP":
            return await self.execute(call.if_missing())
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
            self._refuse_closed()
            if self._pipe is None or self._pipe.failure is not None:
                self._pipe, self._greeting = await self._connect()
            return self._pipe

    def _refuse_closed(self) -> None:
        if self._closed:
            raise cannot_connect("this connection was closed", where=self._address.masked)

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
            raise refuse_tls(failure, where=where) or cannot_connect(failure, where=where) from failure
        try:
            greeting = await self._enter(pipe)
            self._refuse_closed()  # nobody would close it any more
            return pipe, greeting
        except BaseException:
            pipe.abort(connection_lost("it was not entered", where=where, unknown=False))
            raise

    def _make_pipe(self, loop: asyncio.AbstractEventLoop) -> RespPipe:
        return RespPipe(loop, self._address.masked)

    async def _enter(self, pipe: RespPipe) -> Greeting:
        where, limit_s = self._address.masked, self._address.timeout_ms / 1000
        words = [*entrance_words(self._address, self._client_name), GREETING]
        replies = await asyncio.gather(*[pipe.call(word, limit_s) for word in words])
        return read_entrance(replies, where=where, again=self._greeting is not None)


class _Beginning(Struct, Generic[T], eq=False):
    """Stands where the future of a call would, and passes the answer on in the very turn it comes in."""

    _connection: AsyncRedisConnection
    _pipe: RespPipe
    _call: Call[T]
    _told: Told[T]

    def done(self) -> bool:
        """Never given up."""
        return False

    def set_result(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._connection.take_refusal(self._pipe, self._call, str(reply), self._told)
            return
        if reply is None and self._call.otherwise is not None:
            self._connection.begin(self._call.otherwise(), self._told)
            return
        result: T | Exception
        try:
            result = self._call.read(reply)
        except Exception as failure:
            result = failure
        self._told(result)

    def set_exception(self, failure: BrokerUnavailableError) -> None:
        self._told(failure)


def _converse(
    pipe: RespPipe, call: Call[Any], words: tuple[Word, ...] | bytes, limit_s: float
) -> Awaitable[Any]:
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
    tune(transport.get_extra_info("socket"))
    return pipe
