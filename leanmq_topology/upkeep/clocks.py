"""The server's time, as a worker knows it between two looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable

from leanmq_topology.clock import Clock, system_clock

Monotonic = Callable[[], float]
"""Seconds that only ever go forward."""


class ServerClock:
    """Milliseconds since 1970 by the server, carried on with this machine's monotonic clock.

    Expiry is judged by it, so a worker whose own clock is wrong or jumps neither runs what has expired nor
    throws away what has not. Until the first `adjust` it is this machine's own time.
    """

    def __init__(self, *, wall: Clock = system_clock, monotonic: Monotonic = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset_ms = wall() - monotonic() * 1000

    def adjust(self, server_ms: int, *, asked_at: float) -> None:
        """The server said `server_ms` in answer to a question put at `asked_at` (monotonic seconds)."""
        middle = (asked_at + self._monotonic()) / 2
        self._offset_ms = server_ms - middle * 1000

    @property
    def offset_ms(self) -> float:
        """The server's time less our monotonic clock; it falls when the server's clock went back."""
        return self._offset_ms

    def now_ms(self) -> int:
        return int(self._monotonic() * 1000 + self._offset_ms)
