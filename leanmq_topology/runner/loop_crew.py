"""Runs the work of one queue through an `async def` handler, up to `concurrency` at a time, in the loop.

A crew is a few long-lived tasks, hired when they are first needed. One of them works through all that waits
for as long as the handler never really waits; when it does, the next member is woken to take the next
message. So a message costs neither a task nor a wake-up of its own unless its handler waits.

What arrives while members rest is run then and there, in the callback that brought it and in the name of one
of them: the turns of the loop until a task goes on are worth more than the rest of a lone message's way.

Every few milliseconds the loop gets its turn: what was decided leaves, what has arrived comes in, and more is
asked for while what is at hand is run. So worker and server work at the same time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio.tasks import _enter_task as enter_task  # documented in "Extending asyncio"
from asyncio.tasks import _leave_task as leave_task
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from itertools import repeat
from types import CoroutineType
from typing import Any, Generic, NamedTuple, TypeVar, cast

from leanmq_topology.runner.deadlines import Deadlines, timed_out
from leanmq_topology.runner.pipeline import SUCCEEDED, Steps, Unit
from leanmq_topology.runner.stepping import Step, as_step, go_on, place_where_raised

logger = logging.getLogger("leanmq.runner")

TURN_SECONDS = 0.002
"""How long handlers may run in a row before other work of the loop gets its turn."""
ROUNDS = 2
"""Of the loop between two turns: an answer that has arrived is read in the first, whoever waited for it goes
on in the second, and what they ask for then is written at once."""
GRACE_SECONDS = 1.0
"""How long a handler that was told to end may take to do so."""

U = TypeVar("U", bound=Unit)
V = TypeVar("V")


class _Begun(NamedTuple):
    """A handler that has begun and waits for something."""

    unit: Any
    steps: Any
    step: Step
    context: Context
    waits_for: Any


class _Member(Generic[U, V]):
    """One task of a crew, and what it runs at the moment."""

    __slots__ = ("begun", "bell", "given_up", "steps", "task", "told_at", "unit")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.bell: asyncio.Future[None] | None = None
        """Ends its rest."""
        self.begun: _Begun | None = None
        """What it is to see through."""
        self.unit: U | None = None
        self.steps: Steps[U, V] | None = None
        self.told_at: float | None = None
        """Monotonic seconds; when its handler was told to end because its time was up."""
        self.given_up = False
        """Its handler did not end even so. Whatever still comes of it is ignored."""


class LoopCrew(Generic[U, V]):
    """`finish` hears of all that was run or refused, `forget` of that whose lease was lost unrun.

    A handler that runs longer than `limit_seconds` is cancelled, and its run has failed with `TimeoutError`
    whatever comes after. One that does not end even then is given up; `stuck` hears of that, and of a message
    that a mistake beside its handler leaves in hand.
    `turned` is called when handlers have run for a turn, or as long as there was something to run.
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
        turned: Callable[[], None] = lambda: None,
        succeed: Callable[[list[U], float], None] | None = None,
    ) -> None:
        """`succeed` hears, instead of `finish`, of plain successes (`SUCCEEDED`), and how many seconds a call
        took: of those of a turn at once."""
        self.name = name
        self._concurrency = concurrency
        self._finish, self._forget = finish, forget
        self._succeed = succeed or self._finish_all
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[U, Steps[U, V]]] = deque()
        self._members: set[_Member[U, V]] = set()
        self._resting: list[_Member[U, V]] = []
        self._running = 0
        self._turn_ends = 0.0
        self._loop_has_turned = True
        self._is_in_turn = False
        """Handlers are run through right now: this is called by what they lead to."""
        self._turned = turned
        self._aborting = False
        self._deadlines = Deadlines(limit_seconds, self._end_overdue)
        self._stuck = stuck

    @property
    def unstarted(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self._running

    @property
    def in_hand(self) -> int:
        return len(self._waiting) + self._running

    def give(self, units: Iterable[U], steps: Steps[U, V]) -> None:
        """Have these run once they are `start`ed, in this order, as members get to them."""
        self._waiting.extend(zip(units, repeat(steps)))

    def start(self) -> None:
        """Run what was given: here and now in a mere callback, as far as members rest, else soon."""
        if self._is_in_turn or not self._waiting:
            return  # who runs through looks for more itself
        if self._loop_has_turned and asyncio.current_task() is None:
            self._run_here()
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
        if (member := self._take_rested()) is not None:
            _ring(member)
        elif len(self._members) < self._concurrency and not self._aborting:
            self._hire()

    def _take_rested(self) -> _Member[U, V] | None:
        """Who was cancelled as it rested is about to leave."""
        while self._resting:
            member = self._resting.pop()
            if member.bell is not None and not member.bell.done():
                return member
        return None

    def _hire(self) -> None:
        member: _Member[U, V] = _Member()
        self._members.add(member)
        member.task = asyncio.create_task(self._work(member))
        member.task.add_done_callback(lambda task: self._left(member, task))

    def _left(self, member: _Member[U, V], task: asyncio.Task[None]) -> None:
        self._members.discard(member)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._report_mistake(failure)
        self._wake_one()

    def _report_mistake(self, failure: BaseException) -> None:
        """Not of the handler: what it ran then is in hand, and nobody would ever finish it."""
        logger.error(
            "what runs handler %s failed", self.name, exc_info=failure, extra={"event": "crew_failed"}
        )
        self._stuck(f"what runs handler {self.name} failed ({type(failure).__name__})")

    async def _work(self, member: _Member[U, V]) -> None:
        task = asyncio.current_task()
        while not (self._aborting or member.given_up):
            is_fresh = self._loop_has_turned
            if is_fresh:
                self._begin_turn()
            if not self._waiting:
                await self._rest(member)
            elif not is_fresh and time.monotonic() >= self._turn_ends:
                await self._give_way()
            else:
                member.begun = self._run_through(task)
            if member.begun is not None:
                await self._see_through(member)
            if task is not None and task.cancelling() and not self._aborting:
                await _shake_off_cancellation(task)

    async def _rest(self, member: _Member[U, V]) -> None:
        member.bell = self._loop.create_future()
        self._resting.append(member)
        try:
            await member.bell
        except asyncio.CancelledError as cancelled:
            task = member.task
            if member.begun is None or task is None:
                raise
            # Meant for the handler that was begun in its name: it is to feel it where it waits.
            task.uncancel()
            task.cancel(*cancelled.args)

    def _run_here(self) -> None:
        """Run for a turn in the name of members that rest."""
        self._turn_ends = time.monotonic() + TURN_SECONDS
        while (member := self._take_rested()) is not None:
            self._run_for(member)
            if not self._waiting or time.monotonic() >= self._turn_ends:
                return

    def _run_for(self, member: _Member[U, V]) -> None:
        """A handler that waits is left to the member.

        Its task is the current one meanwhile: what a handler finds, cancels and is cancelled by, from the
        first step to the last.
        """
        task = member.task
        assert task is not None  # it has rested
        enter_task(self._loop, task)
        try:
            member.begun = self._run_through(task)
        except Exception as mistake:
            self._report_mistake(mistake)
        finally:
            leave_task(self._loop, task)
        if member.begun is not None:
            _ring(member)
        else:
            self._resting.append(member)

    def _begin_turn(self) -> None:
        """All members that the loop gives control before it has turned once more share this turn."""
        self._loop_has_turned = False
        self._turn_ends = time.monotonic() + TURN_SECONDS
        self._loop.call_soon(self._note_turn)

    def _note_turn(self) -> None:
        self._loop_has_turned = True

    async def _give_way(self) -> None:
        """Let out what this turn has brought about, and in what has arrived meanwhile."""
        for _ in range(ROUNDS):
            await asyncio.sleep(0)

    def _run_through(self, task: asyncio.Task[None] | None) -> _Begun | None:
        """Run one after the other until a handler waits, nothing does any more, or the turn is over."""
        self._running += 1
        self._is_in_turn = True
        waiting, run = self._waiting, self._run
        succeeded: list[U] = []
        others = 0
        began_at = now = time.monotonic()
        try:
            while True:
                unit, steps = waiting.popleft()
                ended = run(unit, steps, now)
                if ended is SUCCEEDED:
                    succeeded.append(unit)
                elif isinstance(ended, _Begun):
                    return ended
                else:
                    others += 1
                    self._conclude_at_once(unit, ended)
                now = time.monotonic()
                if not waiting or now >= self._turn_ends or (task is not None and task.cancelling()):
                    break
        finally:
            self._is_in_turn = False
            if succeeded:
                self._succeed(succeeded, (now - began_at) / (len(succeeded) + others))
        self._running -= 1
        self._turned()
        return None

    def _run(self, unit: U, steps: Steps[U, V], now: float) -> _Begun | V | None:
        """Run a handler to its end, or until it waits: then what is left to be done. None: it is not ours."""
        if unit.lost or now >= unit.lease_ends:
            return None
        verdict = steps.admit(unit, now)
        if verdict is not None:
            return verdict
        step: Step | None = None
        try:
            context = copy_context()  # from the call on: there it is said what is handled
            step = context.run(steps.invoke, unit, self._client)
            if type(step) is not CoroutineType:
                step = as_step(step)
            waits_for = context.run(step.send, None)
        except StopIteration as done:
            return steps.succeed(unit, done.value) if step is not None else steps.fail(unit, done)
        except BaseException as failure:
            return steps.fail(unit, place_where_raised(failure))
        return _Begun(unit, steps, step, context, waits_for)

    def _conclude_at_once(self, unit: U, verdict: V | None) -> None:
        if verdict is None:
            self._forget(unit)
        else:
            self._finish(unit, verdict)

    def _finish_all(self, units: list[U], seconds: float) -> None:
        for unit in units:
            self._finish(unit, cast(V, SUCCEEDED))

    async def _see_through(self, member: _Member[U, V]) -> None:
        """A handler gave control back to the loop: the next may start, and this one be late from now on."""
        begun, member.begun = member.begun, None
        assert begun is not None
        unit = member.unit = begun.unit
        member.steps = begun.steps
        self._deadlines.watch()
        self._wake_one()
        try:
            verdict = await self._conclude(member, begun)
        finally:
            member.unit = member.told_at = None
            if not member.given_up:
                self._running -= 1
        if not member.given_up:
            self._finish(unit, verdict)

    async def _conclude(self, member: _Member[U, V], begun: _Begun) -> V:
        unit: U = begun.unit
        steps: Steps[U, V] = begun.steps
        try:
            result = await go_on(begun.step, begun.context, begun.waits_for)
        except BaseException as failure:
            if member.told_at is not None:
                return steps.fail(unit, self._timed_out().with_traceback(failure.__traceback__))
            if self._aborting and isinstance(failure, asyncio.CancelledError):
                return steps.interrupt(unit)
            return steps.fail(unit, failure)
        return steps.succeed(unit, result) if member.told_at is None else steps.fail(unit, self._timed_out())

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


def _ring(member: _Member[Any, Any]) -> None:
    """End its rest, unless that is over."""
    if member.bell is not None and not member.bell.done():
        member.bell.set_result(None)


async def _shake_off_cancellation(member: asyncio.Task[None]) -> None:
    """A handler cancelled its task and ended before that took effect; the next one must not feel it."""
    while member.uncancel():
        pass
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return
