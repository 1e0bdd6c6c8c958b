"""The verbs of a delivery as operations, and what their answers mean. No I/O; both colours stand on it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from leanmq_topology import settling
from leanmq_topology.brokers.protocol import Broker, Operation
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.client.consuming.shelf import Leftover, Shelf
from leanmq_topology.errors import LeaseLostError
from leanmq_topology.messages.decision import decide_failure
from leanmq_topology.messages.outcome import (
    Done,
    Dropped,
    Outcome,
    Reject,
    Released,
    Retry,
)

UNSETTLED: Final = "it was handed out, and not settled when its iterator or client was closed"

Pick = Callable[["Grip"], Outcome]
"""The outcome for one message, from what is known of it."""


@dataclass(frozen=True, slots=True)
class Grip:
    """A held message and the shelf it is held on: what a delivery is settled by."""

    shelf: Shelf
    held: Held

    def take(self) -> None:
        """From now on only the settlement that follows decides. Raises `LeaseLostError` if it is too late."""
        if self.held.ended:
            raise LeaseLostError(self.message_id, reason="it was settled before, or its iterator was closed")
        self.held.ended = True

    @property
    def message_id(self) -> str:
        return self.held.delivered.envelope.id


@dataclass(frozen=True, slots=True)
class Settlement:
    """One step that settles messages of one queue, or renews them."""

    operation: Operation[Any]
    grips: Sequence[Grip]

    def conclude(self, answer: int | Sequence[bool], *, repeated: bool) -> list[Grip]:
        """It was carried out: take note, and return those that were not ours to settle any more.

        `repeated`: an earlier try may have done it, its answer lost, so that absence proves nothing.
        """
        for grip in self.grips:
            grip.shelf.forget(grip.held)
        if isinstance(answer, int):  # an acknowledgement is taken from anyone
            if answer < len(self.grips) and len(self.grips) == 1 and not repeated:
                self.grips[0].held.late = True
            return []
        lost = [grip for grip, ours in zip(self.grips, answer, strict=True) if not ours and not repeated]
        for grip in lost:
            grip.held.lost = True
        return lost

    def withdraw(self) -> None:
        """It was not carried out: they are held as before."""
        for grip in self.grips:
            grip.held.ended = False


def choose_done(grip: Grip) -> Outcome:
    grip.held.late = not grip.held.is_ours()
    return Done()


def choose_nack(reason: str, delay_ms: int | None) -> Pick:
    """Deliver again, by the queue's backoff or after `delay_ms`; past its limit it is dead-lettered."""
    after = None if delay_ms is None else delay_ms / 1000

    def choose(grip: Grip) -> Outcome:
        retry = Retry(reason, after=after)
        return decide_failure(retry, grip.held.delivered, grip.shelf.queue, random.random())

    return choose


def choose_reject(reason: str) -> Pick:
    def choose(grip: Grip) -> Outcome:
        return decide_failure(Reject(reason), grip.held.delivered, grip.shelf.queue, random.random())

    return choose


def choose_release(grip: Grip) -> Outcome:
    return Released()


def choose_discard(grip: Grip) -> Outcome:
    return Dropped()


def plan_settlements(broker: Broker, grips: Sequence[Grip], choose: Pick) -> list[Settlement]:
    """The steps that settle these. Raises `LeaseLostError` before anything is done if one cannot be."""
    taken: list[Grip] = []
    try:
        for grip in grips:
            grip.take()
            taken.append(grip)
    except LeaseLostError:
        for grip in taken:
            grip.held.ended = False
        raise
    outcomes: defaultdict[Shelf, list[tuple[Grip, Outcome]]] = defaultdict(list)
    for grip in grips:
        outcomes[grip.shelf].append((grip, choose(grip)))
    return [step for shelf, part in outcomes.items() for step in _plan(broker, shelf, part)]


def plan_deletion(broker: Broker, grip: Grip) -> Settlement:
    """Done, and no copy is kept where the queue keeps what was acknowledged."""
    grip.take()
    late = int(not grip.held.is_ours())
    grip.held.late = bool(late)
    name = grip.shelf.name
    return Settlement(broker.delete(name, [grip.held.delivered.entry_id], late=late), [grip])


def plan_extension(broker: Broker, grip: Grip) -> Operation[list[bool]]:
    """Let the lease run anew."""
    held = grip.held
    if held.ended:
        raise LeaseLostError(grip.message_id, reason="it was settled before, or its iterator was closed")
    return broker.extend(grip.shelf.name, grip.shelf.consumer, [held.delivered])


def note_extension(grip: Grip, kept: Sequence[bool], seconds: float, asked_at: float) -> None:
    """What the server answered. Raises `LeaseLostError`."""
    if not kept[0]:
        grip.held.lost = True
        raise LeaseLostError(grip.message_id)
    grip.held.lease_ends = asked_at + grip.shelf.lease_seconds
    grip.held.renewed_until = asked_at + seconds


def choose_unsettled(held: Held, shelf: Shelf) -> Outcome:
    """What becomes of a message whose iterator ends: never handed out, it does not count; else it does."""
    if not held.handed_out:
        return Released()
    return decide_failure(Retry(UNSETTLED, after=0), held.delivered, shelf.queue, random.random())


def plan_leftovers(broker: Broker, shelf: Shelf, leftovers: Sequence[Leftover]) -> list[Operation[Any]]:
    """The steps that settle what no caller waits for."""
    batch = [settling.Settlement(item, outcome, started) for item, outcome, started in leftovers]
    return [step.operation for step in settling.plan_settlements(broker, shelf.consumer, batch)]


def raise_lost(lost: Sequence[Grip]) -> None:
    if lost:
        raise LeaseLostError(lost[0].message_id, message_ids=[grip.message_id for grip in lost])


def _plan(broker: Broker, shelf: Shelf, part: Sequence[tuple[Grip, Outcome]]) -> Iterator[Settlement]:
    grips = {grip.held.delivered.entry_id: grip for grip, _ in part}
    batch = [
        settling.Settlement(grip.held.delivered, outcome, started=True, late=grip.held.late)
        for grip, outcome in part
    ]
    for operation, settled in settling.plan_settlements(broker, shelf.consumer, batch):
        yield Settlement(operation, [grips[one.delivered.entry_id] for one in settled])
