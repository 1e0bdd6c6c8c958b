"""Message ids: shaped like UUID version 7, made from a counter, so they cost a microsecond and sort by time.

48 bits of milliseconds, 26 bits of a counter within the millisecond, 48 random bits of this process. Ids of
one generator rise strictly, even when the clock steps back. A forked child must call `renew`, or it would
repeat its parent's ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from leanmq_topology.clock import Clock

RANDOM_BYTES: Final = 6
_COUNTER_END: Final = 1 << 26


class MessageIds:
    """Makes ids; the clock and the source of random bytes are passed in. One generator a process."""

    __slots__ = ("_clock", "_counter", "_draw", "_head", "_now_ms", "_tail")

    def __init__(self, clock: Clock, draw: Callable[[int], bytes]) -> None:
        self._clock, self._draw = clock, draw
        self._now_ms = 0
        self._counter = 0
        self._head = ""
        self._tail = ""
        self.renew()

    def renew(self) -> None:
        """Draw this process's random part anew."""
        self._tail = self._draw(RANDOM_BYTES).hex()

    def next(self) -> str:
        """A new id, such as `0192f0c1-2b3c-7000-8001-5f1e2d3c4b5a`."""
        now_ms = self._clock()
        if now_ms > self._now_ms:
            self._start(now_ms)
            self._counter = 1
            return f"{self._head}000-8000-{self._tail}"  # most often it is the first of its millisecond
        if self._counter == _COUNTER_END:
            self._start(self._now_ms + 1)
        counter = self._counter
        self._counter = counter + 1
        return f"{self._head}{counter >> 14:03x}-{0x8000 | counter & 0x3FFF:04x}-{self._tail}"

    def take(self, count: int) -> list[str]:
        """Several new ids, for the price of one look at the clock."""
        now_ms = self._clock()
        if now_ms > self._now_ms:
            self._start(now_ms)
        taken: list[str] = []
        while len(taken) < count:
            if self._counter == _COUNTER_END:
                self._start(self._now_ms + 1)
            first = self._counter
            self._counter = min(first + count - len(taken), _COUNTER_END)
            head, tail = self._head, self._tail
            taken += [
                f"{head}{counter >> 14:03x}-{0x8000 | counter & 0x3FFF:04x}-{tail}"
                for counter in range(first, self._counter)
            ]
        return taken

    def _start(self, now_ms: int) -> None:
        self._now_ms, self._counter = now_ms, 0
        digits = f"{now_ms:012x}"
        self._head = f"{digits[:8]}-{digits[8:]}-7"
