"""`connect_sync`: the same verbs, blocking, with no event loop behind them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from leanmq_topology.brokers.examination import insist
from leanmq_topology.brokers.protocol import (
    BlockingConnection,
    BlockingListener,
    Broker,
    Operation,
    PipelinedConnection,
)
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.channels.blocking import SyncChannels, SyncSubscription
from leanmq_topology.client.channels.inbox import LARGEST_BUFFER, check_buffer
from leanmq_topology.client.channels.tally import PublishStatistics
from leanmq_topology.client.confirmed import Levels
from leanmq_topology.client.confirmed_threads import SyncConfirmer
from leanmq_topology.client.consuming.arguments import read_delay_ms
from leanmq_topology.client.consuming.blocking import SyncConsumer
from leanmq_topology.client.consuming.delivery import SyncDelivery
from leanmq_topology.client.consuming.settling import choose_done, choose_nack, choose_reject, choose_release
from leanmq_topology.client.options import read_options
from leanmq_topology.client.patience import PATIENT, Patience
from leanmq_topology.client.place import choose_url, read_topology
from leanmq_topology.client.requesting import (
    ReplyCounts,
    choose_timeout_ms,
    foresee_timeout_ms,
    ran_out,
    read_reply,
    write_request,
)
from leanmq_topology.client.requesting_threads import SyncRequester
from leanmq_topology.client.sender import (
    Batch,
    write_batch,
    write_single,
)
from leanmq_topology.client.sending_threads import Carrier
from leanmq_topology.client.shared_line import SharedLine
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.clock import Clock, system_clock
from leanmq_topology.errors import BrokerUnavailableError, RequestTimeoutError
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.durability import declared_levels
from leanmq_topology.topology.model import Queue, Topology

T = TypeVar("T")


class SyncClient:
    """Sends validated messages, one round trip a send. Threads may share it and take turns.

    Durable sends of threads that wait at the same time are confirmed together.
    """

    def __init__(
        self,
        topology: Topology,
        broker: Broker,
        connection: BlockingConnection,
        confirmer: SyncConfirmer,
        open_connection: Callable[[], PipelinedConnection],
        prepare_connection: Callable[[], PipelinedConnection],
        open_listener: Callable[[], BlockingListener],
        *,
        clock: Clock = system_clock,
        undeclared: Callable[[str], Queue] | None = None,
        patience: Patience = PATIENT,
    ) -> None:
        self.topology, self.broker = topology, broker
        self._broker, self._clock = broker, clock
        self._line = SharedLine(connection, patience)
        self._view = AppliedView(topology, undeclared=undeclared)
        self._carrier = Carrier(broker, self._line, self._view, confirmer, clock)
        self.open_another = open_connection
        """One more connection, for a read that waits; closed with the client at the latest."""
        self._channels = SyncChannels(
            topology, broker, self._line.execute_once, self.execute, self._view, open_listener, clock
        )
        self._consumer = SyncConsumer(
            topology, broker, self._line.execute_noting, open_connection, open_listener
        )
        self.hold, self.forget = self._consumer.hold, self._consumer.forget
        """As `receive`, for who settles by entry id with `broker`'s operations, and then says so."""
        self._requester = SyncRequester(broker, self._line.execute, prepare_connection)

    def send(
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
        """Validate a message and store it; returns its id. Promises and errors are those of `Client.send`."""
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
        return self._carrier.send(write_single(target, data, options, now_ms=self._clock()))[0]

    def send_many(
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
        """Send several messages in one step, all or none; returns their ids. As `Client.send_many`."""
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
            return self._carrier.send_in_slices(target, items, options)
        schema = self._view.foresee_schema(target)
        batch = write_batch(target, items, options, now_ms=self._clock(), schema=schema)
        return self._carrier.send(batch) if batch.drafts else []

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Store messages for several targets together: `with mq.transaction() as tx: tx.send(...)`.

        Promises and errors are those of `Client.transaction`.
        """
        begun = Transaction(self._view, self._clock)
        try:
            yield begun
        finally:
            begun.end()
        if len(begun):
            self._carrier.commit(begun)

    def request(
        self,
        route: str,
        data: Any,
        *,
        timeout: float | str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> Any:
        """Ask at a route of type `request` and return the reply. Promises and errors: `Client.request`."""
        began, now_ms = time.monotonic(), self._clock()
        timeout_ms, request_id = foresee_timeout_ms(self.topology, route, timeout), ""
        try:
            until = None if timeout_ms is None else began + timeout_ms / 1000
            destination = self._view.find(route) or self._carrier.read_destination(route, until)
            timeout_ms = choose_timeout_ms(destination, timeout)
            deadline = began + timeout_ms / 1000
            request = write_request(
                destination,
                data,
                self._view,
                inbox=self._requester.open(deadline),
                timeout_ms=timeout_ms,
                id=id,
                headers=headers,
                correlation_id=correlation_id,
                now_ms=now_ms,
            )
            request_id = request.id
            reply = self._requester.ask(request, self._carrier.send, deadline)
        except BrokerUnavailableError as failure:
            if timeout_ms is None or time.monotonic() < began + timeout_ms / 1000:
                raise
            # What it waited for was given up because its own time is up, whatever the server does.
            raise RequestTimeoutError(route, request_id, timeout_ms / 1000) from failure
        if reply is None or (reply.failure is not None and ran_out(reply, deadline - time.monotonic())):
            raise RequestTimeoutError(route, request_id, timeout_ms / 1000)
        return read_reply(destination, reply)

    @property
    def reply_counts(self) -> ReplyCounts:
        """Replies that nobody here waited for any more."""
        return self._requester.counts

    def send_batch(self, batch: Batch) -> list[str]:
        """Store messages that were written before, all or none; returns their ids."""
        return self._carrier.send(batch)

    def execute(self, operation: Operation[T]) -> T:
        """Carry out an operation that may be repeated, one of `broker`'s, on the client's own connection."""
        return self._line.execute(operation)

    def read_destination(self, name: str) -> Destination:
        """What this name is on the server right now. Raises `TopologyNotAppliedError`."""
        return self._carrier.read_destination(name)

    def consume(self, queue: str, *, batch: int = 1, renew: bool = True) -> Iterator[SyncDelivery]:
        """Take messages from a queue for ever: `for delivery in mq.consume("billing")`. As `Client.consume`.

        Close the iterator (`contextlib.closing`, or leave the loop and drop it) to give back what is left.
        """
        return self._consumer.consume(queue, batch, renew=renew)

    def receive(
        self, queue: str, count: int = 1, *, wait: float = 0.0, renew: bool = True
    ) -> list[SyncDelivery]:
        """Up to `count` messages; waits up to `wait` seconds for the first. As `Client.receive`."""
        return self._consumer.receive(queue, count, wait, renew=renew)

    def is_quiet(self, queue: str) -> bool:
        """Whether `receive` would find only what came since the last one. Asks nobody."""
        return self._consumer.is_quiet(queue)

    def ack(self, deliveries: Iterable[SyncDelivery]) -> None:
        """Acknowledge many, up to 1,000 in one step."""
        self._consumer.settle_many(deliveries, choose_done)

    def nack(
        self, deliveries: Iterable[SyncDelivery], *, delay: float | str | None = None, reason: str = ""
    ) -> None:
        """Have many delivered again. As `Client.nack`."""
        self._consumer.settle_many(deliveries, choose_nack(reason, read_delay_ms(delay)))

    def reject(self, deliveries: Iterable[SyncDelivery], reason: str = "") -> None:
        """Dead-letter many. As `Client.reject`."""
        self._consumer.settle_many(deliveries, choose_reject(reason))

    def release(self, deliveries: Iterable[SyncDelivery]) -> None:
        """Hand many back. As `Client.release`."""
        self._consumer.settle_many(deliveries, choose_release)

    def publish(
        self,
        channel: str,
        data: Any,
        *,
        type: str | None = None,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> int:
        """Publish on an ephemeral channel; returns how many heard it. As `Client.publish`."""
        options = read_options(type=type, id=id, headers=headers, correlation_id=correlation_id)
        return self._channels.publish([(channel, data)], options)[0]

    def publish_many(
        self,
        messages: Iterable[tuple[str, Any]],
        *,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> list[int]:
        """Publish several messages in one round trip. As `Client.publish_many`."""
        options = read_options(type=type, headers=headers, correlation_id=correlation_id)
        return self._channels.publish(messages, options)

    def subscribe(self, *channels: str, buffer: int = LARGEST_BUFFER) -> SyncSubscription:
        """Listen to ephemeral channels: `for message in mq.subscribe("news")`. As `Client.subscribe`."""
        return self._channels.subscribe(channels, check_buffer(buffer))

    def stats(self) -> PublishStatistics:
        """What this client published on channels, by channel."""
        return self._channels.statistics()

    def close(self) -> None:
        """End every `consume` and `receive`, and give back what is not settled.

        The connection belongs to whoever opened it (`connect_sync`, which calls this).
        """
        self._channels.close()
        self._consumer.close()
        self._requester.close()


@contextmanager
def connect_sync(
    topology: Topology | str | Path,
    *,
    url: str | None = None,
    undeclared: Callable[[str], Queue] | None = None,
    patience: Patience = PATIENT,
) -> Iterator[SyncClient]:
    """Open a blocking client: `with connect_sync("topology.yaml") as mq`. Otherwise as `connect`.

    With `undeclared`, names that no topology declares may be sent to as well: it says what they are.
    """
    from leanmq_topology.brokers.connect import open_blocking

    loaded = read_topology(topology)
    with open_blocking(
        choose_url(loaded, url), namespace=loaded.broker.namespace, folder=loaded.folder
    ) as link:
        examination = link.connection.execute(link.broker.examine(system_clock()))
        insist(examination, declared_levels(loaded), where=link.url)
        levels = Levels(link.broker, examination, where=link.url, within_ms=link.confirm_timeout_ms)
        client = SyncClient(
            loaded,
            link.broker,
            link.connection,
            SyncConfirmer(levels, link.open_another),
            link.open_another,
            link.prepare_another,
            link.open_listener,
            undeclared=undeclared,
            patience=patience,
        )
        try:
            yield client
        finally:
            client.close()
