"""What becomes of a delivery: each verb is one atomic step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.brokers.protocol.requesting import Reply
from leanmq_topology.brokers.protocol.sending import Flush, SendResult
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure


class Retrying(Struct, frozen=True):
    """A delivery to be handed out again after a delay."""

    delivered: Delivered
    delay_ms: int


class Dying(Struct, frozen=True):
    """A delivery on its way to the dead-letter queue."""

    delivered: Delivered | Undecodable
    reason: DeadReason
    failure: Failure
    started: bool = True
    """False: this hand-out was never run (expired, past its limit), so it does not count as an attempt."""


class OutputsSent(Struct, frozen=True):
    """What became of a delivery and of what its handler sends."""

    ours: bool
    """False: somebody else owns the delivery by now, and nothing was done."""
    results: tuple[SendResult, ...] = ()
    """One for each send. With a `Stale` or `Full` among them nothing was done; the delivery is still ours."""


class HandedBack(Struct, frozen=True):
    """What was found in the hands of a consumer that is gone."""

    freed: int
    """Never started, and free for anyone now."""
    started: tuple[Delivered | Undecodable, ...]
    """Was running, and is still held in its name, unless it was put under suspicion."""
    more: bool
    """Call again: one call looks at a bounded number."""


class Settler(Protocol):
    """Each verb is one atomic step; each answer says, per delivery, whether it was still ours (True)."""

    def ack(self, queue: str, entry_ids: Sequence[str], *, late: int = 0) -> Operation[int]:
        """Acknowledge and remove; returns how many were still there.

        A former owner's word is taken: the work is done. It says how many came `late`, to be counted.
        """
        ...

    def delete(self, queue: str, entry_ids: Sequence[str], *, late: int = 0) -> Operation[int]:
        """As `ack`, and no copy is kept, even where the queue keeps what was acknowledged."""
        ...

    def ack_with_outputs(
        self, consumer: str, delivered: Delivered, flush: Flush, reply: Reply | None = None
    ) -> Operation[OutputsSent]:
        """Acknowledge, send and reply, in one step: all of it, or nothing.

        A flush may be without sends. A client that waits for its reply no more is counted.
        Not held to the server's memory limit, as the message itself goes.
        """
        ...

    def retry(self, queue: str, consumer: str, retrying: Sequence[Retrying]) -> Operation[list[bool]]: ...
    def dead_letter(self, queue: str, consumer: str, dying: Sequence[Dying]) -> Operation[list[bool]]: ...
    def discard(
        self,
        queue: str,
        consumer: str,
        deliveries: Sequence[Delivered],
        *,
        expired: Collection[str] = (),
        reasons: Mapping[str, str] | None = None,
    ) -> Operation[list[bool]]:
        """Acknowledge, remove, and count as discarded (`Discard()`, or expired with `on_expire: discard`).

        `expired` are entry ids among them, counted as that too. `reasons`, by entry id, are told
        to who waits for a reply.
        """
        ...

    def release(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered]
    ) -> Operation[list[bool]]: ...
    def release_held(
        self, queue: str, consumer: str, *, started: Collection[str] = (), suspect: bool = False
    ) -> Operation[HandedBack]:
        """`consumer` is gone: free at once, and uncounted, all it held but the entry ids it had `started`.

        With `suspect` those are free too, but only for who runs each of them alone, or asks for all there is.

        Only who saw its process end and knows what that was running may call this. It is for the forced end
        of a worker; one that drains hands back by itself.
        """
        ...

    def extend(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Operation[list[bool]]: ...
    def crash(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered | Undecodable]
    ) -> Operation[list[bool]]:
        """The process of `consumer` died while it ran these, each alone: count it, and let them go.

        One that crashed `max_crashes` times, or on its last delivery, is dead-lettered as crashed. Only who
        saw the process die may call this; a lease that lapsed is no crash.
        """
        ...
