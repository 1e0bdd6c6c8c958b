"""The seam between this package and a server.

A broker operation is a value: it says what to do and how to read the answer. Two thin connections, one
blocking and one asyncio, carry such values out, so no delivery rule is written twice. What a broker can do
stands in small role protocols; what it cannot do is declared in `Capabilities` and never degrades silently.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import msgspec

from leanmq_topology.brokers.examination import Examination
from leanmq_topology.messages.codec import DeadLetter
from leanmq_topology.messages.envelope import Delivered, Envelope, Outgoing, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.plan.live_state import AppliedRecord as AppliedRecord
from leanmq_topology.plan.live_state import Damage as Damage
from leanmq_topology.plan.live_state import QueueState as QueueState
from leanmq_topology.plan.revision import Revision
from leanmq_topology.topology.durability import Durability
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


class Stored(msgspec.Struct, frozen=True, gc=False):
    id: str
    copies: int
    """How many were made: none for an event that nobody wants, fewer where a queue had it already."""
    differs: bool = False
    """A queue that had it already had it with other data."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """It was sent before, within the window that counts; nothing was written for this send."""

    id: str
    """Of the message that was stored then."""
    differs: bool
    """That message carried other data."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The address changed on the server since this client read it. Nothing was written for this send."""

    target: str
    digest: str | None
    """None: the address is not applied at all."""


@dataclass(frozen=True, slots=True)
class Full:
    """A queue is at its `max_length` and its overflow makes no room; nothing was written for this send."""

    queue: str
    max_length: int


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """It is stored, but who should have it by now does not, or has not said so in time."""

    id: str
    reached: str
    """The durability it has for sure."""
    reason: str | None = None
    """What the server said, where it refused to confirm at all."""


SendResult = Stored | Duplicate | Unconfirmed | Stale | Full


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
        self, queue: Queue, consumer: str, *, cursor: str, count: int, held: Sequence[str] = ()
    ) -> Operation[tuple[str, list[Delivered | Undecodable]]]:
        """Take over deliveries whose lease has lapsed; returns the cursor to go on from, kept by caller.

        `held` are entry ids that the consumer knows it holds: of these nothing is counted, and what is handed
        out says only that they are its for another lease.
        """
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


@dataclass(frozen=True, slots=True)
class OutputsSent:
    """What became of a delivery and of what its handler sends."""

    ours: bool
    """False: somebody else owns the delivery by now, and nothing was done."""
    results: tuple[SendResult, ...] = ()
    """One for each send. With a `Stale` or `Full` among them nothing was done; the delivery is still ours."""


class Settler(Protocol):
    """Each verb is one atomic step; each answer says, per delivery, whether it was still ours (True)."""

    def ack(self, queue: str, entry_ids: Sequence[str], *, late: int = 0) -> Operation[int]:
        """Acknowledge and remove; returns how many were still there.

        A former owner's word is taken: the work is done. It says how many came `late`, to be counted.
        """
        ...

    def ack_with_outputs(self, consumer: str, delivered: Delivered, flush: Flush) -> Operation[OutputsSent]:
        """Acknowledge and send, in one step: all of the flush and the acknowledgement, or neither.

        Not held to the server's memory limit, as the message itself goes.
        """
        ...

    def retry(self, queue: str, consumer: str, retrying: Sequence[Retrying]) -> Operation[list[bool]]: ...
    def dead_letter(self, queue: str, consumer: str, dying: Sequence[Dying]) -> Operation[list[bool]]: ...
    def discard(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered], *, expired: Collection[str] = ()
    ) -> Operation[list[bool]]:
        """Acknowledge, remove, and count as discarded (`Discard()`, or expired with `on_expire: discard`).

        `expired` are entry ids among them, counted as that too.
        """
        ...

    def release(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered]
    ) -> Operation[list[bool]]: ...
    def extend(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Operation[list[bool]]: ...
    def crash(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered | Undecodable]
    ) -> Operation[list[bool]]:
        """The process of `consumer` died while it ran these, each alone: count it, and let them go.

        One that crashed `max_crashes` times is dead-lettered. Only who saw the process die may call this; a
        lease that lapsed is no crash.
        """
        ...


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one round of maintenance found and did."""

    generation: int
    promoted: int
    next_due_ms: int | None
    """Server time at which the next delayed message is due."""
    now_ms: int
    """Server time."""
    epoch: str = ""
    """Of the applied topology; another one after the namespace was wiped and applied again."""
    waiting: tuple[str, ...] = ()
    """Queues with messages due by the next tick, at most 64, in rotation: name them in the next call."""


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """What a worker has to know of a queue it reads."""

    name: str
    damage: Damage | None = None
    """What is wrong with its keys; the rest is unknown then."""
    paused: bool = False
    pending: int = 0
    """Messages handed out and not settled, whoever holds them."""
    own: int = 0
    """Those of them that the consumer that asks holds."""
    free: int = 0
    """Those of them that were handed back: whoever claims first has them."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A bounded part of a search."""

    cursor: str
    """Where to go on from; empty at the end."""
    found: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep took out."""

    expired: int
    """Messages nobody read in time: dead-lettered or discarded, as their queue says."""
    dead_letters: int
    """Past the time their queue keeps them."""


class Maintainer(Protocol):
    def maintain(self, queues: Sequence[str], worker: str = "") -> Operation[Upkeep]:
        """Move due messages to their queues, and parked ones to dead-letter queues; at most 100 a call.

        `queues` are those that the last call named. While one `worker` moves messages, others move none; they
        take over 250 ms after its last call.
        """
        ...

    def sweep(self, queues: Sequence[str]) -> Operation[Swept]:
        """Take expired messages off the heads of these queues, at most 100 a call.

        Dead letters and history go too, once they are past the time their queue keeps them.
        """
        ...

    def survey(self, queues: Sequence[str], consumer: str) -> Operation[list[QueueHealth]]:
        """Look at queues that a worker reads, in this order. Cheap enough for every second."""
        ...

    def take_turns(self, queues: Sequence[str], *, good_for_ms: int) -> Operation[list[str]]:
        """Those of these queues that no worker has checked for `good_for_ms`; now they are the caller's."""
        ...

    def rescue(self, queue: str, *, cursor: str = "") -> Operation[Stretch]:
        """Make claimable what was handed out and is held by nobody: a consumer was deleted with its messages.

        Counts one delivery. Raises `TopologyNotAppliedError`.
        """
        ...

    def rescue_delayed(self, queue: str, *, cursor: str = "") -> Operation[Stretch]:
        """Bring back delayed messages whose place in line was deleted: they are due now."""
        ...

    def rescue_group(self, queue: str) -> Operation[int | None]:
        """Make the consumer group of an applied queue again, at the beginning of its stream.

        Returns how many messages it will hand out, those in flight once more; None: none was missing, or the
        queue is not applied, or its stream is gone too.
        """
        ...

    def repair_clock(self, queue: str, *, cursor: str = "") -> Operation[Stretch]:
        """After the server's clock went back: leases that would not lapse for long begin now."""
        ...

    def reap(self, queues: Sequence[str], *, idle_ms: int) -> Operation[int]:
        """Forget consumers that hold nothing and were not heard of for `idle_ms`."""
        ...


class Examiner(Protocol):
    def examine(self, now_ms: int) -> Operation[Examination]:
        """Look whether the server is fit for messages; `now_ms` is our clock, to be compared with its own."""
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

    def peek(self, queue: str, *, count: int) -> Operation[list[WaitingEntry]]:
        """Up to `count` (at most 1,000) messages in flight, as many ready, as many delayed, in order."""
        ...


class MessagePlace(StrEnum):
    """Where a message of a queue stands."""

    IN_FLIGHT = "in_flight"
    READY = "ready"
    DELAYED = "delayed"
    PARKED = "parked"
    """Past its limits, and waits for room in its dead-letter queue."""


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """One message of a queue, where it lies."""

    queue: str
    place: MessagePlace
    entry_id: str
    """Empty for a delayed message: it gets its entry when it is due."""
    envelope: Envelope | None
    """None for an entry that is not one of ours."""
    since_ms: int | None
    """Server time: when it came (ready), was handed out or renewed (in flight), or is due (delayed)."""
    consumer: str = ""
    """Who holds it, in flight."""
    delivery_count: int = 0
    """Hand-outs of this entry so far."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One running worker, by its last heartbeat."""

    name: str
    """Its consumer name on the queues it reads."""
    facts: Mapping[str, str]
    """What it says of itself: host, pid, handlers, what it has done."""


class Roster(Protocol):
    """Who runs. For display only: leases decide who owns what."""

    def heartbeat(
        self, worker: str, facts: Mapping[str, str], *, lifetime_ms: int, queues: Sequence[str] = ()
    ) -> Operation[None]:
        """Be listed as running for `lifetime_ms`, also where nothing was ever read of these queues."""
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


# -- operating -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Revival:
    """A dead letter on its way back to its queue, and the headers it goes with."""

    entry_id: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Replayed:
    """For each `Revival`: whether the dead letter was still there and is now in its queue."""

    moved: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The queue cannot take them all; nothing was moved."""

    queue: str
    max_length: int
    room: int
    """How many it would take right now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """One purge of a queue, or of its dead-letter queue: what went, and until when it can come back."""

    queue: str = field(kw_only=False)
    purge_id: str = field(kw_only=False)
    at_ms: int = 0
    """Server time; 0 where it was not asked for."""
    keep_ms: int
    """How long it can be undone, from then on; 0: not at all."""
    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    dead: int = 0

    @property
    def of_dead_letters(self) -> bool:
        return self.dead > 0

    @property
    def messages(self) -> int:
        """How many went."""
        return self.ready + self.in_flight + self.delayed + self.dead


@dataclass(frozen=True, slots=True)
class Undone:
    """One step of undoing a purge."""

    restored: int
    left: int
    """Messages that need further steps."""


class Operator(Protocol):
    """What a person does to a queue. Every step is atomic and bounded."""

    def replay(self, queue: str, revivals: Sequence[Revival]) -> Operation[Replayed | NoRoom]:
        """Send up to 1,000 dead letters back to this queue: all that are still there, or none.

        Id, type and data stay, attempts start anew, the lifetime is the queue's own from now on; it is not
        deduplicated; a full queue answers `NoRoom`, a full server raises `BrokerFullError`.
        """
        ...

    def discard_dead_letters(self, queue: str, entry_ids: Sequence[str]) -> Operation[list[bool]]:
        """Forget up to 1,000 dead letters; for each, whether it was still there."""
        ...

    def purge(self, queue: str, purge_id: str, *, keep_ms: int) -> Operation[Purge]:
        """Take everything out of the queue: ready, in flight and delayed. Workers and senders go on.

        It can be undone for `keep_ms` (0: never, and the memory is free at once). A call that is repeated
        with its `purge_id` (letters and digits) takes nothing more.
        """
        ...

    def purge_dead_letters(self, queue: str, purge_id: str, *, keep_ms: int) -> Operation[Purge]:
        """The same for the dead-letter queue."""
        ...

    def list_purges(self, queue: str) -> Operation[list[Purge]]:
        """Purges of this queue and of its dead-letter queue that can be undone, oldest first."""
        ...

    def undo_purge(self, purge: Purge, *, count: int) -> Operation[Undone | None]:
        """Bring back what a purge took: all at once into an empty queue, else up to `count` messages.

        What was acknowledged since stays away. None: this purge is unknown, or too old.
        """
        ...

    def pause(self, queues: Sequence[str]) -> Operation[list[str]]:
        """Workers stop reading these queues; senders go on. Returns the state each had, `""`: not applied."""
        ...

    def resume(self, queues: Sequence[str]) -> Operation[list[str]]:
        """Undo `pause`; answers likewise."""
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


class Broker(
    Sender,
    DurableSender,
    Receiver,
    Settler,
    Maintainer,
    Examiner,
    Inspector,
    Browser,
    Roster,
    Operator,
    Applier,
    Protocol,
):
    """Everything a topology needs of a server."""
