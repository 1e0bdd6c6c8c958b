"""URL scheme -> broker: the one place that names implementations.

They are imported when one is opened: a command that only might need a server does not pay for its client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import Struct

if TYPE_CHECKING:
    from asyncio import Future

    from leanmq_topology.brokers.embedded.launcher import Hold
    from leanmq_topology.brokers.protocol import (
        AsyncConnection,
        AsyncListener,
        BlockingConnection,
        BlockingListener,
        Broker,
        Hear,
        PipelinedConnection,
    )
    from leanmq_topology.brokers.redis.address import Address
    from leanmq_topology.brokers.redis.keys import Keys

EMBEDDED = re.compile(r"embedded(?:$|[:?])", re.IGNORECASE)
"""Mistyped forms too: the embedded broker's own parser says best what is wrong with them."""
CLIENT_NAME = "leanmq"


class Target(Struct, frozen=True):
    """A server that was found, or started: what it takes to connect to it once more."""

    shown: str
    """The URL asked for, without a password."""
    url: str
    address: Address
    client_name: str
    keys: Keys
    """The broker's: what one connection hears of where queues lie is known to all."""

    def __repr__(self) -> str:
        return f"Target({self.shown!r})"  # the other URL may hold a password


class BlockingLink(Struct, eq=False):
    """An open connection to a broker, and the broker's verbs. Not for use by two threads at once."""

    broker: Broker
    connection: BlockingConnection
    _target: Target
    _open: ExitStack

    @property
    def url(self) -> str:
        """The URL asked for, without a password."""
        return self._target.shown

    @property
    def confirm_timeout_ms(self) -> int:
        """How long disk or replicas may take to have a durable send."""
        return self._target.address.confirm_timeout_ms

    @property
    def server_url(self) -> str:
        """For child processes, while this link is open. It may hold a password: never print it."""
        return self._target.url

    def open_another(self) -> PipelinedConnection:
        """One more connection, for a blocking read; closed with this link at the latest."""
        return _connect_blocking(self._target, self._open)

    def prepare_another(self) -> PipelinedConnection:
        """As `open_another`, but it connects when first used: within the time of that use."""
        from leanmq_topology.brokers.redis.connection import BlockingRedisConnection

        target = self._target
        connection = BlockingRedisConnection(target.address, client_name=target.client_name, keys=target.keys)
        self._open.callback(connection.close)
        return connection

    def open_listener(self) -> BlockingListener:
        """One that hears channels. It connects when first used; whoever opened it closes it."""
        return _prepare_listener(self._target)

    def close(self) -> None:
        """Close every connection, then let go of an embedded server. Closing twice is harmless."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLink(Struct, eq=False):
    """An open connection to a broker, shared by the tasks of one event loop, and the broker's verbs."""

    broker: Broker
    connection: AsyncConnection
    _target: Target
    _open: AsyncExitStack

    @property
    def url(self) -> str:
        """The URL asked for, without a password."""
        return self._target.shown

    @property
    def confirm_timeout_ms(self) -> int:
        """How long disk or replicas may take to have a durable send."""
        return self._target.address.confirm_timeout_ms

    @property
    def server_url(self) -> str:
        """For child processes, while this link is open. It may hold a password: never print it."""
        return self._target.url

    async def open_another(self) -> AsyncConnection:
        """One more connection, for a blocking read; closed with this link at the latest."""
        return await _connect_async(self._target, self._open)

    def open_blocking(self) -> BlockingConnection:
        """One more, for a thread beside the loop. Whoever opened it closes it, before this link."""
        from leanmq_topology.brokers.redis.connection import BlockingRedisConnection

        target = self._target
        return BlockingRedisConnection.open(target.address, client_name=target.client_name, keys=target.keys)

    def open_blocking_listener(self) -> BlockingListener:
        """As `open_listener`, for a thread beside the loop. Whoever opened it closes it, before this link."""
        return _prepare_listener(self._target)

    def open_listener(self, hear: Hear) -> AsyncListener:
        """One that hears channels. It connects when first used; whoever opened it closes it."""
        from leanmq_topology.brokers.redis.listening import AsyncRedisListener

        return AsyncRedisListener(self._target.address, client_name=self._target.client_name, hear=hear)

    async def close(self) -> None:
        """Close every connection, then let go of an embedded server. Closing twice is harmless."""
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class HeldServer(Struct, frozen=True):
    """An embedded server that is kept running."""

    shown: str
    """The URL asked for."""
    url: str
    """For child processes, while it is held."""

    def __repr__(self) -> str:
        return f"HeldServer({self.shown!r})"  # the other URL may hold a password


def open_blocking(url: str, *, namespace: str, folder: Path, client_name: str = CLIENT_NAME) -> BlockingLink:
    """Connect to the server that `url` names; `embedded:` starts the one of `folder` if need be.

    An embedded server runs at least until the link is closed. Raises `SettingError` for a URL that cannot be
    used, `BrokerUnavailableError` if the server cannot be reached or started, `BrokerRefusedError` if it says
    no.
    """
    from leanmq_topology.brokers.redis.broker import RedisBroker

    with ExitStack() as opened:
        held = _hold_embedded(url, folder, client_name)
        if held is not None:
            opened.callback(held.close)
        broker = RedisBroker(namespace)
        target = _find_target(url, held, client_name, broker.keys)
        connection = _connect_blocking(target, opened)
        return BlockingLink(broker, connection, target, opened.pop_all())


@contextmanager
def hold_server(url: str, *, folder: Path, client_name: str = CLIENT_NAME) -> Iterator[HeldServer | None]:
    """Keep the embedded server that `url` asks for running, without a connection to it.

    None for any other URL: that server is there without our doing.
    """
    held = _hold_embedded(url, folder, client_name)
    try:
        yield HeldServer(_mask_embedded(url), held.url) if held else None
    finally:
        if held is not None:
            held.close()


def preload() -> None:
    """Import what opening needs, which takes most of its time. Whoever forks does it before, once for all."""
    from leanmq_topology.brokers.redis import broker, connection, pipe  # noqa: F401
    from leanmq_topology.brokers.redis.calls import load_all_scripts

    load_all_scripts()


async def open_async(url: str, *, namespace: str, folder: Path, client_name: str = CLIENT_NAME) -> AsyncLink:
    """What `open_blocking` does, for asyncio; the loop goes on while an embedded server starts or stops."""
    import asyncio

    from leanmq_topology.brokers.redis.broker import RedisBroker

    async with AsyncExitStack() as opened:
        held = await _hold_in_thread(url, folder, client_name)
        if held is not None:
            opened.push_async_callback(asyncio.to_thread, held.close)
        broker = RedisBroker(namespace)
        target = _find_target(url, held, client_name, broker.keys)
        connection = await _connect_async(target, opened)
        return AsyncLink(broker, connection, target, opened.pop_all())


def _hold_embedded(url: str, folder: Path, client_name: str) -> Hold | None:
    """A share in the embedded server, if that is what the URL asks for."""
    if not is_embedded(url):
        return None
    from leanmq_topology.brokers.embedded.address import parse_embedded
    from leanmq_topology.brokers.embedded.launcher import hold

    return hold(folder, parse_embedded(url), name=client_name)


async def _hold_in_thread(url: str, folder: Path, client_name: str) -> Hold | None:
    """The same without stopping the loop; a share that comes after a cancellation is given back."""
    import asyncio

    def give_back(late: Future[Hold | None]) -> None:
        held = None if late.cancelled() or late.exception() else late.result()
        if held is not None:
            held.close()

    holding = asyncio.ensure_future(asyncio.to_thread(_hold_embedded, url, folder, client_name))
    try:
        return await asyncio.shield(holding)
    except asyncio.CancelledError:
        holding.add_done_callback(give_back)
        raise


def is_embedded(url: str) -> bool:
    """Whether this URL asks for a server of our own."""
    return EMBEDDED.match(url) is not None


def _mask_embedded(url: str) -> str:
    from leanmq_topology.brokers.embedded.address import parse_embedded

    return parse_embedded(url).masked


def _find_target(url: str, held: Hold | None, client_name: str, keys: Keys) -> Target:
    from leanmq_topology.brokers.redis.address import parse_address

    address = parse_address(held.url if held else url)
    return Target(
        shown=_mask_embedded(url) if held else address.masked,
        url=held.url if held else url,
        address=address,
        client_name=address.client_name or client_name,
        keys=keys,
    )


def _connect_blocking(target: Target, opened: ExitStack) -> PipelinedConnection:
    from leanmq_topology.brokers.redis.connection import BlockingRedisConnection

    connection = BlockingRedisConnection.open(
        target.address, client_name=target.client_name, keys=target.keys
    )
    opened.callback(connection.close)
    return connection


def _prepare_listener(target: Target) -> BlockingListener:
    from leanmq_topology.brokers.redis.listening import BlockingRedisListener

    return BlockingRedisListener(target.address, client_name=target.client_name)


async def _connect_async(target: Target, opened: AsyncExitStack) -> AsyncConnection:
    from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection

    connection = await AsyncRedisConnection.open(
        target.address, client_name=target.client_name, keys=target.keys
    )
    opened.push_async_callback(connection.close)
    return connection
