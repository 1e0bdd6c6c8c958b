"""Connections that hear what is published, of either colour. They enter like any other, then only listen."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import hiredis

from leanmq_topology.brokers.protocol import Hear, Heard, Operation
from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection
from leanmq_topology.brokers.redis.broadcasting import is_message, read_message, read_name
from leanmq_topology.brokers.redis.calls import as_call, pack_words
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.failures import connection_lost, translate_break, translate_reply
from leanmq_topology.brokers.redis.pipe import RespPipe
from leanmq_topology.brokers.redis.wire import Wire

_CONFIRMATIONS = frozenset({b"subscribe", b"psubscribe"})


class ListeningPipe(RespPipe):
    """Answers go to whoever asked; what was published goes to `hear`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, where: str, hear: Hear) -> None:
        super().__init__(loop, where)
        self._hear = hear

    def _answer(self, reply: Any) -> None:
        if is_message(reply):
            self._hear(read_message(reply))
        else:
            super()._answer(reply)


class AsyncRedisListener(AsyncRedisConnection):
    """`hear` is called in the loop for each message, and must return at once."""

    def __init__(self, address: Address, *, client_name: str, hear: Hear) -> None:
        super().__init__(address, client_name=client_name)
        self._hear = hear

    def _make_pipe(self, loop: asyncio.AbstractEventLoop) -> RespPipe:
        return ListeningPipe(loop, self._address.masked, self._hear)

    async def lost(self) -> None:
        """Raises `BrokerUnavailableError` once the connection broke: from then on nothing is heard."""
        pipe, where = self._pipe, self._address.masked
        if pipe is not None:
            await asyncio.shield(pipe.ended)
        raise (pipe and pipe.failure) or connection_lost("it is not open", where=where, unknown=False)


class BlockingRedisListener(BlockingRedisConnection):
    """One thread opens, hears and closes; any may `tell`."""

    def __init__(self, address: Address, *, client_name: str) -> None:
        super().__init__(address, client_name=client_name)
        self._telling = threading.Lock()

    def reopen(self) -> None:
        """Connect, anew if need be: it hears nothing until told to."""
        with self._telling:
            self._drop()
            self._connected()

    def tell(self, operation: Operation[None]) -> None:
        """Say it; the answer comes among what is heard."""
        words = pack_words(as_call(operation).words())
        with self._telling:
            wire = self._alive()
            try:
                wire.write(words, self._address.timeout_ms / 1000)
            except OSError as failure:  # the thread that hears will close it
                raise translate_break(failure, where=self._address.masked, unknown=False) from failure

    def hear(self, seconds: float) -> Heard | str | None:
        """A message, or the name whose `listen` took effect (`""`: another answer); None: nothing in time."""
        wire, where = self._alive(), self._address.masked
        try:
            if not wire.can_read(seconds):
                return None
            reply = wire.read(self._address.timeout_ms / 1000)
        except (OSError, hiredis.HiredisError) as failure:
            self._drop()
            raise translate_break(failure, where=where, unknown=False) from failure
        if isinstance(reply, hiredis.ReplyError):
            raise translate_reply(str(reply), where=where)
        if is_message(reply):
            return read_message(reply)
        if isinstance(reply, list) and reply[0] in _CONFIRMATIONS:
            return read_name(reply[1])
        return ""

    def _alive(self) -> Wire:
        """The wire there is: a new one would hear nothing, and nobody would know."""
        if self._wire is None:
            raise connection_lost("it is not open", where=self._address.masked, unknown=False)
        return self._wire
