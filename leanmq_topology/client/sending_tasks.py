"""Carries batches and transactions of the tasks of one event loop to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from leanmq_topology.brokers.protocol import AsyncConnection, Broker, SendResult
from leanmq_topology.client.applied import AppliedView, find_leaving
from leanmq_topology.client.confirmed_tasks import Confirmer
from leanmq_topology.client.flushing import Flusher
from leanmq_topology.client.options import SendOptions
from leanmq_topology.client.persistence import persist_async
from leanmq_topology.client.sender import MOST_REFRESHES, Batch, keeps_changing
from leanmq_topology.client.slices import Slices
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.clock import Clock
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.durability import MEMORY, Durability


class Carrier:
    """Addresses what was written by what is applied, and reads that anew where it turns out to be stale.

    What memory keeps goes by the `flusher`, all else by the `confirmer`.
    """

    def __init__(
        self,
        broker: Broker,
        connection: AsyncConnection,
        view: AppliedView,
        flusher: Flusher,
        confirmer: Confirmer,
        clock: Clock,
    ) -> None:
        self._broker, self._connection, self._clock = broker, connection, clock
        self._view = view
        self._flusher, self._confirmer = flusher, confirmer

    async def send(self, batch: Batch, tries: int = MOST_REFRESHES + 1) -> list[str]:
        """Store all of it, or none; the ids in order. Raises what `Client.send` does."""
        for _ in range(tries):
            destination = self._view.find(batch.target) or await self.read_destination(batch.target)
            level = batch.level(destination)
            sends = batch.address(destination, self._view)
            results = await self._submit(sends, level)
            ids = batch.read(results, self._view)
            if ids is not None:
                return ids
        raise keeps_changing(batch.target)

    async def send_in_slices(self, target: str, items: Iterable[Any], options: SendOptions) -> list[str]:
        """Store any number in steps, each all or none. Raises what `Client.send_many` does."""
        slices = Slices(target, items, options, self._clock, self._view.foresee_schema(target))
        while (batch := slices.next()) is not None:
            with slices.tried():
                slices.stored += await self.send(batch)
        return slices.stored

    async def commit(self, transaction: Transaction) -> None:
        """Store all that was sent in it, or none. Raises what `Client.transaction` does."""
        for _ in range(MOST_REFRESHES + 1):
            destinations = {
                target: self._view.find(target) or await self.read_destination(target)
                for target in transaction.targets()
            }
            sends, level = transaction.address(destinations)
            if transaction.read(await self._submit(sends, level)):
                return
        raise keeps_changing(", ".join(transaction.targets()))

    async def read_destination(self, target: str) -> Destination:
        """What is applied of a queue or route, read from the server and kept in the view."""
        fields = await persist_async(self._connection, self._broker.read_addresses([target]))
        lost = self._view.find_lost_queues(target, fields)
        states = await persist_async(self._connection, self._broker.inspect_queues(lost)) if lost else ()
        return self._view.learn(target, fields, leaving=find_leaving(states))

    def _submit(self, sends: list[Outgoing], level: Durability) -> Awaitable[list[SendResult]]:
        together = len(sends) > 1
        if level == MEMORY:
            return self._flusher.submit(sends, together=together)
        return self._confirmer.submit(sends, level, together=together)
