"""Runs the work of one queue through an `async def` handler, up to `concurrency` at a time, in the loop.

A crew is a few long-lived tasks, hired when they are first needed. One of them works through all that waits
for as long as the handler never really waits; when it does, the next member is woken to take the next
message. So a message costs neither a task nor a wake-up of its own unless its handler waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from leanmq_topology.runner.deadlines import Deadlines, timed_out
from leanmq_topology.runner.pipeline import Steps, Unit
from leanmq_topology.runner.stepping import run_inline

TURN_SECONDS = 0.01
"""How long handlers may run in a row before other work of the loop gets its turn."""
GRACE_SECONDS = 1.0
"""How long a handler that was told to end may take to do so."""

U = TypeVar("U", bound=Unit)
V = TypeVar("V")


class _Member(Generic[U, V]):
    """One task of a crew, and what it runs at the moment."""

    __slots__ = ("given_up", "steps", "task", "told_at", "unit")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.unit: U | None = None
        self.steps: Steps[U, V] | None = None
        self.told_at: float | None = None
        """Monotonic seconds; when its handler was told to end because its time was up."""
        self.given_up = False
        """Its handler did not end even so. Whatever still comes of it is ignored."""


class LoopCrew(Generic[U, V]):
    """`finish` hears of all that was run or refused, `forget` of that whose lease was lost unrun.

    A handler that runs longer than `limit_seconds` is cancelled, and its run has failed with `TimeoutError`
    whatever comes after. One that does not end even then is given up; `stuck` hears of that.
    """

    def __init__(
        self,
        name: str,
        concurrency: int,
        finish: Callable[[U, V], None],
        forget: Callable[[U], None],
        client: Any = None,
        *,
        limit_seconds: float,
        stuck: Callable[[str], None],
    ) -> None:
        self.name = name
        self._concurrency = concurrency
        self._finish, self._forget = finish, forget
        self._client = client
        self._waiting: deque[tuple[U, Steps[U, V]]] = deque()
        self._members: set[_Member[U, V]] = set()
        self._resting: list[asyncio.Future[None]] = []
        self._running = 0
        self._turn_ends = 0.0
        self._aborting = False
        self._deadlines = Deadlines(limit_seconds, self._end_overdue)
        self._stuck = stuck

    @property
    def unstarted(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self._running

    def give(self, units: Iterable[U], steps: Steps[U, V]) -> None:
        """Run these, in this order, as members get to them."""
        self._waiting.extend((unit, steps) for unit in units)
        self._wake_one()

    def take_back(self) -> list[U]:
        """What was given and not yet started; it will not be."""
        unstarted = [unit for unit, _ in self._waiting]
        self._waiting.clear()
        return unstarted

    async def abort(self, grace_seconds: float) -> None:
        """Cancel what runs and give it `grace_seconds` to end; each is finished as interrupted."""
        self._aborting = True
        self._deadlines.stop()
        tasks = [member.task for member in self._members if member.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)

    def _wake_one(self) -> None:
        """Pass the baton: somebody has to look at what waits, unless all are busy."""
        if not self._waiting:
            return
        while self._resting:
            bell = self._resting.pop()
            if not bell.done():
                bell.set_result(None)
                return
        if len(self._members) < self._concurrency and not self._aborting:
            self._hire()

    def _hire(self) -> None:
        member: _Member[U, V] = _Member()
        self._members.add(member)
        member.task = asyncio.create_task(self._work(member))
        member.task.add_done_callback(lambda _: self._left(member))

    def _left(self, member: _Member[U, V]) -> None:
        self._members.discard(member)
        self._wake_one()

    async def _work(self, member: _Member[U, V]) -> None:
        task = asyncio.current_task()
        while not (self._aborting or member.given_up):
            if not self._waiting:
                await self._rest()
                continue
            now = time.monotonic()
            if now > self._turn_ends:
                await asyncio.sleep(0)
                self._turn_ends = time.monotonic() + TURN_SECONDS
                continue
            unit, steps = self._waiting.popleft()
            if unit.is_ours(now):
                await self._run(member, unit, steps)
            else:
                self._forget(unit)
            if task is not None and task.cancelling() and not self._aborting:
                await _shake_off_cancellation(task)

    async def _rest(self) -> None:
        bell = asyncio.get_running_loop().create_future()
        self._resting.append(bell)
        await bell

    async def _run(self, member: _Member[U, V], unit: U, steps: Steps[U, V]) -> None:
        self._running += 1
        try:
            verdict = steps.admit(unit)
            if verdict is None:
                member.unit, member.steps = unit, steps
                verdict = await self._call(member, unit, steps)
        finally:
            member.unit = member.told_at = None
            if not member.given_up:
                self._running -= 1
        if not member.given_up:
            self._finish(unit, verdict)

    async def _call(self, member: _Member[U, V], unit: U, steps: Steps[U, V]) -> V:
        try:
            started = steps.invoke(unit, self._client)
            result = await run_inline(started, copy_context(), self._is_waiting)
        except BaseException as failure:
            if member.told_at is not None:
                return steps.fail(unit, self._timed_out().with_traceback(failure.__traceback__))
            if self._aborting and isinstance(failure, asyncio.CancelledError):
                return steps.interrupt(unit)
            return steps.fail(unit, failure)
        return steps.succeed(unit, result) if member.told_at is None else steps.fail(unit, self._timed_out())

    def _is_waiting(self) -> None:
        """A handler gave control back to the loop: the next may start, and this one be late from now on."""
        self._deadlines.watch()
        self._wake_one()

    # -- runs that take too long ------------------------------------------------------------------------

    def _timed_out(self) -> TimeoutError:
        return timed_out(self._deadlines.limit_seconds)

    def _end_overdue(self, now: float) -> float | None:
        due = [self._end_if_overdue(member, now) for member in list(self._members)]
        return min((at for at in due if at is not None), default=None)

    def _end_if_overdue(self, member: _Member[U, V], now: float) -> float | None:
        """Tell a handler to end when its time is up, give it up when it does not; or say when that is due."""
        if member.unit is None or member.unit.started_at is None or member.task is None:
            return None
        if member.told_at is not None:
            if now < member.told_at + GRACE_SECONDS:
                return member.told_at + GRACE_SECONDS
            self._give_up(member)
            return None
        due_at = member.unit.started_at + self._deadlines.limit_seconds
        if now < due_at:
            return due_at
        member.unit.stop_renewal()
        member.told_at = now
        member.task.cancel()
        return now + GRACE_SECONDS

    def _give_up(self, member: _Member[U, V]) -> None:
        unit, steps = member.unit, member.steps
        if unit is None or steps is None:
            return
        member.given_up = True
        self._running -= 1
        self._members.discard(member)
        self._finish(unit, steps.fail(unit, self._timed_out()))
        self._stuck(f"handler {self.name} goes on after its timeout although it was cancelled")


async def _shake_off_cancellation(member: asyncio.Task[None]) -> None:
    """A handler cancelled its task and ended before that took effect; the next one must not feel it."""
    while member.uncancel():
        pass
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return
