"""Carries batches and transactions to the server for threads that take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from leanmq_topology.brokers.protocol import Broker, Flush, Operation, SendResult
from leanmq_topology.client.applied import AppliedView, find_leaving
from leanmq_topology.client.confirmed_threads import SyncConfirmer
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.options import SendOptions
from leanmq_topology.client.sender import MOST_REFRESHES, Batch, keeps_changing
from leanmq_topology.client.shared_line import SharedLine
from leanmq_topology.client.slices import Slices
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.clock import Clock
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.durability import MEMORY, Durability

SendAhead = Callable[[list[Outgoing]], list[SendResult] | None]
"""Another way to send, tried first. None: it does not do now."""


class Carrier:
    """What `sending_tasks.Carrier` is to tasks: one round trip a step.

    What memory keeps goes by the `line`, all else by the `confirmer`.
    """

    def __init__(
        self, broker: Broker, line: SharedLine, view: AppliedView, confirmer: SyncConfirmer, clock: Clock
    ) -> None:
        self._broker, self._line, self._view, self._clock = broker, line, view, clock
        self._producer, self._confirmer = Producer(), confirmer

    def send(self, batch: Batch, until: float | None = None, ahead: SendAhead | None = None) -> list[str]:
        """Store all of it, or none, before `until` (monotonic seconds); the ids in order."""
        for _ in range(MOST_REFRESHES + 1):
            destination = self._view.find(batch.target) or self.read_destination(batch.target, until)
            level = batch.level(destination)
            sends = batch.address(destination, self._view)
            results = ahead(sends) if ahead else None
            if results is None:
                results = self._deliver(sends, level, until, tells_entries=batch.tells_entries)
            ids = batch.read(results, self._view)
            if ids is not None:
                return ids
        raise keeps_changing(batch.target)

    def commit(self, transaction: Transaction) -> None:
        """Store all that was sent in it, or none."""
        for _ in range(MOST_REFRESHES + 1):
            destinations = {
                target: self._view.find(target) or self.read_destination(target)
                for target in transaction.targets()
            }
            sends, level = transaction.address(destinations)
            if transaction.read(self._deliver(sends, level)):
                return
        raise keeps_changing(", ".join(transaction.targets()))

    def send_in_slices(self, target: str, items: Iterable[Any], options: SendOptions) -> list[str]:
        """Store any number in steps, each all or none."""
        slices = Slices(target, items, options, self._clock, self._view.foresee_schema(target))
        while (batch := slices.next()) is not None:
            with slices.tried():
                slices.stored += self.send(batch)
        return slices.stored

    def read_destination(self, target: str, until: float | None = None) -> Destination:
        """What is applied of a queue or route, read from the server and kept in the view."""
        fields = self._line.execute(self._broker.read_addresses([target]), until)
        lost = self._view.find_lost_queues(target, fields)
        states = self._line.execute(self._broker.inspect_queues(lost), until) if lost else ()
        return self._view.learn(target, fields, leaving=find_leaving(states))

    def _deliver(
        self,
        sends: list[Outgoing],
        level: Durability,
        until: float | None = None,
        *,
        tells_entries: bool = False,
    ) -> list[SendResult]:
        together = len(sends) > 1
        if level != MEMORY:
            return self._confirmer.submit(sends, level, together=together)

        def flush() -> Operation[list[SendResult]]:
            name, sequence = self._producer.next()
            return self._broker.send(Flush(name, sequence, tuple(sends), together, tells_entries))

        return self._line.execute_made(flush, until)
