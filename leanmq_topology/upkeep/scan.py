"""The search for lapsed leases of one queue: where it stands, and when it goes on."""

from __future__ import annotations

import random
import time

from leanmq_topology.upkeep.watched import Watched

LONGEST_SCAN_SECONDS = 5.0
FRONT = "0-0"


class Scan:
    """Where one queue's search for lapsed leases stands."""

    def __init__(self, lane: Watched) -> None:
        self._lane = lane
        self.cursor = FRONT
        self.due_at = 0.0

    @property
    def goes_on(self) -> bool:
        """It is in the middle of a round, and there is room for what it may find."""
        return self.cursor != FRONT and self._lane.readable and self._lane.room > 0

    def plan_next(self, cursor: str) -> None:
        """Go on at once behind `cursor`; after a whole round, rest for a while."""
        self.cursor = cursor
        self.due_at = time.monotonic() + (self.interval() if cursor == FRONT else 0.0)

    def interval(self) -> float:
        """A quarter of the lease, at most 5 s, give or take a fifth so that workers spread."""
        lease_seconds = self._lane.queue.visibility_timeout_ms / 1000
        return min(lease_seconds / 4, LONGEST_SCAN_SECONDS) * random.uniform(0.8, 1.2)
