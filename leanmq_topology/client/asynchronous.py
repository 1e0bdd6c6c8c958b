"""`connect`: the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from leanmq_topology.brokers.examination import insist
from leanmq_topology.brokers.protocol import (
    AsyncConnection,
    AsyncListener,
    BlockingConnection,
    BlockingListener,
    Broker,
    Hear,
    Stored,
)
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.channels.asynchronous import AsyncChannels, Subscription
from leanmq_topology.client.channels.inbox import LARGEST_BUFFER, check_buffer
from leanmq_topology.client.channels.tally import PublishStatistics
from leanmq_topology.client.confirmed import Levels
from leanmq_topology.client.confirmed_tasks import Confirmer
from leanmq_topology.client.consuming.arguments import read_delay_ms
from leanmq_topology.client.consuming.asynchronous import AsyncConsumer
from leanmq_topology.client.consuming.delivery import Delivery
from leanmq_topology.client.consuming.settling import choose_done, choose_nack, choose_reject, choose_release
from leanmq_topology.client.flushing import Flusher
from leanmq_topology.client.options import PLAIN, read_options
from leanmq_topology.client.persistence import persist_noting_async
from leanmq_topology.client.place import choose_url, read_topology
from leanmq_topology.client.requesting import (
    ReplyCounts,
    choose_timeout_ms,
    foresee_timeout_ms,
    read_reply,
    write_request,
)
from leanmq_topology.client.requesting_tasks import Requester, read_in_time
from leanmq_topology.client.sender import MOST_REFRESHES, Batch, Draft, write_batch, write_single
from leanmq_topology.client.sending_tasks import Carrier
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.clock import Clock, system_clock
from leanmq_topology.topology.durability import declared_levels
from leanmq_topology.topology.model import Topology


class Client:
    """Sends validated messages. Any number of tasks of one event loop may share it.

    Get one from `connect`. Sends that are awaited at the same time travel together, so share one client.
    """

    def __init__(
        self,
        topology: Topology,
        broker: Broker,
        connection: AsyncConnection,
        confirmer: Confirmer,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        open_housekeeping: Callable[[], BlockingConnection],
        open_listener: Callable[[Hear], AsyncListener],
        open_blocking_listener: Callable[[], BlockingListener],
        *,
        clock: Clock = system_clock,
    ) -> None:
        self.topology = topology
        self._broker, self._connection, self._clock = broker, connection, clock
        self._view = AppliedView(topology)
        self._flusher, self._confirmer = Flusher(connection, broker), confirmer
        self._carrier = Carrier(broker, connection, self._view, self._flusher, confirmer, clock)
        self._channels = AsyncChannels(topology, broker, connection, self._view, open_listener, clock)
        self._consumer = AsyncConsumer(
            topology,
            broker,
            partial(persist_noting_async, connection),
            open_connection,
            open_housekeeping,
            open_blocking_listener,
        )
        self._requester = Requester(broker, connection, open_connection, self._view)

    async def send(
        self,
        target: str,
        data: Any,
        *,
        type: str | None = None,
        id: str | None = None,
        ttl: float | str | None = None,
        delay: float | str | None = None,
        topic: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
        durability: str | None = None,
    ) -> str:
        """Validate a message and store it in a queue, or in every matching queue of a route; returns its id.

        When this returns, the message is stored. `type` may be left out where the target takes only one.
        `ttl` and `delay` are seconds, or text such as `"5m"`; the shorter of `ttl` and the queue's counts.
        `id` is the stable id a handler sees. The same `id` sent to the same target again within 10 minutes
        is a duplicate: it is not stored, and the first one's id is returned. A queue that declares
        `deduplication` decides that itself, for all it gets, and then the id returned may be another one.
        `topic` chooses among the queues of a topic route; left out, the type does.
        `durability` (`"disk"`, `"replicated:1"`…) may raise what the target declares, never lower it.

        Raises `InvalidMessageError` (nothing was sent), `UnknownTargetError`, `TopologyNotAppliedError`,
        `QueueFullError`, `BatchTooLargeError`, and any `BrokerError`. A lost answer is settled by sending
        again, which never stores twice; if the server stays away for 30 s, `BrokerUnavailableError.unknown`
        says whether the message may have been stored. `SendUnconfirmedError`: it is stored, but disk or
        replicas did not have it in time; sending it again with the same id is safe.
        """
        options = read_options(
            type=type,
            id=id,
            ttl=ttl,
            delay=delay,
            topic=topic,
            headers=headers,
            correlation_id=correlation_id,
            durability=durability,
        )
        now_ms = self._clock()
        form = self._view.plain_forms.get(target) if options is PLAIN else None
        lone = form.write_lone(data, now_ms) if form is not None else None
        if lone is None:
            return (await self._carrier.send(write_single(target, data, options, now_ms=now_ms)))[0]
        results = await self._flusher.submit_lone(lone)
        result = results[0]
        if isinstance(result, Stored) and not result.differs:
            return lone.envelope.id
        batch = Batch(target, options, now_ms, (Draft(lone.envelope.id, data, lone.envelope.data),))
        ids = batch.read(results, self._view) or await self._carrier.send(batch, MOST_REFRESHES)
        return ids[0]

    async def send_many(
        self,
        target: str,
        items: Iterable[Any],
        *,
        type: str | None = None,
        ttl: float | str | None = None,
        delay: float | str | None = None,
        topic: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
        durability: str | None = None,
        atomic: bool = True,
    ) -> list[str]:
        """Send several messages in one step, all or none; returns their ids in order.

        At most 1,000 copies or 4 MiB, else `BatchTooLargeError` and nothing is written. The options hold for
        each message; otherwise as `send`.

        `atomic=False` lifts the bound: items (any iterable) are taken and stored in order, in steps of up to
        1,000, each all or none. What fails stops there; the error's `stored_ids` are the messages stored
        before, and its `unknown_ids` those of a step whose answer was lost.
        """
        options = read_options(
            type=type,
            ttl=ttl,
            delay=delay,
            topic=topic,
            headers=headers,
            correlation_id=correlation_id,
            durability=durability,
        )
        if not atomic:
            return await self._carrier.send_in_slices(target, items, options)
        schema = self._view.foresee_schema(target)
        batch = write_batch(target, items, options, now_ms=self._clock(), schema=schema)
        return await self._carrier.send(batch) if batch.drafts else []

    def consume(self, queue: str, *, batch: int = 1, renew: bool = True) -> AsyncIterator[Delivery]:
        """Take messages from a queue for ever: `async for delivery in mq.consume("billing")`.

        Each is checked against what the queue accepts; what is invalid, expired or past its limit goes to the
        dead-letter queue and is not handed out. Settle each one: `ack`, `nack`, `reject`… Leases are renewed
        beside your code while the delivery object lives, up to an hour (`renew=False`: never); one that is
        dropped unsettled comes back when its lease lapses. `batch` (1 to 1,000) are taken from the server
        together. A paused queue hands out nothing; lost connections are waited for.

        When the iterator is closed, or the client, what it handed out and you did not settle is delivered
        again at once, and that counts; what it had not handed out is released, which does not.

        Raises `UnknownTargetError`, `TopologyNotAppliedError`, and `SettingError` for a route.
        """
        return self._consumer.consume(queue, batch, renew=renew)

    async def receive(
        self, queue: str, count: int = 1, *, wait: float = 0.0, renew: bool = True
    ) -> list[Delivery]:
        """Up to `count` messages (at most 1,000), oldest first; waits up to `wait` seconds for the first.

        Otherwise as `consume`; what is not settled when the client is closed is given back then. Raises
        `BrokerUnavailableError` for an outage that lasts longer than `wait`.
        """
        return await self._consumer.receive(queue, count, wait, renew=renew)

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge many, up to 1,000 in one step; taken late too, as `Delivery.ack`.

        As every verb for many: raises `LeaseLostError` before anything is done if one was settled before.
        """
        await self._consumer.settle_many(deliveries, choose_done)

    async def nack(
        self, deliveries: Iterable[Delivery], *, delay: float | str | None = None, reason: str = ""
    ) -> None:
        """Have many delivered again. Raises `LeaseLostError` for those not ours by now; the rest is done."""
        await self._consumer.settle_many(deliveries, choose_nack(reason, read_delay_ms(delay)))

    async def reject(self, deliveries: Iterable[Delivery], reason: str = "") -> None:
        """Dead-letter many. Raises as `nack`."""
        await self._consumer.settle_many(deliveries, choose_reject(reason))

    async def release(self, deliveries: Iterable[Delivery]) -> None:
        """Hand many back as if they had never been handed out. Raises as `nack`."""
        await self._consumer.settle_many(deliveries, choose_release)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Store messages for several targets together: `async with mq.transaction() as tx: tx.send(...)`.

        All of them are stored in one step when the block ends, in order, or none is: if the block raises, a
        message is wrong (`TransactionError` names each), a queue is full (`QueueFullError` names it), or they
        are more than one step may write (`BatchTooLargeError`: 1,000 copies, 4 MiB). Each keeps its own ttl
        and delay; all get the highest durability among them. Afterwards `tx.ids` are their ids. Other errors
        are those of `send`.
        """
        begun = Transaction(self._view, self._clock)
        try:
            yield begun
        finally:
            begun.end()
        if len(begun):
            await self._carrier.commit(begun)

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        type: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> int:
        """Publish on an ephemeral channel; returns how many heard it. Nothing is stored.

        On a declared channel the data is validated like that of a send; on any other name it must be a JSON
        object. It is tried once: `BrokerUnavailableError.unknown` says whether it may have been heard. Raises
        `InvalidMessageError`, `TopologyNotAppliedError`, and `SettingError` for the name of a queue or of a
        route that stores.
        """
        options = read_options(type=type, id=id, headers=headers, correlation_id=correlation_id)
        return (await self._channels.publish([(channel, data)], options))[0]

    async def publish_many(
        self,
        messages: Iterable[tuple[str, Any]],
        *,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> list[int]:
        """Publish several messages, each a channel and its data, in one round trip for up to 1,000.

        All are validated before any is published. Otherwise as `publish`.
        """
        options = read_options(type=type, headers=headers, correlation_id=correlation_id)
        return await self._channels.publish(messages, options)

    def subscribe(self, *channels: str, buffer: int = LARGEST_BUFFER) -> Subscription:
        """Listen to ephemeral channels: `async for message in mq.subscribe("news", "alerts.*")`.

        In a name `*` stands for any text and `?` for one character. Messages are checked against what their
        channel takes; what breaks it is counted and left out. At most `buffer` wait to be read; later ones
        are dropped and counted. A broken connection is opened again; what is published meanwhile is lost.
        """
        return self._channels.subscribe(channels, check_buffer(buffer))

    def stats(self) -> PublishStatistics:
        """What this client published on channels, by channel."""
        return self._channels.statistics()

    async def request(
        self,
        route: str,
        data: Any,
        *,
        timeout: float | str | None = None,  # noqa: ASYNC109  the deadline travels with the request too
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> Any:
        """Ask at a route of type `request` and return the reply: data that fits the route's reply schema.

        `timeout` is how long to wait, in seconds or text such as `"5s"`; else the route's `timeout` counts.
        A request that was not started by then is never started. Any number of tasks may ask at once; the
        first reply to a request counts, and what comes too late is dropped (`reply_counts`).

        Raises what `send` raises, `RequestTimeoutError`, and `RemoteError` once the handler has failed for
        good: it is retried as any other, while the caller waits.
        """
        began, now_ms = asyncio.get_running_loop().time(), self._clock()
        destination = self._view.find(route)
        if destination is None:
            limit_ms = foresee_timeout_ms(self.topology, route, timeout)
            destination = await read_in_time(route, self._carrier.read_destination(route), limit_ms)
        timeout_ms = choose_timeout_ms(destination, timeout)
        seconds = timeout_ms / 1000
        due_at = began + seconds
        request = write_request(
            destination,
            data,
            self._view,
            inbox=await self._requester.open_in_time(route, seconds, due_at),
            timeout_ms=timeout_ms,
            id=id,
            headers=headers,
            correlation_id=correlation_id,
            now_ms=now_ms,
        )
        reply = await self._requester.ask(
            request, destination, self._carrier.send, seconds=seconds, due_at=due_at
        )
        return read_reply(destination, reply)

    @property
    def reply_counts(self) -> ReplyCounts:
        """Replies that nobody here waited for any more."""
        return self._requester.counts

    async def close(self) -> None:
        """Give back what is not settled, wait for sends under way.

        The connection belongs to whoever opened it (`connect`, which calls this).
        """
        await self._channels.close()
        await self._consumer.close()
        await self._requester.close()
        await self._flusher.close()
        await self._confirmer.close()


@asynccontextmanager
async def connect(topology: Topology | str | Path, *, url: str | None = None) -> AsyncIterator[Client]:
    """Open a client: `async with connect("topology.yaml") as mq`.

    The server is `url`, else the topology's `broker.url`, else `LEANMQ_URL`, else the embedded one. Creates
    nothing on the server; `leanmq apply` does. Raises `BrokerRefusedError` for a server that cannot keep
    messages as the topology declares (eviction, durability); `leanmq doctor` tells more.
    """
    from leanmq_topology.brokers.connect import open_async

    loaded = read_topology(topology)
    async with await open_async(
        choose_url(loaded, url), namespace=loaded.broker.namespace, folder=loaded.folder
    ) as link:
        examination = await link.connection.execute(link.broker.examine(system_clock()))
        insist(examination, declared_levels(loaded), where=link.url)
        levels = Levels(link.broker, examination, where=link.url, within_ms=link.confirm_timeout_ms)
        client = Client(
            loaded,
            link.broker,
            link.connection,
            Confirmer(levels, link.open_another),
            link.open_another,
            link.open_blocking,
            link.open_listener,
            link.open_blocking_listener,
        )
        try:
            yield client
        finally:
            await client.close()
