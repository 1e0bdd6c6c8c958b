"""One beat for all that wakes a worker at rest: to wake up costs it more than most of what it then does."""

from __future__ import annotations

from typing import Final

BEAT_SECONDS: Final = 0.95


class Pulse:
    """Beats from `now` on, a time of the loop's clock, so workers beat together only if they began so."""

    def __init__(self, now: float) -> None:
        self._first = now

    def pause(self, now: float, longest_seconds: float) -> float:
        """Seconds from `now` to the last beat that is not further off than that; where none is, so long."""
        beats = int((now + longest_seconds - self._first) / BEAT_SECONDS)
        seconds = self._first + beats * BEAT_SECONDS - now
        return seconds if seconds > 0.0 else longest_seconds
