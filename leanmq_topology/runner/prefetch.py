"""How many messages of one queue a worker may hold unacknowledged.

A set `prefetch` is a hard cap on everything unacknowledged. Otherwise the cap follows the handler: it
starts at `concurrency` and grows until about 100 ms of work is held, at most 256. A fast handler is then
never idle while the next read is under way, and a slow one does not sit on messages that another worker
could run. Of a batch handler one batch more is held than it runs, so that the next one fills up meanwhile.

Such a cap of our own choice is on what is still to be done: what is done and only waits for its
acknowledgement makes room for the next read at once, as long as all of it together is no more than twice
the cap. A server that is slow to take acknowledgements is so asked for less.
"""

from __future__ import annotations

import math
from typing import Self

from leanmq_topology.topology.model import Handler

WORK_HELD_SECONDS = 0.1
LARGEST = 256
HELD_TIMES = 2
"""Times the limit, all that is held and not acknowledged, where no `prefetch` is set."""
_WEIGHT = 0.2
"""Of a new measurement against all earlier ones."""


class Prefetch:
    """`at_once` messages run together, `least` are held whatever the handler's speed."""

    def __init__(self, at_once: int, fixed: int | None = None, *, least: int = 0) -> None:
        self._at_once, self._fixed = at_once, fixed
        self._least = max(at_once, least)
        self._seconds: float | None = None
        self.limit = self._least if fixed is None else fixed
        self.ordinary_seconds = -1.0 if fixed is None else math.inf
        """Calls that take no longer would not change the limit: they need not be measured."""

    @classmethod
    def of(cls, handler: Handler) -> Self:
        """As it is declared."""
        size = handler.batch.size if handler.batch else 1
        at_once = handler.concurrency * size
        return cls(at_once, handler.prefetch, least=at_once + size if handler.batch else at_once)

    def room(self, in_hand: int, held: int) -> int:
        """How many more may be read, with so many to be done or running, of so many not acknowledged."""
        if self._fixed is not None:
            return max(self._fixed - held, 0)
        return max(min(self.limit - in_hand, HELD_TIMES * self.limit - held), 0)

    def measure(self, seconds: float) -> None:
        """A call of the handler took so long, from its start to its end."""
        if self._fixed is not None:
            return
        known = self._seconds
        self._seconds = known = seconds if known is None else known + _WEIGHT * (seconds - known)
        wanted = self._at_once * WORK_HELD_SECONDS / max(known, 1e-6)
        self.limit = max(self._least, min(int(wanted), LARGEST))
        self.ordinary_seconds = self._at_once * WORK_HELD_SECONDS / LARGEST if wanted >= LARGEST else -1.0
