"""What a client published, by channel."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PublishStatistics:
    """Counts by channel; a channel that was never published to is not in it."""

    since: float
    """Seconds since 1970: when the client was opened."""
    published: Mapping[str, int] = field(default_factory=dict)
    received: Mapping[str, int] = field(default_factory=dict)
    """Receivers in all: a message that three heard counts three."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Refused (invalid data, an unknown type) or not answered."""


class Tally:
    def __init__(self) -> None:
        self._since = time.time()
        self._published: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def count(self, channel: str, receivers: int) -> None:
        self._published[channel] += 1
        self._received[channel] += receivers

    def fail(self, channels: Iterable[str]) -> None:
        self._failed.update(channels)

    def statistics(self) -> PublishStatistics:
        return PublishStatistics(self._since, dict(self._published), dict(self._received), dict(self._failed))
