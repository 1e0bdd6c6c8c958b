"""A call that is not atomic, as ordered batches that are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from leanmq_topology.client.options import SendOptions
from leanmq_topology.client.sender import MOST_COPIES, Batch, write_batch
from leanmq_topology.clock import Clock
from leanmq_topology.contracts.schemas import MessageSchema
from leanmq_topology.errors import BatchTooLargeError, InvalidMessageError, LeanMQError


class Slices:
    """Messages of one call in batches, and what became of them so far.

    Whoever sends takes the `next` batch and, while it is `tried`, adds its ids to `stored`. The `LeanMQError`
    that ends the call is told what is stored.
    """

    __slots__ = ("_batch", "_clock", "_items", "_options", "_schema", "_target", "_waiting", "stored")

    def __init__(
        self,
        target: str,
        items: Iterable[Any],
        options: SendOptions,
        clock: Clock,
        schema: MessageSchema | None = None,
    ) -> None:
        """`schema`: see `write_batch`."""
        self.stored: list[str] = []
        """Ids of the messages stored so far."""
        self._target, self._items, self._options, self._clock = target, iter(items), options, clock
        self._schema = schema
        self._waiting: list[Batch] = []
        self._batch: Batch | None = None

    def next(self) -> Batch | None:
        """The batch to send next, None at the end. Takes items as it goes."""
        self._batch = None
        if not self._waiting:
            with self.tried():
                found = list(islice(self._items, MOST_COPIES))
                if not found:
                    return None
                now_ms = self._clock()
                batch = write_batch(self._target, found, self._options, now_ms=now_ms, schema=self._schema)
                self._waiting = [batch]
        self._batch = self._waiting.pop()
        return self._batch

    @contextmanager
    def tried(self) -> Iterator[None]:
        """What is only too large comes next in halves; another failure is raised, and told what is stored."""
        try:
            yield
        except LeanMQError as failure:
            batch = self._batch
            if isinstance(failure, BatchTooLargeError) and batch is not None and len(batch.drafts) > 1:
                self._waiting += reversed(batch.halve())
                return
            failure.stored_ids = tuple(self.stored)
            if isinstance(failure, InvalidMessageError) and failure.index is not None:
                failure.index += len(self.stored)
            if batch is not None and getattr(failure, "unknown", False):
                failure.unknown_ids = tuple(draft.id for draft in batch.drafts)
            raise
