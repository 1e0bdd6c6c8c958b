"""A loop of one thread: what can be read, signals, timers. The parent runs on it, and must be able to fork.

Not asyncio's: a forked child would inherit its running loop, and an idle parent shall cost nothing.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Self

Callback = Callable[[], None]


class Timer:
    """Can be called off."""

    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callback) -> None:
        self.at = at
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Turns:
    """Use it in a `with`: signal handlers are put back at its end."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._waited_for: dict[int, float] = {}
        self._before: dict[int, Any] = {}
        self._awake, self._wake = os.pipe()

    def __enter__(self) -> Self:
        for end in (self._awake, self._wake):
            os.set_blocking(end, False)
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self.watch(self._awake, self._take_signals)
        return self

    def __exit__(self, *failure: object) -> None:
        signal.set_wakeup_fd(self._wake_before)
        for number, before in self._before.items():
            signal.signal(number, before)
        self._selector.close()
        os.close(self._awake)
        os.close(self._wake)

    def obey(
        self, numbers: Iterable[int], callback: Callable[[int], None], *, once_seconds: float = 0.0
    ) -> None:
        """Call `callback` with the signal's number, in a turn of the loop.

        What comes again within `once_seconds` is the same: `timeout` tells a process, then its whole group.
        """
        for number in numbers:
            if once_seconds:
                self._waited_for[number] = once_seconds
            self._signals[number] = lambda number=number: callback(number)  # type: ignore[misc]
            self._before[number] = signal.signal(number, _nothing)

    def watch(self, source: Any, callback: Callback, events: int = selectors.EVENT_READ) -> None:
        """Call `callback` whenever `source` (a socket, a descriptor) can be read."""
        self._selector.register(source, events, callback)

    def forget(self, source: Any) -> None:
        self._selector.unregister(source)

    def after(self, seconds: float, callback: Callback) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    @property
    def is_idle(self) -> bool:
        """No timer runs."""
        return self._patience() is None

    def turn(self) -> None:
        """Wait for something to happen, and handle all that did."""
        for key, _ in self._selector.select(self._patience()):
            if self._selector.get_map().get(key.fd) is key:  # not forgotten meanwhile, its number not reused
                key.data()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()

    def close_in_child(self) -> None:
        """A forked child keeps nothing of this."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._awake)
        os.close(self._wake)

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - time.monotonic(), 0.0) if self._timers else None

    def _take_signals(self) -> None:
        arrived = os.read(self._awake, 4096)
        pause = max((self._waited_for.get(number, 0.0) for number in arrived), default=0.0)
        if pause:
            time.sleep(pause)
            with contextlib.suppress(BlockingIOError):
                arrived += os.read(self._awake, 4096)
        for number in dict.fromkeys(arrived):
            if (callback := self._signals.get(number)) is not None:
                callback()


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal handler has to be there for the wake-up to be written."""
