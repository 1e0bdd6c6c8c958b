"""Publishing and listening in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Self

from leanmq_topology.brokers.protocol import (
    AsyncConnection,
    AsyncListener,
    Broker,
    Hear,
    Heard,
    Publication,
    Stale,
)
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.channels.inbox import SubscriptionStatistics
from leanmq_topology.client.channels.names import check_channel, check_channels, is_pattern
from leanmq_topology.client.channels.publishing import (
    MOST_AT_ONCE,
    MOST_TRIES,
    Item,
    keeps_changing,
    write_publication,
)
from leanmq_topology.client.channels.reading import Ear, report_callback
from leanmq_topology.client.channels.standing import Standings
from leanmq_topology.client.channels.tally import PublishStatistics, Tally
from leanmq_topology.client.options import SendOptions
from leanmq_topology.client.persistence import persist_async
from leanmq_topology.clock import Clock
from leanmq_topology.errors import BrokerError, LeanMQError
from leanmq_topology.messages.broadcast import ChannelMessage
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.model import Topology
from leanmq_topology.upkeep.listening import watch_line
from leanmq_topology.upkeep.outage import Outage, Pauses

OpenListener = Callable[[Hear], AsyncListener]
Callback = Callable[[ChannelMessage], Any]


class AsyncChannels:
    """What a client does with ephemeral channels."""

    def __init__(
        self,
        topology: Topology,
        broker: Broker,
        connection: AsyncConnection,
        view: AppliedView,
        open_listener: OpenListener,
        clock: Clock,
    ) -> None:
        self._broker, self._connection, self._view, self._clock = broker, connection, view, clock
        self._standings = Standings(topology, view)
        self._open_listener = open_listener
        self._subscriptions: set[Subscription] = set()
        self._tally = Tally()

    async def publish(self, items: Iterable[tuple[str, Any]], options: SendOptions) -> list[int]:
        """All are checked before any is published; in one round trip for up to 1,000."""
        left = [(at, check_channel(channel), data) for at, (channel, data) in enumerate(items)]
        answers = [0] * len(left)
        try:
            for _ in range(MOST_TRIES):
                publications = [await self._write(channel, data, options) for _, channel, data in left]
                left = await self._carry_out(left, publications, answers)
                if not left:
                    return answers
            raise keeps_changing(left[0][1])
        except LeanMQError:
            self._tally.fail(channel for _, channel, _ in left)
            raise

    async def _write(self, channel: str, data: Any, options: SendOptions) -> Publication:
        standing = self._standings.find(channel) or await self.learn(channel)
        return write_publication(standing, data, options, self._view, now_ms=self._clock())

    async def _carry_out(
        self, items: Sequence[Item], publications: Sequence[Publication], answers: list[int]
    ) -> list[Item]:
        """Returns those whose channel has changed on the server; these were not published."""
        stale: list[Item] = []
        for start in range(0, len(items), MOST_AT_ONCE):
            part = slice(start, start + MOST_AT_ONCE)
            found = await self._connection.execute(self._broker.publish(publications[part]))
            for item, answer in zip(items[part], found, strict=True):
                if isinstance(answer, Stale):
                    self._standings.forget(item[1])
                    stale.append(item)
                else:
                    answers[item[0]] = answer
                    self._tally.count(item[1], answer)
        return stale

    async def learn(self, channel: str) -> Destination:
        fields = await persist_async(self._connection, self._broker.read_addresses([channel]))
        return self._standings.learn(channel, fields)

    def statistics(self) -> PublishStatistics:
        return self._tally.statistics()

    def subscribe(self, names: Iterable[str], buffer: int) -> Subscription:
        ear = Ear(self._standings, self._view, buffer)
        subscription = Subscription(self, self._broker, ear, self._open_listener, check_channels(names))
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    async def close(self) -> None:
        for subscription in list(self._subscriptions):
            await subscription.close()


class Subscription:
    """Listens to channels: `async for message in mq.subscribe("news", "alerts.*")`.

    It listens from `async with`, from the first message asked for, or from `listen` on, until `close`. What
    is published while nobody listens, or while the connection is down, is gone.
    """

    def __init__(
        self,
        channels: AsyncChannels,
        broker: Broker,
        ear: Ear,
        open_listener: OpenListener,
        names: Sequence[str],
    ) -> None:
        self._channels, self._broker, self._ear = channels, broker, ear
        self._names = dict.fromkeys(names)
        self._listener = open_listener(self._hear)
        self._outage = Outage()
        self._line: asyncio.Task[None] | None = None
        self._calls: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._closed = False

    @property
    def channels(self) -> tuple[str, ...]:
        """The names and patterns it listens to."""
        return tuple(self._names)

    @property
    def statistics(self) -> SubscriptionStatistics:
        return self._ear.inbox.statistics()

    async def start(self) -> None:
        """Listen from now on: what is published after this returns is heard. Calling it again is harmless.

        Raises `BrokerUnavailableError`, and `SettingError` for a queue or a route that stores.
        """
        if self._line is not None or self._closed:
            return
        await self._check(self._names)
        await self._listen(self._names)
        self._line = asyncio.create_task(self._keep_up(), name="leanmq-subscription")

    async def add(self, *names: str) -> None:
        """Listen to these too. While it listens, what is published after this returns is heard."""
        fresh = [name for name in check_channels(names) if name not in self._names]
        await self._check(fresh)
        self._names.update(dict.fromkeys(fresh))
        if self._line is not None:
            with contextlib.suppress(ConnectionError):  # the line is down: they are asked for when it is back
                await self._listen(fresh)

    async def remove(self, *names: str) -> None:
        """Listen to these no longer; names it does not listen to are passed over."""
        for name in check_channels(names):
            if name in self._names:
                del self._names[name]
                if self._line is not None:
                    with contextlib.suppress(ConnectionError):
                        await self._listener.execute(self._broker.stop_listening(name))

    async def next(self, wait: float | None = None) -> ChannelMessage | None:
        """The next message; None when `wait` seconds have passed without one, or it was closed."""
        await self.start()
        try:
            async with asyncio.timeout(wait):
                while not self._closed:
                    heard = self._ear.inbox.take()
                    if heard is not None:
                        message = await self._read(heard)
                        if message is not None:
                            return message
                        continue
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        return None

    async def listen(self, callback: Callback) -> None:
        """Call this (a function or a coroutine function) with each message from now on, in a task; returns.

        A callback that raises is logged, and the next message comes all the same.
        """
        await self.start()
        if self._calls is None:
            self._calls = asyncio.create_task(self._call(callback), name="leanmq-subscription-calls")

    async def stop(self) -> None:
        """Undo `listen`; it goes on listening, and messages wait to be read."""
        if self._calls is not None:
            self._calls.cancel()
            await asyncio.gather(self._calls, return_exceptions=True)
            self._calls = None

    async def close(self) -> None:
        """End it. Closing twice is harmless."""
        self._closed = True
        self._channels.forget(self)
        await self.stop()
        if self._line is not None:
            self._line.cancel()
            await asyncio.gather(self._line, return_exceptions=True)
        await self._listener.close()
        self._news.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[ChannelMessage]:
        return self

    async def __anext__(self) -> ChannelMessage:
        message = await self.next()
        if message is None:
            raise StopAsyncIteration
        return message

    def _hear(self, heard: Heard) -> None:
        if self._ear.hear(heard):
            self._news.set()

    async def _read(self, heard: Heard) -> ChannelMessage | None:
        broadcast = self._ear.open(heard)
        if broadcast is None:
            return None
        if self._ear.standings.is_outdated(heard.channel, broadcast.digest):
            await self._channels.learn(heard.channel)
        return self._ear.read(heard, broadcast)

    async def _call(self, callback: Callback) -> None:
        async for message in self:
            try:
                made = callback(message)
                if inspect.isawaitable(made):
                    await made
            except Exception:
                report_callback(message)

    async def _check(self, names: Iterable[str]) -> None:
        """Names of queues and of routes that store are errors now, and not silence later."""
        for name in names:
            if not is_pattern(name):
                await self._channels.learn(name)

    async def _listen(self, names: Iterable[str]) -> None:
        await asyncio.gather(*[self._listener.execute(self._broker.listen(name)) for name in names])

    async def _keep_up(self) -> None:
        """Wait for the line to break, and mend it: one failure is one line in the log."""
        pauses, broken = Pauses(), False
        while True:
            try:
                if broken:
                    await self._listen(self._names)
                    broken = False
                    self._outage.end()
                    pauses.reset()
                await watch_line(self._listener, self._broker)
            except BrokerError as failure:
                self._ear.inbox.interruptions += not broken
                broken = True
                self._outage.begin(failure)
                await asyncio.sleep(pauses.seconds())
