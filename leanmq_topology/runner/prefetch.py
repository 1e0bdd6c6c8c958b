"""How many messages of one queue a worker may hold unacknowledged.

A set `prefetch` is a hard cap. Otherwise the cap follows the handler: it starts at `concurrency` and grows
until about 100 ms of work is held, at most 256. A fast handler is then never idle while the next read is
under way, and a slow one does not sit on messages that another worker could run.
"""

from __future__ import annotations

WORK_HELD_SECONDS = 0.1
LARGEST = 256
_WEIGHT = 0.2
"""Of a new measurement against all earlier ones."""


class Prefetch:
    def __init__(self, concurrency: int, fixed: int | None = None) -> None:
        self._concurrency, self._fixed = concurrency, fixed
        self._seconds: float | None = None
        self.limit = concurrency if fixed is None else fixed

    def measure(self, seconds: float) -> None:
        """One message took so long, from its start to its end."""
        if self._fixed is not None:
            return
        known = self._seconds
        self._seconds = known = seconds if known is None else known + _WEIGHT * (seconds - known)
        wanted = self._concurrency * WORK_HELD_SECONDS / max(known, 1e-6)
        self.limit = max(self._concurrency, min(int(wanted), LARGEST))
