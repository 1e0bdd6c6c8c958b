"""Looking for one message, wherever it is now."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.looking import DeadEntry, WaitingEntry
from leanmq_topology.brokers.protocol.operation import Operation


class Shelf(StrEnum):
    """The places of a queue where a message can lie."""

    DELAYED = "delayed"
    QUEUE = "queue"
    """Ready and in flight."""
    DEAD = "dead"
    ACKED = "acked"


class SearchedStretch(Struct, frozen=True):
    """A part of a shelf that was searched in one call."""

    after: str
    """What the next call goes on behind; `""`: there is no more."""
    looked_at: int
    found: Sequence[WaitingEntry | DeadEntry]


class Searcher(Protocol):
    def search(
        self, queue: str, shelf: Shelf, message_id: str, *, after: str = "", purge_id: str | None = None
    ) -> Operation[SearchedStretch]:
        """A bounded look, from behind `after` on, for this message and for all that name its id in a header.

        With `purge_id` it is what that purge took of the shelf. A queue that is not there holds nothing.
        """
        ...
