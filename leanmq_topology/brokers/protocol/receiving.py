"""Taking deliveries from queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.topology.model import Queue


class Part(StrEnum):
    """Which of what may be claimed."""

    ALL = ""
    FRESH = "fresh"
    """Handed back unstarted."""
    SUSPECT = "suspect"
    """What was handed out and never heard of again: it may have taken its worker down."""


class Receiver(Protocol):
    def fetch(
        self, queues: Sequence[str], consumer: str, *, count: int, block_ms: int
    ) -> Operation[list[Delivered | Undecodable]]:
        """New messages of any of these queues; waits up to `block_ms` for the first one (0: not at all).

        `count` is per queue. Blocks, so it needs a connection of its own.
        """
        ...

    def read_ends(self, queues: Sequence[str], *, dead: bool = False) -> Operation[Mapping[str, str]]:
        """Where these queues, or their dead-letter queues, end right now, by name."""
        ...

    def await_entries(self, after: Mapping[str, str], *, block_ms: int) -> Operation[bool]:
        """Wait until one of these queues has an entry after the end given for it; nothing is taken.

        Blocks, so it needs a connection of its own; `end_fetch` ends it too. False: nothing came in time.
        """
        ...

    def end_fetch(self, connection_id: int) -> Operation[bool]:
        """Make a waiting `fetch` on the connection of that id answer at once, with nothing.

        The way to stop a reader: closing its connection could strand messages on their way. False: it was not
        waiting.
        """
        ...

    def fetch_own(
        self, queue: str, consumer: str, *, cursor: str, known: Sequence[str]
    ) -> Operation[tuple[str, list[Delivered | Undecodable]]]:
        """What was handed to this consumer in an answer that got lost: what it holds but `known` entry ids.

        A bounded part of it, which may be empty; returns the cursor to go on from, kept by caller: `0-0` is
        the front, and the end. Their leases run anew; their delivery count stays, because nobody ran them.
        """
        ...

    def claim(
        self,
        queue: Queue,
        consumer: str,
        *,
        cursor: str,
        count: int,
        held: Sequence[str] = (),
        part: Part = Part.ALL,
    ) -> Operation[tuple[str, list[Delivered | Undecodable]]]:
        """Take over deliveries whose lease has lapsed; returns the cursor to go on from, kept by caller.

        `held` are entry ids that the consumer knows it holds: of these nothing is counted, and what is handed
        out says only that they are its for another lease.

        Who asks for the fresh part leaves the rest under suspicion (`QueueHealth.suspects`).
        """
        ...
