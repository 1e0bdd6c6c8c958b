"""What any living worker does for a namespace, without a leader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.examination import Examination
from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.plan.live_state import Damage


class Upkeep(Struct, frozen=True):
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


class QueueHealth(Struct, frozen=True):
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
    suspects: int = 0
    """Those of the free ones that may have taken a worker down."""


class Stretch(Struct, frozen=True):
    """A bounded part of a search."""

    cursor: str
    """Where to go on from; empty at the end."""
    found: int


class Swept(Struct, frozen=True):
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
        """Look at queues that a worker reads, in this order. Cheap enough for four a second."""
        ...

    def take_turns(self, queues: Sequence[str], *, good_for_ms: int) -> Operation[list[str]]:
        """Those of these queues that no worker has checked for `good_for_ms`; now they are the caller's."""
        ...

    def list_filled(self, queues: Sequence[str]) -> Operation[list[str]]:
        """Those of these queues that hold anything at all; what is empty need not be searched."""
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
