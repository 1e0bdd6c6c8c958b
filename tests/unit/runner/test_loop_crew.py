from __future__ import annotations

import asyncio
import itertools
import time
import traceback
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.outcome import Done, RetryLater
from leanmq_topology.runner import loop_crew
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.loop_crew import LoopCrew
from leanmq_topology.runner.pipeline import Pipeline, Verdict
from leanmq_topology.topology.model import OnFalse, Queue
from tests.support.processes import PATIENCE_SECONDS

T = TypeVar("T")

seen: ContextVar[int] = ContextVar("seen", default=0)


class Shift:
    """A crew at work on a handler, and what became of its messages."""

    def __init__(
        self,
        handler: Callable[[int], Coroutine[Any, Any, Any]],
        concurrency: int = 4,
        limit_seconds: float = 60,
    ) -> None:
        self.finished: list[tuple[int, Verdict]] = []
        self.forgotten: list[int] = []
        self.stuck: list[str] = []
        self.turns = 0
        self.crew: LoopCrew[Incoming, Verdict] = LoopCrew(
            "charge",
            concurrency,
            self._finish,
            self._forget,
            limit_seconds=limit_seconds,
            stuck=self.stuck.append,
            turned=self._note_turn,
        )
        queue = Queue(name="work")
        self.pipeline = Pipeline(queue, OnFalse.DEAD_LETTER, lambda offer, client: handler(offer.data), ())
        self._changed = asyncio.Event()

    def _note_turn(self) -> None:
        self.turns += 1

    def _finish(self, message: Incoming, verdict: Verdict) -> None:
        self.finished.append((message.data, verdict))
        self._changed.set()

    def _forget(self, message: Incoming) -> None:
        self.forgotten.append(message.data)
        self._changed.set()

    def give(self, *numbers: int, lease_seconds: float = 60) -> list[Incoming]:
        messages = []
        for number in numbers:
            envelope = Envelope(str(number), "t", b"{}")
            message = Incoming(Delivered("work", f"{number}-0", envelope), time.monotonic() + lease_seconds)
            message.data = number
            messages.append(message)
        self.crew.give(messages, self.pipeline)
        self.crew.start()
        return messages

    async def until_over(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.finished) + len(self.forgotten) < count:
                self._changed.clear()
                await self._changed.wait()

    async def until_running(self, count: int) -> None:
        """And then some turns more, in which a wrong crew would start another."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.crew.running < count:
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def outcomes(self) -> list[type]:
        return [type(verdict.outcome) for _, verdict in self.finished]


async def test_messages_that_never_wait_cost_one_task_in_all():
    tasks = set()

    async def handler(number: int) -> None:
        tasks.add(asyncio.current_task())

    shift = Shift(handler, concurrency=8)
    shift.give(*range(100))
    await shift.until_over(100)
    assert len(tasks) == 1
    assert [number for number, _ in shift.finished] == list(range(100))


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
async def test_a_stop_iteration_of_a_handler_is_placed_where_it_was_raised(waits: bool):
    async def handler(number: int) -> None:
        if waits:
            await asyncio.sleep(0)
        next(iter(()))

    shift = Shift(handler)
    shift.give(1)
    await shift.until_over(1)
    [(_, verdict)] = shift.finished
    assert isinstance(verdict.raised, RuntimeError), "as Python has it of any coroutine"
    innermost = traceback.extract_tb(verdict.raised.__traceback__)[-1]
    assert (innermost.filename, innermost.line) == (__file__, "next(iter(()))")


async def test_successes_of_a_turn_are_told_together_and_all_else_by_itself():
    told: list[list[int]] = []
    go_on = asyncio.Event()

    async def handler(number: int) -> None:
        if number == 2:
            raise ValueError
        if number == 4:
            await go_on.wait()

    shift = Shift(handler, concurrency=2)
    shift.crew._succeed = lambda messages, seconds: told.append([message.data for message in messages])
    shift.give(*range(6))
    await shift.until_running(1)
    assert told == [[0, 1, 3], [5]], "what was done before one waits is told when it begins to"
    assert [number for number, _ in shift.finished] == [2]
    go_on.set()
    await shift.until_over(2)
    assert [number for number, _ in shift.finished] == [2, 4], "nobody else is done by then"


async def test_with_successes_told_together_is_said_what_a_call_took(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop_crew, "TURN_SECONDS", 60.0)
    told: list[tuple[int, float]] = []

    async def handler(number: int) -> None:
        time.sleep(0.02)  # it is a handler that holds the loop up

    shift = Shift(handler)
    shift.crew._succeed = lambda messages, seconds: told.append((len(messages), seconds))
    shift.give(1, 2, 3)
    while not told:
        await asyncio.sleep(0)
    [(count, seconds)] = told
    assert count == 3
    assert 0.02 <= seconds < 0.04, "each, not all"


async def test_a_waiting_handler_makes_room_for_the_next_up_to_concurrency():
    started, go_on = [], asyncio.Event()

    async def handler(number: int) -> None:
        started.append(number)
        await go_on.wait()

    shift = Shift(handler, concurrency=3)
    shift.give(*range(10))
    await shift.until_running(3)
    assert started == [0, 1, 2]
    assert (shift.crew.running, shift.crew.unstarted) == (3, 7)
    go_on.set()
    await shift.until_over(10)
    assert sorted(started) == list(range(10))


async def test_messages_given_while_all_wait_are_taken_when_one_ends():
    gates = {number: asyncio.Event() for number in range(4)}
    started = []

    async def handler(number: int) -> None:
        started.append(number)
        await gates[number].wait()

    shift = Shift(handler, concurrency=2)
    shift.give(0, 1)
    await shift.until_running(2)
    shift.give(2)
    shift.give(3)
    gates[1].set()
    await shift.until_over(1)
    await shift.until_running(2)
    assert started == [0, 1, 2]
    for gate in gates.values():
        gate.set()
    await shift.until_over(4)


async def test_context_variables_do_not_leak_from_one_message_to_the_next():
    before = []

    async def handler(number: int) -> None:
        before.append(seen.get())
        seen.set(number + 1)
        await asyncio.sleep(0)

    shift = Shift(handler, concurrency=1)
    shift.give(*range(5))
    await shift.until_over(5)
    assert before == [0] * 5


async def test_what_the_call_of_a_handler_sets_reaches_nobody_who_is_run_or_hired_in_the_same_callback():
    """As whose message is handled is said: that of one queue is no business of the next."""
    met: dict[str, int] = {}

    async def ends(number: int) -> None:
        met[f"own {number}"] = seen.get()

    def says_its_number(number: int) -> Coroutine[Any, Any, None]:
        seen.set(number)
        return ends(number)

    async def looks(number: int) -> None:
        met[f"other {number}"] = seen.get()

    speaks, rests, is_hired = Shift(says_its_number), Shift(looks), Shift(looks)
    speaks.give(1)
    rests.give(2)
    await speaks.until_over(1)
    await rests.until_over(1)
    await asyncio.sleep(0)

    def arrive() -> None:
        speaks.give(3)
        assert met["own 3"] == 3  # run then and there
        rests.give(4)
        is_hired.give(5)

    asyncio.get_running_loop().call_soon(arrive)
    await is_hired.until_over(1)
    assert met == {"own 1": 1, "own 3": 3, "other 2": 0, "other 4": 0, "other 5": 0}


async def test_a_handler_that_cancels_its_task_harms_only_itself():
    async def handler(number: int) -> None:
        if number == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()  # and ends before that takes effect
        await asyncio.sleep(0) if number else None

    shift = Shift(handler, concurrency=1)
    shift.give(0, 1, 2)
    await shift.until_over(3)
    assert shift.outcomes == [Done, Done, Done]


async def test_a_handler_that_hogs_the_loop_lets_others_have_their_turn():
    turns = 0

    async def handler(number: int) -> None:
        time.sleep(0.004)  # the point: it does not wait, it works

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    shift = Shift(handler)
    shift.give(*range(20))
    await shift.until_over(20)
    counting.cancel()
    assert turns >= 5


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is over after each message."""
    monkeypatch.setattr(loop_crew, "TURN_SECONDS", 0.0)


async def test_when_a_turn_is_over_that_is_told(short_turns: None):
    async def handler(number: int) -> None:
        pass

    shift = Shift(handler)
    shift.give(0, 1, 2)
    await shift.until_over(3)
    await asyncio.sleep(0)
    assert shift.turns == 3


async def test_between_two_turns_an_answer_comes_in_and_what_it_leads_to_goes_out():
    """The way of an answer: its future, and whoever waited for it."""
    loop, way = asyncio.get_running_loop(), list[str]()
    answer = loop.create_future()

    async def waiter() -> None:
        way.append(await answer)

    async def handler(number: int) -> None:
        if number == 0:
            loop.call_soon(answer.set_result, "answered")
            time.sleep(2 * loop_crew.TURN_SECONDS)
        way.append(f"run {number}")

    waiting = asyncio.create_task(waiter())
    await asyncio.sleep(0)
    shift = Shift(handler)
    shift.give(0, 1)
    await shift.until_over(2)
    await waiting
    assert way == ["run 0", "answered", "run 1"]


async def test_members_that_go_on_in_one_round_of_the_loop_share_a_turn():
    """Or the loop would stand still for as many turns as there are members."""
    rounds, over = list[int](), asyncio.Event()
    passed = 0

    async def count_rounds() -> None:
        nonlocal passed
        while not over.is_set():
            passed += 1
            await asyncio.sleep(0)

    gate = asyncio.Event()

    async def handler(number: int) -> None:
        if number < 8:
            await gate.wait()
            return
        time.sleep(1.1 * loop_crew.TURN_SECONDS)
        rounds.append(passed)

    shift = Shift(handler, concurrency=8)
    shift.give(*range(16))
    await shift.until_running(8)
    counting = asyncio.create_task(count_rounds())
    gate.set()
    await shift.until_over(16)
    over.set()
    await counting
    assert all(later > earlier for earlier, later in itertools.pairwise(rounds)), rounds


async def test_a_message_that_comes_after_a_rest_is_run_in_the_same_round_of_the_loop():
    loop, way = asyncio.get_running_loop(), list[str]()

    async def handler(number: int) -> None:
        way.append(f"run {number}")

    shift = Shift(handler)
    shift.give(0)
    await shift.until_over(1)
    await asyncio.sleep(2 * loop_crew.TURN_SECONDS)
    shift.give(1)
    loop.call_soon(way.append, "a round later")
    await shift.until_over(2)
    assert way == ["run 0", "run 1", "a round later"]


async def test_a_call_that_raises_what_ends_coroutines_is_no_success():
    def handler(number: int) -> Any:
        raise StopIteration("done")

    shift = Shift(handler)
    shift.give(0)
    await shift.until_over(1)
    assert shift.outcomes == [RetryLater]


async def test_a_mistake_beside_the_handler_is_reported_and_the_others_are_run():
    async def handler(number: int) -> None:
        pass

    def stumble(message: Incoming) -> None:
        if message.data == 1:
            raise KeyError("a mistake")

    shift = Shift(handler)
    shift.pipeline = Pipeline(Queue(name="work"), OnFalse.DEAD_LETTER, shift.pipeline.invoke, (stumble,))
    shift.give(0, 1, 2)
    await shift.until_over(2)
    assert [number for number, _ in shift.finished] == [0, 2]
    assert shift.stuck == ["what runs handler charge failed (KeyError)"]


async def at_rest(handler: Callable[[int], Coroutine[Any, Any, Any]], members: int = 1) -> Shift:
    """A crew whose members are hired and wait for something to do. Of what that took nothing is left."""

    async def warm_up(number: int) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    shift = Shift(warm_up, concurrency=members)
    shift.give(*range(members))
    await shift.until_over(members)
    await asyncio.sleep(0)
    shift.finished.clear()
    shift.pipeline = replace(shift.pipeline, invoke=lambda offer, client: handler(offer.data))
    return shift


async def in_callback(step: Callable[[], T]) -> T:
    """What it gives when the loop calls it, which no task does."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            done.set_result(step())
        except Exception as failure:
            done.set_exception(failure)

    loop.call_soon(call)
    return await done


async def test_what_a_callback_brings_is_run_before_it_returns():
    async def handler(number: int) -> None:
        pass

    shift = await at_rest(handler)

    def bring() -> list[int]:
        shift.give(1, 2)
        return [number for number, _ in shift.finished]

    assert await in_callback(bring) == [1, 2]
    assert await in_callback(bring) == [1, 2, 1, 2]


async def test_handlers_that_wait_are_begun_in_a_callback_too_as_far_as_members_rest():
    begun, gate = [], asyncio.Event()

    async def handler(number: int) -> None:
        begun.append(number)
        await gate.wait()

    shift = await at_rest(handler, members=2)

    def bring() -> list[int]:
        shift.give(1, 2, 3)
        return begun.copy()

    assert await in_callback(bring) == [1, 2]
    assert (shift.crew.running, shift.crew.unstarted) == (2, 1)
    gate.set()
    await shift.until_over(3)


async def test_a_callback_runs_no_longer_than_a_turn(short_turns: None):
    async def handler(number: int) -> None:
        pass

    shift = await at_rest(handler)

    def bring() -> int:
        shift.give(1, 2, 3)
        return len(shift.finished)

    assert await in_callback(bring) == 1
    await shift.until_over(3)


async def test_a_handler_begun_in_a_callback_has_one_task_from_its_first_step_to_its_last():
    """`asyncio.timeout` and task groups cancel the task that they were entered in."""
    tasks = []

    async def handler(number: int) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    shift = await at_rest(handler)
    await in_callback(lambda: shift.give(1))
    await shift.until_over(1)
    assert tasks[0] is not None
    assert tasks[0] is tasks[1]


async def test_a_handler_begun_in_a_callback_feels_that_its_time_is_up_before_its_task_goes_on():
    felt, left = list[str](), list[int]()

    async def wait_for_ever(number: int) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            left.append(number)

    async def handler(number: int) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.gather(wait_for_ever(1), wait_for_ever(2))
        except TimeoutError:
            felt.append("too late")

    shift = await at_rest(handler)
    for _ in range(2):
        await in_callback(lambda: shift.give(1))
        await shift.until_over(1)
        assert shift.outcomes.pop() is Done
        shift.finished.clear()
    assert felt == ["too late"] * 2
    assert left == [1, 2] * 2, "what it waited for was cancelled with it"


@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_that_cancels_its_task_in_a_callback_harms_only_itself(waits: bool):
    async def handler(number: int) -> None:
        if number == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0) if number or waits else None

    shift = await at_rest(handler)
    await in_callback(lambda: shift.give(0, 1))
    await in_callback(lambda: shift.give(2))
    await shift.until_over(3)
    assert shift.outcomes == [RetryLater if waits else Done, Done, Done]


async def test_a_handler_begun_in_a_callback_is_interrupted_by_an_abort_that_comes_next():
    async def handler(number: int) -> None:
        await asyncio.get_running_loop().create_future()

    shift = await at_rest(handler)
    aborting = await in_callback(lambda: (shift.give(1), asyncio.ensure_future(shift.crew.abort(1)))[1])
    await aborting
    await shift.until_over(1)
    assert [verdict.outcome.failure.type for _, verdict in shift.finished] == ["Retry"]


async def test_nothing_is_begun_in_a_callback_once_the_crew_is_told_to_end():
    async def handler(number: int) -> None:
        raise AssertionError

    shift = await at_rest(handler)
    aborting = asyncio.ensure_future(shift.crew.abort(1))
    await asyncio.sleep(0)
    await in_callback(lambda: shift.give(1))
    await aborting
    assert (shift.crew.unstarted, shift.finished) == (1, [])


async def test_a_mistake_in_a_callback_is_reported_and_the_others_are_run():
    async def handler(number: int) -> None:
        pass

    def stumble(message: Incoming) -> None:
        if message.data == 1:
            raise KeyError("a mistake")

    shift = await at_rest(handler)
    shift.pipeline = replace(shift.pipeline, gates=(stumble,))
    await in_callback(lambda: shift.give(1, 2))
    await shift.until_over(1)
    assert [number for number, _ in shift.finished] == [2]
    assert shift.stuck == ["what runs handler charge failed (KeyError)"]


async def test_what_has_not_started_can_be_taken_back():
    go_on = asyncio.Event()

    async def handler(number: int) -> None:
        await go_on.wait()

    shift = Shift(handler, concurrency=1)
    shift.give(0, 1, 2)
    await shift.until_running(1)
    assert [message.data for message in shift.crew.take_back()] == [1, 2]
    go_on.set()
    await shift.until_over(1)
    await shift.until_running(0)
    assert len(shift.finished) == 1


async def test_a_message_whose_lease_lapsed_is_not_started():
    async def handler(number: int) -> None:
        pytest.fail("it was started")

    shift = Shift(handler)
    shift.give(1, lease_seconds=-1)
    await shift.until_over(1)
    assert shift.forgotten == [1]


async def test_an_aborted_handler_is_due_again_at_once_and_its_run_counts():
    started = asyncio.Event()

    async def handler(number: int) -> None:
        started.set()
        await asyncio.Event().wait()

    shift = Shift(handler)
    shift.give(1)
    await started.wait()
    await shift.crew.abort(1)
    [(_, verdict)] = shift.finished
    assert isinstance(verdict.outcome, RetryLater)
    assert verdict.outcome.delay_ms == 0


async def test_a_handler_that_ends_well_although_aborted_is_done():
    started = asyncio.Event()

    async def handler(number: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    shift = Shift(handler)
    shift.give(1)
    await started.wait()
    await shift.crew.abort(1)
    assert shift.outcomes == [Done]


# -- runs that take too long -----------------------------------------------------------------------------


async def test_a_handler_that_takes_too_long_is_cancelled_and_has_failed_with_a_timeout():
    cancelled = []

    async def handler(number: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    shift = Shift(handler, concurrency=2, limit_seconds=0.02)
    shift.give(0, 1, 2)
    await shift.until_over(3)
    assert sorted(cancelled) == [0, 1, 2]
    assert [type(verdict.raised) for _, verdict in shift.finished] == [TimeoutError] * 3
    assert "longer than its timeout of 20ms" in str(shift.finished[0][1].raised)
    assert (shift.crew.running, shift.stuck) == (0, [])


async def test_its_lease_is_not_renewed_any_more_from_that_moment_on():
    renewed = []

    async def handler(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            renewed.append(not message.finished)

    shift = Shift(handler, limit_seconds=0.02)
    [message] = shift.give(0)
    await shift.until_over(1)
    assert renewed == [False]


async def test_the_next_message_does_not_feel_that_the_one_before_was_cancelled():
    waited = []

    async def handler(number: int) -> None:
        if number == 0:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        waited.append(number)

    shift = Shift(handler, concurrency=1, limit_seconds=0.05)
    shift.give(0, 1, 2)
    await shift.until_over(3)
    assert waited == [1, 2]
    assert shift.outcomes == [RetryLater, Done, Done]


async def test_what_a_handler_returns_after_it_was_told_to_end_is_ignored():
    async def handler(number: int) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done after all"
        return "never"

    shift = Shift(handler, limit_seconds=0.02)
    shift.give(0)
    await shift.until_over(1)
    [(_, verdict)] = shift.finished
    assert isinstance(verdict.raised, TimeoutError)
    assert shift.outcomes == [RetryLater]


async def test_a_handler_that_will_not_end_is_given_up_once_and_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("leanmq_topology.runner.loop_crew.GRACE_SECONDS", 0.02)
    release, ended = asyncio.Event(), asyncio.Event()

    async def handler(number: int) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    shift = Shift(handler, concurrency=1, limit_seconds=0.02)
    shift.give(0)
    await shift.until_over(1)
    assert shift.outcomes == [RetryLater]
    assert "charge" in shift.stuck[0]
    assert shift.crew.running == 0
    release.set()
    await ended.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(shift.finished) == len(shift.stuck) == 1


async def test_a_handler_in_time_is_left_alone_though_others_are_not():
    gate = asyncio.Event()

    async def handler(number: int) -> None:
        await gate.wait()

    shift = Shift(handler, limit_seconds=60)
    [overdue] = shift.give(0)
    await shift.until_running(1)
    [in_time] = shift.give(1)
    await shift.until_running(2)
    assert overdue.started_at is not None
    assert in_time.started_at is not None
    overdue.started_at -= 1
    shift.crew._end_overdue(in_time.started_at + 59.5)
    await shift.until_over(1)
    gate.set()
    await shift.until_over(2)
    assert [(number, type(verdict.outcome)) for number, verdict in shift.finished] == [
        (0, RetryLater),
        (1, Done),
    ]


async def test_an_idle_crew_has_no_timer():
    async def handler(number: int) -> None:
        await asyncio.sleep(0)

    shift = Shift(handler, limit_seconds=0.01)
    shift.give(0)
    await shift.until_over(1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while shift.crew._deadlines._timer is not None:
            await asyncio.sleep(0.005)
