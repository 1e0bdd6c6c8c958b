"""Notices that the event loop has stopped turning, and names the handler that keeps it from it.

An `async def` handler that works without waiting holds up all others of its worker, and nothing in the loop
could say so. A thread looks twice a second: it costs little, and it sees the very line that blocks. While no
handler has anything to do it looks less often.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from msgspec import Struct

from leanmq_topology.runner.batches import Batch
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.loop_crew import LoopCrew
from leanmq_topology.runner.pulse import Pulse
from leanmq_topology.runner.thread_crew import ThreadCrew

logger = logging.getLogger("leanmq.runner")

LOOK_SECONDS = 0.5
REST_SECONDS = 2.9
"""The same while nothing is in hand: only a task beside the handlers could hold up the loop then. It is three
beats, and a little."""
STALL_SECONDS = 1.0
"""A loop that has not turned for so long is worth a warning, if a handler is to blame."""
UNEXPLAINED_SECONDS = 5.0
"""And for so long, whoever is to blame."""
_BUSY = 0.1
"""Share of a time in which this process must have used the processor to have been awake in it."""
_CREWS = frozenset({LoopCrew._run.__code__, LoopCrew._see_through.__code__, ThreadCrew._work.__code__})


class Culprit(Struct, frozen=True):
    """Who runs in a thread, as far as its stack tells."""

    handler: str = ""
    unit: Any = None
    place: str = ""
    """The innermost line of the user's own code."""

    def describe(self) -> str:
        work = f" with {_name_of(self.unit)}" if self.unit is not None else ""
        at = f", at {self.place}" if self.place else ""
        return f"handler {self.handler}{work}{at}" if self.handler else f"something{at}"


class LoopWatch:
    """Watches the loop that it is made in. Places below `folder` are the user's own.

    `busy` tells whether there is anything in hand; when that begins, somebody has to call `wake`. While there
    is nothing, the loop turns for this on a beat of the `pulse`.
    """

    def __init__(
        self, folder: Path, busy: Callable[[], bool] = lambda: True, pulse: Pulse | None = None
    ) -> None:
        self._folder, self._busy = folder.resolve(), busy
        self._pulse = pulse or Pulse(time.monotonic())
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._turned_at = self._due_at = time.monotonic()
        """When the loop turned last, and when it is to turn next."""
        self._resting = False
        self._bell, self._rung_at = threading.Event(), 0.0
        """Ends a pause of the thread early."""
        self._late = 0.0
        """Seconds by which the loop came too late since the last look, at worst."""
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._told: Culprit | None = None
        self._told_of_lock = False
        self._since = 0.0
        self._thread = threading.Thread(target=self._run, name="leanmq-loop-watch", daemon=True)

    def start(self) -> None:
        self._turn()
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._ring()
        if self._timer is not None:
            self._timer.cancel()

    def wake(self) -> None:
        """There is something in hand. Called in the loop, before it is begun."""
        if self._resting and not self._stopped:
            self._resting = False
            self._plan_turn(LOOK_SECONDS)
            self._ring()

    def _turn(self) -> None:
        now = time.monotonic()
        self._late = max(self._late, now - self._due_at)
        self._resting = not self._busy()
        self._plan_turn(self._pulse.pause(now, REST_SECONDS) if self._resting else LOOK_SECONDS)

    def _plan_turn(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._turned_at = time.monotonic()
        self._due_at = self._turned_at + seconds
        self._timer = self._loop.call_later(seconds, self._turn)

    def _ring(self) -> None:
        self._rung_at = time.monotonic()
        self._bell.set()

    def _run(self) -> None:
        slept_at, worked = time.monotonic(), time.process_time()
        while not self._stopped:
            pause = REST_SECONDS if self._resting else LOOK_SECONDS
            awake_at = self._rung_at if self._bell.wait(pause) else slept_at + pause
            self._bell.clear()
            now, work = time.monotonic(), time.process_time()
            overslept = now - awake_at
            # A stopped or starved process is nobody's fault; one that was busy all along had its lock held.
            locked = overslept >= STALL_SECONDS
            stood = max(now - self._due_at, self._late if locked else 0.0)
            if not locked or work - worked > overslept * _BUSY:
                self._look(stood, locked=locked)
            self._late = 0.0
            slept_at, worked = time.monotonic(), time.process_time()

    def _look(self, stood: float, *, locked: bool) -> None:
        """`stood`: seconds for which the loop has not turned; `locked`: this thread could not run either."""
        if stood < STALL_SECONDS:
            self._note_end()
            return
        if self._told is not None and (self._told_of_lock or not locked):
            return
        culprit = self._find_culprit(locked=locked)
        if culprit.handler or stood >= UNEXPLAINED_SECONDS:
            self._told, self._told_of_lock = culprit, locked
            self._since = time.monotonic() - stood
            logger.warning(
                "%s has %s for %.1f s: %s",
                culprit.describe(),
                "held Python's lock" if locked else "blocked the event loop",
                stood,
                "leases may have lapsed meanwhile, so messages may run twice"
                if locked
                else "no other message of this worker is handled meanwhile; leases are kept",
                extra={"event": "loop_blocked", "handler": culprit.handler, "seconds": round(stood, 1)},
            )

    def _note_end(self) -> None:
        told, self._told = self._told, None
        if told is not None:
            seconds = self._turned_at - self._since
            logger.info(
                "the event loop turns again after %.1f s (%s): use `await`, or make it a `def` handler",
                seconds,
                told.describe(),
                extra={"event": "loop_free", "handler": told.handler, "seconds": round(seconds, 1)},
            )

    def _find_culprit(self, *, locked: bool) -> Culprit:
        """Whoever runs in the loop's thread; of a locked process, in any thread of a crew."""
        frames = sys._current_frames()
        found = self._read_stack(frames.get(self._thread_id))
        if found.handler or not locked:
            return found
        others = map(self._read_stack, frames.values())
        # A thread without a line of the user's waits for work, and still knows what it did last.
        return next((culprit for culprit in others if culprit.handler and culprit.place), found)

    def _read_stack(self, innermost: FrameType | None) -> Culprit:
        place = ""
        for frame in _frames(innermost):
            if not place and (path := Path(frame.f_code.co_filename)).is_relative_to(self._folder):
                place = f"{path.relative_to(self._folder)}:{frame.f_lineno}"
            if frame.f_code in _CREWS:
                unit = frame.f_locals.get("unit")
                if unit is not None:
                    return Culprit(frame.f_locals["self"].name, unit, place)
        return Culprit(place=place)


def _frames(innermost: FrameType | None) -> Iterator[FrameType]:
    frame = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back


def _name_of(unit: Any) -> str:
    match unit:
        case Incoming(delivered=delivered):
            return f"{delivered.envelope.type or 'message'} {delivered.envelope.id}"
        case Batch(messages=messages):
            return f"a batch of {len(messages)}"
        case _:
            return "a message"
