"""Runs the messages of one queue through a `def` handler, in up to `concurrency` worker threads.

Threads take message after message for as long as any waits, and tell the loop of what is done in batches:
under load the hop between loop and thread is shared by many messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from leanmq_topology.runner import forks
from leanmq_topology.runner.deadlines import Deadlines, timed_out
from leanmq_topology.runner.pipeline import Steps, Unit

OpenClient = Callable[[], contextlib.AbstractContextManager[Any]]
"""Makes a blocking client; each thread gets one of its own, when its handler asks for one."""


U = TypeVar("U", bound=Unit)
V = TypeVar("V")


class ThreadCrew(Generic[U, V]):
    """`finish` and `forget` are called in the loop's thread, as with `LoopCrew`.

    A thread cannot be ended from outside. One whose handler runs longer than `limit_seconds` is given up: the
    run has failed with `TimeoutError`, whatever comes of it later is ignored, and `stuck` hears of it.
    """

    def __init__(
        self,
        name: str,
        concurrency: int,
        finish: Callable[[U, V], None],
        forget: Callable[[U], None],
        open_client: OpenClient | None = None,
        *,
        limit_seconds: float,
        stuck: Callable[[str], None],
    ) -> None:
        self.name, self._concurrency = name, concurrency
        self._finish, self._forget = finish, forget
        self._open_client = open_client
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[tuple[U, Steps[U, V]] | None] = SimpleQueue()
        self._done: deque[tuple[U, V | None]] = deque()
        self._announced = False
        self._open: dict[U, Steps[U, V]] = {}
        self._threads: list[threading.Thread] = []
        self._deadlines = Deadlines(limit_seconds, self._give_up_overdue)
        self._stuck = stuck

    @property
    def unstarted(self) -> int:
        return self._waiting.qsize()

    @property
    def running(self) -> int:
        return max(len(self._open) - self._waiting.qsize(), 0)

    @property
    def in_hand(self) -> int:
        return len(self._open)

    def give(self, units: Iterable[U], steps: Steps[U, V]) -> None:
        """Run these, in this order, as threads get to them."""
        for unit in units:
            self._open[unit] = steps
            self._waiting.put((unit, steps))
        self._deadlines.watch()
        while len(self._threads) < min(self._concurrency, len(self._open)):
            self._hire()

    def start(self) -> None:
        """Threads begin by themselves with what they are given."""

    def take_back(self) -> list[U]:
        """What was given and not yet started; it will not be."""
        unstarted = []
        with contextlib.suppress(Empty):
            while True:
                given = self._waiting.get_nowait()
                if given is not None:
                    unstarted.append(given[0])
        for unit in unstarted:
            self._open.pop(unit, None)
        return unstarted

    async def abort(self, grace_seconds: float) -> None:
        """A thread cannot be ended: what still runs is finished as interrupted, its result ignored."""
        self._deadlines.stop()
        for unit, steps in list(self._open.items()):
            self._close(unit, steps.interrupt(unit))
        self.dismiss()

    def dismiss(self) -> None:
        """Let the threads end once they are idle; nothing may be given any more."""
        for _ in self._threads:
            self._waiting.put(None)

    def _hire(self) -> None:
        # Daemons: a handler that never ends must not keep the process alive after its drain.
        name = f"leanmq-{self.name}-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, args=(copy_context(),), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, context: Context) -> None:
        with contextlib.ExitStack() as resources:
            client = None
            while (given := self._waiting.get()) is not None:
                unit, steps = given
                now = time.monotonic()
                if not unit.is_ours(now):
                    self._announce(unit, None)
                    continue
                verdict = steps.admit(unit, now)
                if verdict is None:
                    try:
                        if client is None and self._open_client is not None:
                            client = resources.enter_context(self._open_client())
                        result = _refuse_coroutine(context.copy().run(steps.invoke, unit, client))
                    except BaseException as failure:
                        verdict = steps.fail(unit, failure)
                    else:
                        verdict = steps.succeed(unit, result)
                    if forks.copied:
                        forks.end_copy()
                self._announce(unit, verdict)

    def _announce(self, unit: U, verdict: V | None) -> None:
        """Called in a thread. The loop is told once for all that is done by the time it looks."""
        self._done.append((unit, verdict))
        if not self._announced:
            self._announced = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the drain is over
                self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._announced = False
        while self._done:
            unit, verdict = self._done.popleft()
            self._close(unit, verdict)

    def _close(self, unit: U, verdict: V | None) -> None:
        if self._open.pop(unit, None) is None:
            return  # given up meanwhile: too late
        if verdict is None:
            self._forget(unit)
        else:
            self._finish(unit, verdict)

    def _give_up_overdue(self, now: float) -> float | None:
        self._collect()  # what has ended by now was in time, or as good as
        limit = self._deadlines.limit_seconds
        next_at = None
        for unit, steps in list(self._open.items()):
            # Whoever waits for a thread cannot be overdue before the limit from now.
            due_at = (unit.started_at or now) + limit
            if now >= due_at:
                unit.stop_renewal()
                self._close(unit, steps.fail(unit, timed_out(limit)))
                self._stuck(f"a thread of handler {self.name} goes on after its timeout")
            elif next_at is None or due_at < next_at:
                next_at = due_at
        return next_at


def _refuse_coroutine(result: Any) -> Any:
    """A `def` that returns a coroutine has not done its work yet, and nobody would."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the handler is a `def` that returned a coroutine: make it `async def`")
    return result
