"""Outcomes as the steps that carry them out: one kind and one queue at a time, in bounded parts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from leanmq_topology.brokers.protocol import Dying, Operation, Retrying, Settler
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import Done, Dropped, MoveToDeadLetters, Outcome, RetryLater

LARGEST_ACK: Final = 1000
LARGEST_MOVE: Final = 100
"""Ids in one script call; moving a message carries its body, acknowledging it does not."""


class Settlement(msgspec.Struct, frozen=True):
    delivered: Delivered | Undecodable
    outcome: Outcome
    started: bool
    """Whether it was handed out: one that never was does not count as an attempt."""
    late: bool = False
    """Its lease had lapsed by the time it was done."""


class Acknowledgement(NamedTuple):
    """One operation that acknowledges these, of one queue."""

    operation: Operation[int]
    queue: str
    entry_ids: Sequence[str]
    late: int
    """How many of them were done after their lease had lapsed."""


class Step(NamedTuple):
    """One operation and the settlements that it carries."""

    operation: Operation[Any]
    settlements: Sequence[Settlement]


def plan_acknowledgements(
    broker: Settler, queue: str, entry_ids: Sequence[str], late: int
) -> Iterator[Acknowledgement]:
    """The steps that acknowledge plain successes: of most messages there is nothing more to be said."""
    for start in range(0, len(entry_ids), LARGEST_ACK):
        part = entry_ids[start : start + LARGEST_ACK]
        counted, late = min(late, len(part)), max(late - len(part), 0)
        yield Acknowledgement(broker.ack(queue, part, late=counted), queue, part, counted)


def plan_settlements(broker: Settler, consumer: str, batch: Iterable[Settlement]) -> Iterator[Step]:
    """The steps that settle what `consumer` holds. Each may be repeated without harm."""
    groups: defaultdict[tuple[str, type[Outcome]], list[Settlement]] = defaultdict(list)
    for settlement in batch:
        groups[settlement.delivered.queue, type(settlement.outcome)].append(settlement)
    for (queue, kind), group in groups.items():
        size = LARGEST_ACK if kind is Done else LARGEST_MOVE
        for start in range(0, len(group), size):
            part = group[start : start + size]
            yield Step(_operation(broker, consumer, queue, kind, part), part)


def _operation(
    broker: Settler, consumer: str, queue: str, kind: type[Outcome], part: Sequence[Settlement]
) -> Operation[Any]:
    if kind is Done:
        late = sum(item.late for item in part)
        return broker.ack(queue, [item.delivered.entry_id for item in part], late=late)
    if kind is RetryLater:
        return broker.retry(queue, consumer, list(_retrying(part)))
    if kind is MoveToDeadLetters:
        return broker.dead_letter(queue, consumer, list(_dying(part)))
    deliveries = [item.delivered for item in part if isinstance(item.delivered, Delivered)]
    if kind is Dropped:
        return broker.discard(
            queue, consumer, deliveries, expired=_expired(part), reasons=dict(_reasons(part))
        )
    return broker.release(queue, consumer, deliveries)


def _expired(part: Sequence[Settlement]) -> set[str]:
    return {
        item.delivered.entry_id for item in part if isinstance(item.outcome, Dropped) and item.outcome.expired
    }


def _reasons(part: Sequence[Settlement]) -> Iterator[tuple[str, str]]:
    for item in part:
        if isinstance(item.outcome, Dropped):
            yield item.delivered.entry_id, item.outcome.reason


def _retrying(part: Sequence[Settlement]) -> Iterator[Retrying]:
    for item in part:
        if isinstance(item.delivered, Delivered) and isinstance(item.outcome, RetryLater):
            yield Retrying(item.delivered, item.outcome.delay_ms)


def _dying(part: Sequence[Settlement]) -> Iterator[Dying]:
    for item in part:
        if isinstance(item.outcome, MoveToDeadLetters):
            yield Dying(item.delivered, item.outcome.reason, item.outcome.failure, item.started)
