"""How far a long input is: one line that is drawn again and again, only where a person watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TextIO

FIRST_AFTER_S: Final = 0.5
"""What is done sooner needs no progress."""
EVERY_S: Final = 0.1
_BAR: Final = 24


def render_progress(done: int, total: int | None, count: int, seconds: float) -> str:
    """`[######------------------]  25 %  12,000 messages, 4,500/s`; without a total only the numbers."""
    rate = f"{count / seconds:,.0f}/s" if seconds > 0 else "-"
    numbers = f"{count:,} messages, {rate}"
    if not total:
        return numbers
    share = min(done / total, 1.0)
    filled = int(share * _BAR)
    return f"[{'#' * filled}{'-' * (_BAR - filled)}] {share:4.0%}  {numbers}"


class Progress:
    """Watches lines go by. Draws on `stream` if that is given, and leaves nothing behind."""

    def __init__(
        self, stream: TextIO | None, total: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._total, self._clock = stream, total, clock
        self._started = clock()
        self._next_at = self._started + FIRST_AFTER_S
        self._done = self._count = 0
        self._drawn = 0

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The same lines, counted in bytes."""
        for line in lines:
            self._done += len(line)
            yield line

    def add(self, count: int) -> None:
        """So many messages more are stored."""
        self._count += count
        now = self._clock()
        if self._stream is not None and now >= self._next_at:
            self._next_at = now + EVERY_S
            text = render_progress(self._done, self._total, self._count, now - self._started)
            self._stream.write(f"\r{text.ljust(self._drawn)}")
            self._stream.flush()
            self._drawn = len(text)

    def clear(self) -> None:
        """Take the line away before something else is written."""
        if self._stream is not None and self._drawn:
            self._stream.write(f"\r{' ' * self._drawn}\r")
            self._stream.flush()
            self._drawn = 0
