"""Renewing the leases of what is held, a third of a lease ahead of time twice over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from leanmq_topology.brokers.protocol import Settler
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.topology.model import Queue
from leanmq_topology.upkeep.steps import Steps, ask

RENEWALS_PER_LEASE: Final = 3
LARGEST_RENEWAL: Final = 500
"""Deliveries in one call."""


class Leased(Protocol):
    delivered: Delivered
    lease_ends: float
    """Monotonic seconds."""


L = TypeVar("L", bound=Leased)


def renewal_seconds(queue: Queue) -> float:
    """From one renewal to the next, so that one may fail and the next still come in time."""
    return queue.visibility_timeout_ms / 1000 / RENEWALS_PER_LEASE


def renew(
    broker: Settler, queue: Queue, consumer: str, messages: Sequence[L], lost: Callable[[L], None]
) -> Steps[None]:
    """Renew the leases of these messages; `lost` is called with each that is somebody else's by now."""
    for start in range(0, len(messages), LARGEST_RENEWAL):
        part = messages[start : start + LARGEST_RENEWAL]
        asked_at = time.monotonic()
        kept = yield from ask(broker.extend(queue.name, consumer, [message.delivered for message in part]))
        lease_ends = asked_at + queue.visibility_timeout_ms / 1000
        for message, ours in zip(part, kept, strict=True):
            if ours:
                message.lease_ends = lease_ends
            else:
                lost(message)
