"""What a `LeanMQ` took and has not settled: while it is held here, its lease is renewed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from leanmq_topology.client.consuming.delivery import SyncDelivery
from leanmq_topology.messages.message import Message

LONGEST_SECONDS: Final = 3600.0
"""After that nobody renews a lease any more, so it need not be remembered."""
_NAMES: Final = tuple(one.name for one in fields(Message))


class Taken:
    """Threads share it. A classic program names what it settles by id, so somebody has to keep the rest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], tuple[float, SyncDelivery]] = {}

    def add(self, queue: str, deliveries: Iterable[SyncDelivery]) -> None:
        """Hold these until they are dropped, or too old to be ours."""
        now = time.monotonic()
        with self._lock:
            for delivery in deliveries:
                self._held.pop((queue, delivery.entry_id), None)  # the oldest come first
                self._held[queue, delivery.entry_id] = (now, delivery)
            while self._held and next(iter(self._held.values()))[0] < now - LONGEST_SECONDS:
                del self._held[next(iter(self._held))]

    def drop(self, queue: str, entry_ids: Iterable[str]) -> None:
        """They are settled."""
        with self._lock:
            for entry_id in entry_ids:
                self._held.pop((queue, entry_id), None)


def in_classic_form(delivery: SyncDelivery) -> Message:
    """A plain message whose `id` is where it lies; `message_id` is the stable one.

    `delivery_count` counts every delivery of the message, those before a retry too.
    """
    values: dict[str, Any] = {name: getattr(delivery, name) for name in _NAMES}
    own = {"id": delivery.entry_id, "delivery_count": delivery.attempt, "redelivered": delivery.attempt > 1}
    return Message(**values | own)
