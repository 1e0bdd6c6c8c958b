"""What was heard and not read yet: bounded, so that a slow reader costs messages and not memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from leanmq_topology.brokers.protocol import Heard
from leanmq_topology.errors import SettingError

LARGEST_BUFFER: Final = 10_000
"""Messages that may wait to be read, unless a subscription asks for less."""


def check_buffer(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 10 * LARGEST_BUFFER:
        raise SettingError("buffer", f"must be a whole number from 1 to {10 * LARGEST_BUFFER}, not {size!r}")
    return size


@dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """What one subscription heard, by channel; a channel that never spoke is not in it."""

    since: float
    """Seconds since 1970: when it began."""
    received: Mapping[str, int] = field(default_factory=dict)
    """Handed to the caller."""
    invalid: Mapping[str, int] = field(default_factory=dict)
    """Broke the schema of their channel, or were no messages of ours."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Came while too many waited to be read."""
    interruptions: int = 0
    """Times the connection broke; what was published meanwhile is lost."""


class Inbox:
    """No locks: a deque and counters that one side fills and the other empties."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heard: deque[Heard] = deque()
        self._since = time.time()
        self.received: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.interruptions = 0

    def put(self, heard: Heard) -> bool:
        """False: it is full, and this one is dropped."""
        if len(self._heard) >= self._size:
            self.dropped[heard.channel] += 1
            return False
        self._heard.append(heard)
        return True

    @property
    def waiting(self) -> int:
        return len(self._heard)

    def take(self) -> Heard | None:
        try:
            return self._heard.popleft()
        except IndexError:
            return None

    def statistics(self) -> SubscriptionStatistics:
        return SubscriptionStatistics(
            self._since,
            dict(self.received),
            dict(self.invalid),
            dict(self.dropped),
            self.interruptions,
        )
