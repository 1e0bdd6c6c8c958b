"""The seam between this package and a server.

A broker operation is a value: it says what to do and how to read the answer. Two thin connections, one
blocking and one asyncio, carry such values out, so no delivery rule is written twice. What a broker can do
stands in small role protocols; what it cannot do is declared in `Capabilities` and never degrades silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from leanmq_topology.messages.envelope import Delivered, Outgoing, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import Queue

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Protocol[T_co]):
    """One atomic step on the broker, not yet carried out."""

    @property
    def name(self) -> str:
        """The verb, for logs and errors."""
        ...


class BlockingConnection(Protocol):
    """Carries operations out, one at a time. Not for use by two threads at once."""

    def execute(self, operation: Operation[T]) -> T: ...
    def close(self) -> None: ...


class AsyncConnection(Protocol):
    """Carries operations out in the order they are given; concurrent calls share one connection."""

    async def execute(self, operation: Operation[T]) -> T: ...
    async def close(self) -> None: ...


# -- what sending answers, one for each `Outgoing` of a flush -------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    id: str
    copies: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The address changed on the server since this client read it. Nothing was written for this send."""

    target: str
    digest: str | None
    """None: the address is not applied at all."""


@dataclass(frozen=True, slots=True)
class Full:
    """A queue is at its `max_length`; nothing was written for this send."""

    queue: str
    max_length: int


SendResult = Stored | Stale | Full


@dataclass(frozen=True, slots=True)
class Flush:
    """Sends that travel together: one script call, each send all or none, results in the same order.

    `producer` and `sequence` make a resend after a lost answer harmless: the server remembers the last
    sequence of each producer with its result.
    """

    producer: str
    sequence: int
    sends: tuple[Outgoing, ...]
    all_or_none: bool = False
    """One failing send withholds the others too (`send_many`, transactions)."""


class Sender(Protocol):
    def send(self, flush: Flush) -> Operation[list[SendResult]]: ...


class Receiver(Protocol):
    def fetch(
        self, queues: Sequence[str], consumer: str, *, count: int, block_ms: int
    ) -> Operation[list[Delivered | Undecodable]]:
        """New messages of any of these queues; waits up to `block_ms` for the first one (0: not at all).

        `count` is per queue. Blocks, so it needs a connection of its own.
        """
        ...

    def claim(
        self, queue: Queue, consumer: str, *, cursor: str, count: int
    ) -> Operation[tuple[str, list[Delivered | Undecodable]]]:
        """Take over deliveries whose lease has lapsed; returns the cursor to go on from, kept by the caller."""
        ...


@dataclass(frozen=True, slots=True)
class Retrying:
    """A delivery to be handed out again after a delay."""

    delivered: Delivered
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Dying:
    """A delivery on its way to the dead-letter queue."""

    delivered: Delivered | Undecodable
    reason: DeadReason
    failure: Failure


class Settler(Protocol):
    """Each verb is one atomic step; each answer says, per delivery, whether it was still ours (True)."""

    def ack(self, queue: str, entry_ids: Sequence[str]) -> Operation[int]:
        """Acknowledge and remove; returns how many were still there."""
        ...

    def retry(self, queue: str, consumer: str, retrying: Sequence[Retrying]) -> Operation[list[bool]]: ...
    def dead_letter(self, queue: str, consumer: str, dying: Sequence[Dying]) -> Operation[list[bool]]: ...
    def discard(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Operation[list[bool]]:
        """Acknowledge, remove, and count as discarded (expired with `on_expire: discard`, `Discard()`)."""
        ...

    def release(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered]
    ) -> Operation[list[bool]]: ...
    def extend(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Operation[list[bool]]: ...


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one round of maintenance found and did."""

    generation: int
    promoted: int
    next_due_ms: int | None
    """Server time at which the next delayed message is due."""
    now_ms: int
    """Server time."""


class Maintainer(Protocol):
    def maintain(self, queues: Sequence[str]) -> Operation[Upkeep]:
        """Move due messages to their queues, at most 100 a call."""
        ...


# -- looking ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue pair as the server has it."""

    name: str
    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    dead: int = 0
    kept: int = 0
    oldest_age_seconds: float | None = None
    """Age of the oldest message that is ready or in flight."""
    consumers: int = 0
    state: str = "active"
    exists: bool = True
    """False: the stream, its group or its record is missing."""
    problem: str | None = None
    """What is wrong with its keys, where something is (another type, group gone)."""
    counters: Mapping[str, int] | None = None
    """sent, acked, retried, dead_lettered, expired, discarded."""


@dataclass(frozen=True, slots=True)
class AppliedRecord:
    """What the server knows of the applied topology, as it is stored (`plan.live_state` gives it meaning)."""

    owner: str | None
    format: int
    generation: int
    epoch: str
    resources: Mapping[str, Mapping[str, Any]]
    """Address -> {hash, generation, by, at, commit, spec}."""
    unfinished: str | None = None
    """The intent of an apply that did not finish."""


class Inspector(Protocol):
    def read_record(self) -> Operation[AppliedRecord]:
        """The whole applied record."""
        ...

    def read_addresses(self, names: Sequence[str]) -> Operation[Mapping[str, Any]]:
        """The applied resources that sending to these names needs: queues, routes, their targets and types."""
        ...

    def inspect_queues(self, names: Sequence[str]) -> Operation[list[QueueState]]:
        """At most 500 names a call."""
        ...


class Broker(Sender, Receiver, Settler, Maintainer, Inspector, Protocol):
    """Everything delivery needs. Apply's own verbs stand with the reconciler's `Applier`."""
