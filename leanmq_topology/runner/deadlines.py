"""Ends runs that take too long, with one timer a crew: it is set for the run that is due first.

A message costs no timer of its own, and an idle crew has none at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from leanmq_topology.topology.values import format_duration

Sweep = Callable[[float], float | None]
"""Ends what is overdue at a time (monotonic seconds); returns when to look again, None if nothing runs."""


class Deadlines:
    """Calls `sweep` when the first run under way may have to be ended."""

    def __init__(self, limit_seconds: float, sweep: Sweep) -> None:
        self.limit_seconds = limit_seconds
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def watch(self) -> None:
        """A run has begun, or is about to: it is due no earlier than the limit from now."""
        if self._timer is None:
            self._timer = self._loop.call_later(self.limit_seconds, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        next_at = self._sweep(now)
        if next_at is not None:
            self._timer = self._loop.call_later(max(next_at - now, 0.001), self._look)


def timed_out(limit_seconds: float) -> TimeoutError:
    """What a run that took too long failed with."""
    return TimeoutError(f"it ran longer than its timeout of {format_duration(round(limit_seconds * 1000))}")
