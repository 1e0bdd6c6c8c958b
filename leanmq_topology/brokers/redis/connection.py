"""The blocking connection: one socket, one operation at a time, nothing repeated behind the caller's back."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NoReturn, Self, TypeVar

import hiredis

from leanmq_topology.brokers.protocol import Operation
from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.calls import Call, Refused, Word, amend, as_call, pack_words
from leanmq_topology.brokers.redis.failures import (
    CHANGED_ROLE,
    cannot_connect,
    connecting_took_too_long,
    refuse_tls,
    reply_code,
    timed_out,
    translate_break,
    translate_reply,
)
from leanmq_topology.brokers.redis.handshake import GREETING, Greeting, entrance_words, read_entrance
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.wire import Wire, dial
from leanmq_topology.errors import LeanMQError

T = TypeVar("T")

BLOCK_MARGIN_MS = 5_000
"""A blocking read may answer this much after the server's own time is up."""


class BlockingRedisConnection:
    """Carries calls out one at a time. Not for use by two threads at once.

    A connection that broke is opened again by the next call; the call that met the break fails and is never
    repeated here, because only the caller knows whether repeating is harmless.
    """

    def __init__(self, address: Address, *, client_name: str, keys: Keys | None = None) -> None:
        """`keys` are those that the operations are made with: they learn where queues lie."""
        self._address, self._keys = address, keys
        self._client_name = client_name
        self._limit_s = address.timeout_ms / 1000
        self._wire: Wire | None = None
        self._begun: deque[Call[Any]] = deque()
        """Written, and their answers not read yet."""
        self._greeting: Greeting | None = None
        self._process = os.getpid()
        self._closed = False

    @classmethod
    def open(cls, address: Address, *, client_name: str = "leanmq", keys: Keys | None = None) -> Self:
        """Connect, enter, and check that the server will do.

        Raises `BrokerUnavailableError` if it cannot be reached, `BrokerRefusedError` if it says no.
        """
        connection = cls(address, client_name=client_name, keys=keys)
        connection._connected()
        return connection

    @property
    def connection_id(self) -> int:
        """The server's number for this connection (`Receiver.end_fetch` takes it); 0 while not connected."""
        return self._greeting.connection_id if self._greeting and self._wire else 0

    @property
    def address(self) -> Address:
        return self._address

    def execute(self, operation: Operation[T], within_s: float | None = None) -> T:
        """Carry one operation out. Every error is one of `leanmq_topology.errors`."""
        call: Call[Any] = operation if isinstance(operation, Call) else as_call(operation)
        until = inf if within_s is None else time.monotonic() + within_s
        if self._begun:
            self._drop()
        wire = self._wire
        if wire is None or self._process != os.getpid():
            wire = self._connected(until)
        if until == inf and not call.block_ms:
            limit_s = self._limit_s
        else:
            limit_s = _shorten(self._limit_ms(call), until)
        try:
            reply = _converse(wire, call, call.packed or call.words(), limit_s)
            while isinstance(reply, hiredis.ReplyError) and (again := amend(call, str(reply), self._keys)):
                call = again[0]
                reply = _converse(wire, call, again[1], limit_s)
        except BaseException as failure:
            self._break_off(failure, limit_s)
        instead: Callable[[], Operation[T]] | None = call.otherwise if reply is None else None
        if isinstance(reply, hiredis.ReplyError):
            instead = call.if_missing if reply_code(str(reply)) == "NOGROUP" else None
            if instead is None:
                raise self._refuse(call, str(reply))
        if instead is not None:
            left_s = None if within_s is None else max(until - time.monotonic(), 0.0)
            return self.execute(instead(), left_s)
        result: T = call.read(reply)
        return result

    def begin(self, operations: Sequence[Operation[Any]], within_s: float) -> None:
        """Write several in one go; `finish` gives their answers, one by one.

        Raises `ValueError` for one with `otherwise`, `if_missing` or followers, before anything is written.
        """
        calls, chunks = [], []
        for operation in operations:
            call = as_call(operation)
            if call.otherwise or call.if_missing or call.followers:
                raise ValueError(
                    f"{call.name} may take more than one answer: it can only be executed, not begun"
                )
            calls.append(call)
            chunks.append(call.packed or pack_words(call.words()))
        if self._begun:
            self._drop()
        until = time.monotonic() + within_s
        wire = self._connected(until)
        limit_s = _shorten(self._address.timeout_ms, until)
        try:
            wire.write(b"".join(chunks), limit_s)
        except BaseException as failure:
            self._break_off(failure, limit_s)
        self._begun.extend(calls)

    def finish(self, within_s: float) -> Any:
        """What the first operation gives that was begun and is not finished.

        Every error reply is raised, NOSCRIPT and MISPLACED too: nothing is said again here.
        """
        wire = self._wire
        if wire is None or not self._begun or self._process != os.getpid():
            raise cannot_connect("it was given up", where=self._address.masked)
        call = self._begun[0]
        limit_s = min(self._limit_ms(call) / 1000, within_s)
        try:
            reply = wire.read_soon(limit_s)
        except BaseException as failure:
            self._break_off(failure, limit_s)
        self._begun.popleft()
        if isinstance(reply, hiredis.ReplyError):
            raise self._refuse(call, str(reply))
        return call.read(reply)

    @property
    def has_begun(self) -> bool:
        """Something was begun here that is not finished, and its answer may still come."""
        return bool(self._begun) and self._process == os.getpid()

    def can_finish(self, within_s: float) -> bool:
        """Whether its answer begins to come, or the connection ends, within that time."""
        return self._wire is None or self._wire.can_read(within_s)

    def close(self) -> None:
        """Close the socket; a closed connection stays closed. Closing twice is harmless."""
        self._closed = True
        self._drop()

    def _connected(self, until: float = inf) -> Wire:
        if self._process != os.getpid():
            # A forked child must not speak on its parent's socket; dropping the descriptor is enough.
            self._process, self._wire = os.getpid(), None
            self._begun.clear()
        if self._closed:
            raise cannot_connect("this connection was closed", where=self._address.masked)
        if self._wire is None:
            self._wire, self._greeting = self._connect(until)
        return self._wire

    def _connect(self, until: float) -> tuple[Wire, Greeting]:
        address, where = self._address, self._address.masked
        try:
            wire = dial(address, _shorten(address.connect_timeout_ms, until))
            return wire, self._enter(wire, _shorten(address.timeout_ms, until))
        except LeanMQError:
            raise
        except TimeoutError as failure:
            raise connecting_took_too_long(where=where, tls=address.tls) from failure
        except (OSError, ValueError, hiredis.HiredisError) as failure:
            raise refuse_tls(failure, where=where) or cannot_connect(failure, where=where) from failure

    def _enter(self, wire: Wire, limit_s: float) -> Greeting:
        words = [*entrance_words(self._address, self._client_name), GREETING]
        try:
            wire.write(b"".join(map(pack_words, words)), limit_s)
            replies = [wire.read(limit_s) for _ in words]
            return read_entrance(replies, where=self._address.masked, again=self._greeting is not None)
        except BaseException:
            wire.close()
            raise

    def _limit_ms(self, call: Call[Any]) -> int:
        return call.block_ms + BLOCK_MARGIN_MS if call.block_ms else self._address.timeout_ms

    def _break_off(self, failure: BaseException, limit_s: float) -> NoReturn:
        """Something failed, or was interrupted, before an answer was read: those to come belong to nobody."""
        self._drop()
        if isinstance(failure, TimeoutError):
            raise timed_out(where=self._address.masked, seconds=limit_s) from failure
        if isinstance(failure, OSError | hiredis.HiredisError):
            raise translate_break(failure, where=self._address.masked) from failure
        raise failure

    def _refuse(self, call: Call[Any], text: str) -> Exception:
        """What an error reply means."""
        if reply_code(text) in CHANGED_ROLE:
            self._drop()
        meant = call.read_error(text) if call.read_error else None
        return meant or translate_reply(text, where=self._address.masked)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        self._begun.clear()
        if wire is not None and self._process == os.getpid():
            wire.close()


def _shorten(limit_ms: int, until: float) -> float:
    """Seconds that something may take, and no longer than `until` (monotonic seconds)."""
    if until == inf:
        return limit_ms / 1000
    return max(min(limit_ms / 1000, until - time.monotonic()), 0.0)


def _converse(wire: Wire, call: Call[Any], words: tuple[Word, ...] | bytes, limit_s: float) -> Any:
    """Say the call and its followers in one write; an error reply to the call itself is returned."""
    if not call.followers:
        wire.write(words if isinstance(words, bytes) else pack_words(words), limit_s)
        return wire.read(limit_s) if call.block_ms else wire.read_soon(limit_s)
    wire.write(b"".join(map(pack_words, (words, *call.followers))), limit_s)
    first, *others = [wire.read(limit_s) for _ in range(len(call.followers) + 1)]
    if isinstance(first, hiredis.ReplyError):
        return first
    return [first, *(Refused(str(one)) if isinstance(one, hiredis.ReplyError) else one for one in others)]
