"""Looking at queues, messages and workers without touching them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.messages.codec import DeadLetter
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.plan.live_state import AppliedRecord, QueueState
from leanmq_topology.topology.model import Queue

if TYPE_CHECKING:
    from leanmq_topology.plan.revision import PastRevision


class OverdueStretch(Struct, frozen=True):
    """Ready messages that were looked at in one call, and how many of them have expired."""

    after: str
    """Entry id that the next look goes on behind; `""`: there is no more."""
    expired: int
    looked_at: int


class Inspector(Protocol):
    def read_time(self) -> Operation[int]:
        """The server's clock, in ms since 1970: what entry ids go by."""
        ...

    def read_record(self) -> Operation[AppliedRecord]:
        """The whole applied record."""
        ...

    def read_history(self, *, count: int) -> Operation[list[PastRevision]]:
        """The latest `count` (at most 1,000) revisions that were applied, newest first."""
        ...

    def read_addresses(self, names: Sequence[str]) -> Operation[Mapping[str, Any]]:
        """The applied resources that sending to these names needs: targets behind them and types too."""
        ...

    def read_limits(self, queue: str) -> Operation[Queue | None]:
        """A queue by its own record, as scripts see it; None: it has none.

        What only senders and handlers need (types, backoff, deduplication) is not in it.
        """
        ...

    def inspect_queues(self, names: Sequence[str]) -> Operation[list[QueueState]]:
        """At most 500 names a call."""
        ...

    def count_expired(self, queue: str, *, after: str = "") -> Operation[OverdueStretch]:
        """A bounded look at ready messages, from behind this entry id on (`""`: from the next one)."""
        ...

    def inspect_routes(self, names: Sequence[str]) -> Operation[dict[str, dict[str, int]]]:
        """What these routes counted themselves (`unrouted`, `duplicates`, `conflicts`), by name."""
        ...


class DeadEntry(Struct, frozen=True):
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

    def follow(self, after: Mapping[str, str], *, count: int, block_ms: int) -> Operation[list[WaitingEntry]]:
        """What came into these queues behind the entry ids given, and still lies there; nothing is taken.

        At most `count` (1,000) of each; waits up to `block_ms` for the first one. A queue that is not there
        has none. Blocks, so it needs a connection of its own.
        """
        ...

    def follow_dead_letters(
        self, after: Mapping[str, str], *, count: int, block_ms: int
    ) -> Operation[list[DeadEntry]]:
        """The same for their dead-letter queues."""
        ...


class MessagePlace(StrEnum):
    """Where a message of a queue stands."""

    IN_FLIGHT = "in_flight"
    READY = "ready"
    DELAYED = "delayed"
    PARKED = "parked"
    """Past its limits, and waits for room in its dead-letter queue."""
    ACKED = "acked"
    """Done, and kept in the history of its queue."""


class WaitingEntry(Struct, frozen=True):
    """One message of a queue, where it lies."""

    queue: str
    place: MessagePlace
    entry_id: str
    """Empty for a delayed message: it gets its entry when it is due."""
    envelope: Envelope | None
    """None for an entry that is not one of ours."""
    since_ms: int | None
    """Server time: when it came (ready), was handed out or renewed (in flight), is due (delayed), is done."""
    consumer: str = ""
    """Who holds it, in flight."""
    delivery_count: int = 0
    """Hand-outs of this entry so far."""


class WorkerState(Struct, frozen=True):
    """One running worker, by its last heartbeat."""

    name: str
    """Its consumer name on the queues it reads."""
    facts: Mapping[str, str]
    """What it says of itself: host, pid, handlers, what it has done."""
    expires_in_ms: int = 0
    """When it is listed no longer, unless it is heard of before."""

    @property
    def silent(self) -> bool:
        """Half of its time on the list is over: a heartbeat is late."""
        lifetime_ms = self.facts.get("lifetime_ms", "")
        return lifetime_ms.isdecimal() and 2 * self.expires_in_ms < int(lifetime_ms)


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
