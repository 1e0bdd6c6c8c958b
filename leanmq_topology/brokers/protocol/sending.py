"""Storing messages: what is sent, and what a send answers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from leanmq_topology.brokers.examination import Examination
from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.topology.durability import Durability


class Stored(msgspec.Struct, frozen=True, gc=False):
    id: str
    copies: int
    """How many were made: none for an event that nobody wants, fewer where a queue had it already."""
    differs: bool = False
    """A queue that had it already had it with other data."""
    entry_id: str = ""
    """Where it lies, if the flush asked and it is one copy that waits in its queue."""


class Duplicate(msgspec.Struct, frozen=True):
    """It was sent before, within the window that counts; nothing was written for this send."""

    id: str
    """Of the message that was stored then."""
    differs: bool
    """That message carried other data."""


class Stale(msgspec.Struct, frozen=True):
    """The address changed on the server since this client read it. Nothing was written for this send."""

    target: str
    digest: str | None
    """None: the address is not applied at all, or one of its queues takes no more messages."""
    leaving: str | None = None
    """The queue that is on its way out, if that is why."""


class Full(msgspec.Struct, frozen=True):
    """A queue is at its `max_length` and its overflow makes no room; nothing was written for this send."""

    queue: str
    max_length: int


class Unconfirmed(msgspec.Struct, frozen=True):
    """It is stored, but who should have it by now does not, or has not said so in time."""

    id: str
    reached: str
    """The durability it has for sure."""
    reason: str | None = None
    """What the server said, where it refused to confirm at all."""


SendResult = Stored | Duplicate | Unconfirmed | Stale | Full


class Flush(msgspec.Struct, frozen=True):
    """Sends that travel together: one script call, each send all or none, results in the same order.

    `producer` and `sequence` make a resend after a lost answer harmless: the server remembers the last
    sequence of each producer with its result.
    """

    producer: str
    sequence: int
    sends: tuple[Outgoing, ...]
    all_or_none: bool = False
    """One failing send withholds the others too (`send_many`, transactions), and they get its answer."""
    tells_entries: bool = False
    """Answer with the entry ids of what was stored."""
    confirmed: bool = False
    """The sender will wait until disk or replicas have it. Such a wait covers only what was written after the
    one before, so a duplicate is written too: its marker is renewed."""


class Sender(Protocol):
    def send(self, flush: Flush) -> Operation[list[SendResult]]: ...


class DurableSender(Protocol):
    def send_confirmed(
        self, flush: Flush, level: Durability, *, within_ms: int, examination: Examination
    ) -> Operation[list[SendResult]]:
        """What `send` does, answered once the flush is as durable as `level`, or with `Unconfirmed` in time.

        Everything else on its connection waits meanwhile, so it needs one of its own.
        """
        ...
