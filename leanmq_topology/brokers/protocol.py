"""The seam between this package and a server.

A broker operation is a value: it says what to do and how to read the answer. Two thin connections, one
blocking and one asyncio, carry such values out, so no delivery rule is written twice. What a broker can do
stands in small role protocols; what it cannot do is declared in `Capabilities` and never degrades silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from leanmq_topology.messages.codec import DeadLetter
from leanmq_topology.messages.envelope import Delivered, Outgoing, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.plan.live_state import AppliedRecord as AppliedRecord
from leanmq_topology.plan.live_state import QueueState as QueueState
from leanmq_topology.plan.revision import Revision
from leanmq_topology.topology.model import Queue

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Protocol[T_co]):
    """One atomic step on the broker, not yet carried out."""

    @property
    def name(self) -> str:
        """The verb, for logs and errors."""
        ...

    @property
    def read(self) -> Callable[[Any], T_co]:
        """Turns the server's raw answer into the result; pure."""
        ...


class BlockingConnection(Protocol):
    """Carries operations out, one at a time. Not for use by two threads at once."""

    @property
    def connection_id(self) -> int:
        """The server's number for this connection, which `Receiver.end_fetch` takes."""
        ...

    def execute(self, operation: Operation[T]) -> T: ...
    def close(self) -> None: ...


class AsyncConnection(Protocol):
    """Carries operations out in the order they are given; concurrent calls share one connection."""

    @property
    def connection_id(self) -> int:
        """The server's number for this connection, which `Receiver.end_fetch` takes."""
        ...

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
    """One failing send withholds the others too (`send_many`, transactions), and they get its answer."""


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

    def end_fetch(self, connection_id: int) -> Operation[bool]:
        """Make a waiting `fetch` on the connection of that id answer at once, with nothing.

        The way to stop a reader: closing its connection could strand messages on their way. False: it was not
        waiting.
        """
        ...

    def fetch_own(
        self, queue: str, consumer: str, known: Sequence[str]
    ) -> Operation[list[Delivered | Undecodable]]:
        """What was handed to this consumer in an answer that got lost: all it holds but `known` entry ids.

        Their leases run anew; their delivery count stays, because nobody ran them.
        """
        ...

    def claim(
        self, queue: Queue, consumer: str, *, cursor: str, count: int
    ) -> Operation[tuple[str, list[Delivered | Undecodable]]]:
        """Take over deliveries whose lease has lapsed; returns the cursor to go on from, kept by caller."""
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
    started: bool = True
    """False: this hand-out was never run (expired, past its limit), so it does not count as an attempt."""


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


class Inspector(Protocol):
    def read_record(self) -> Operation[AppliedRecord]:
        """The whole applied record."""
        ...

    def read_addresses(self, names: Sequence[str]) -> Operation[Mapping[str, Any]]:
        """The applied resources that sending to these names needs: targets behind them and types too."""
        ...

    def inspect_queues(self, names: Sequence[str]) -> Operation[list[QueueState]]:
        """At most 500 names a call."""
        ...


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """One dead letter, where it lies."""

    queue: str
    entry_id: str
    failed_at_ms: int
    """When it came there, by the server's clock."""
    letter: DeadLetter


class Browser(Protocol):
    """Looks at messages without touching them."""

    def read_dead_letters(self, queue: str, *, after: str, count: int) -> Operation[list[DeadEntry]]:
        """The oldest `count` (at most 1,000) dead letters after this entry id (`""`: from the start)."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One running worker, by its last heartbeat."""

    name: str
    """Its consumer name on the queues it reads."""
    facts: Mapping[str, str]
    """What it says of itself: host, pid, handlers, what it has done."""


class Roster(Protocol):
    """Who runs. For display only: leases decide who owns what."""

    def heartbeat(self, worker: str, facts: Mapping[str, str], *, lifetime_ms: int) -> Operation[None]:
        """Be listed as running for `lifetime_ms`."""
        ...

    def leave(self, worker: str, queues: Sequence[str]) -> Operation[int]:
        """Be listed no longer, and give the name back wherever nothing is held under it."""
        ...

    def list_consumers(self, queues: Sequence[str]) -> Operation[list[str]]:
        """The names under which these queues were read; workers that are gone may be among them."""
        ...

    def inspect_workers(self, names: Sequence[str]) -> Operation[list[WorkerState]]:
        """Those of these workers that are running."""
        ...


# -- applying --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApplyLock:
    """The apply lock of a namespace, held by us for `lifetime_ms` from each write or renewal."""

    value: str
    """What stands in the lock: fencing number, random token, holder. Every write checks it."""
    lifetime_ms: int


@dataclass(frozen=True, slots=True)
class LockHeld:
    """Somebody else applies right now."""

    holder: str
    expires_in_ms: int


@dataclass(frozen=True, slots=True)
class OwnedByAnother:
    """The namespace belongs to the topology of another name. Nothing was written."""

    owner: str


@dataclass(frozen=True, slots=True)
class LockLost:
    """The lock lapsed, or the namespace moved on; this step wrote nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """One step of an apply is done: these resources are made and recorded."""

    addresses: tuple[str, ...] = ()
    generation: int | None = None
    """The new generation, with the last step."""


class Applier(Protocol):
    """Needs an admin's rights. Every write is fenced by the lock; every step may be done twice."""

    def take_lock(
        self, owner: str, holder: str, *, lifetime_ms: int
    ) -> Operation[ApplyLock | LockHeld | OwnedByAnother]:
        """`owner` is the topology's name, `holder` says who applies, for whoever finds the lock taken."""
        ...

    def renew_lock(self, lock: ApplyLock) -> Operation[bool]:
        """False: it is not ours any more."""
        ...

    def release_lock(self, lock: ApplyLock) -> Operation[bool]: ...

    def write_revision(
        self, lock: ApplyLock, revision: Revision
    ) -> Iterator[Operation[Written | LockLost | OwnedByAnother]]:
        """The steps of one apply, each atomic and bounded, to be carried out in this order and to the end.

        The last one makes the new generation visible and lets the lock go.
        """
        ...


class Broker(Sender, Receiver, Settler, Maintainer, Inspector, Browser, Roster, Applier, Protocol):
    """Everything a topology needs of a server."""
