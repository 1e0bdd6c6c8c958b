"""Sends to several targets that are stored together or not at all. Pure; both clients carry them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from leanmq_topology.brokers.protocol import SendResult, Stored
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.options import read_options
from leanmq_topology.client.sender import Batch, check_size, raise_unconfirmed, write_single
from leanmq_topology.clock import Clock
from leanmq_topology.errors import InvalidMessageError, SettingError, TransactionError
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.durability import MEMORY, Durability, highest


class Transaction:
    """What a block sends: nothing leaves before the block ends, and nothing at all if it raises."""

    def __init__(self, view: AppliedView, clock: Clock) -> None:
        self._view, self._clock = view, clock
        self._batches: list[Batch] = []
        self._ended = False
        self.ids: tuple[str, ...] = ()
        """Once it is stored: the ids of its messages, in order. A duplicate has that of the first one."""

    def __len__(self) -> int:
        return len(self._batches)

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
        """Add a message to what is stored when the block ends; returns its id. Options are those of `send`.

        Raises what can be told without the server: `UnknownTargetError`, `SettingError` for an option,
        `InvalidMessageError` for data that is no JSON. Schemas are looked at when the block ends. Raises
        `TransactionError` after that.
        """
        self._insist_open()
        self._view.find(target)
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
        return self.add(write_single(target, data, options, now_ms=self._clock()))

    def add(self, batch: Batch) -> str:
        """Add a message that was written before; returns its id."""
        self._insist_open()
        self._batches.append(batch)
        return batch.drafts[0].id

    def end(self) -> None:
        """Take no further sends."""
        self._insist_open()
        self._ended = True

    def targets(self) -> list[str]:
        """The names it sends to, each once."""
        return list(dict.fromkeys(batch.target for batch in self._batches))

    def address(self, destinations: Mapping[str, Destination]) -> tuple[list[Outgoing], Durability]:
        """Validate every message and make its copies, and say how durable all of them are to be.

        Raises `TransactionError` with all that is wrong, or `BatchTooLargeError`.
        """
        wrong: list[tuple[int, str, InvalidMessageError | SettingError]] = []
        levels = [destination.durability for destination in destinations.values()]
        sends: list[Outgoing] = []
        for place, batch in enumerate(self._batches):
            destination = destinations[batch.target]
            try:
                if batch.options.durability is not None:
                    levels.append(batch.level(destination))
                sends += batch.write_copies(destination, self._view)
            except (InvalidMessageError, SettingError) as failure:
                wrong.append((place, batch.target, failure))
        if wrong:
            raise TransactionError.wrong(wrong, total=len(self._batches)) from wrong[0][2]
        check_size(sends)
        level = highest(levels)
        return (self._address_durably(destinations, level) if level != MEMORY else sends), level

    def _address_durably(self, destinations: Mapping[str, Destination], level: Durability) -> list[Outgoing]:
        """Whatever may be sent again because it is unconfirmed needs a marker, the least durable too."""
        return [
            outgoing
            for batch in self._batches
            for outgoing in Batch(
                batch.target, replace(batch.options, durability=level), batch.now_ms, batch.drafts
            ).address(destinations[batch.target], self._view)
        ]

    def read(self, results: Sequence[SendResult]) -> bool:
        """Take the ids from the answers. False: a target changed, nothing was written, address it anew.

        Raises as `Batch.read` does.
        """
        if all(type(result) is Stored and not result.differs for result in results):
            self.ids = tuple(batch.drafts[0].id for batch in self._batches)
            return True
        raise_unconfirmed(results)
        pairs = zip(self._batches, results, strict=True)
        found = [batch.read((result,), self._view) for batch, result in pairs]
        if any(ids is None for ids in found):
            return False
        self.ids = tuple(one for ids in found for one in ids or ())
        return True

    def _insist_open(self) -> None:
        if self._ended:
            raise TransactionError("this transaction has ended", hint="send inside its `with` block")
