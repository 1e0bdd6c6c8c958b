"""Answers that tasks wait for."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from leanmq_topology.client.answers import LEAST_SECONDS, Answer, Deadlines

NEVER = 1e9
place: ContextVar[str] = ContextVar("place", default="nowhere")


def make_answer(due_at: float = NEVER) -> Answer[Any]:
    return Answer(asyncio.get_running_loop(), due_at)


async def start_waiting(answer: Answer[Any], heard: list[Any]) -> asyncio.Task[None]:
    async def wait() -> None:
        place.set("in the task")
        try:
            heard.append(await answer)
        except BaseException as raised:
            heard.append(raised)
            raise
        finally:
            heard.append(place.get())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def test_who_waits_goes_on_in_the_callback_that_gives_the_answer_and_in_a_context_of_its_own():
    answer, heard = make_answer(), list[Any]()
    task = await start_waiting(answer, heard)
    given = asyncio.get_running_loop().create_future()

    def give() -> None:
        answer.give("reply")
        given.set_result([*heard, task.done(), place.get()])

    asyncio.get_running_loop().call_soon(give)
    assert await given == ["reply", "in the task", True, "nowhere"]


async def test_an_answer_given_before_anybody_waits_is_there_at_once():
    answer = make_answer()
    answer.give("reply")
    assert await answer == "reply"


async def test_a_task_that_was_answered_may_wait_for_the_next_answer_in_the_same_callback():
    first, second = make_answer(), make_answer()

    async def wait_twice() -> list[Any]:
        return [await first, await second]

    task = asyncio.create_task(wait_twice())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_soon(first.give, 1)
    loop.call_soon(second.give, 2)
    assert await task == [1, 2]


async def test_all_else_takes_a_turn_of_the_loop_as_with_any_future():
    for end in (
        lambda answer: answer.set_result("reply"),
        lambda answer: answer.set_exception(ValueError("no")),
        lambda answer: answer.cancel(),
    ):
        answer, heard = make_answer(), list[Any]()
        task = await start_waiting(answer, heard)
        end(answer)
        assert heard == []
        await asyncio.gather(task, return_exceptions=True)
        assert len(heard) == 2


async def test_a_task_that_is_cancelled_while_it_waits_is_not_answered_any_more():
    answer, heard = make_answer(), list[Any]()
    task = await start_waiting(answer, heard)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert answer.cancelled()


async def test_a_task_that_is_cancelled_in_the_turn_it_is_answered_in_has_its_answer():
    answer, heard = make_answer(), list[Any]()
    task = await start_waiting(answer, heard)
    loop = asyncio.get_running_loop()
    loop.call_soon(answer.give, "reply")
    loop.call_soon(task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    assert heard[0] == "reply"


class Clockwork(asyncio.SelectorEventLoop):
    """Time stands still until somebody moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.timers: list[float] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        self.timers.append(when)
        return super().call_at(when, callback, *args, context=context)


@pytest.fixture
def clockwork() -> Any:
    loop = Clockwork()
    yield loop
    loop.close()


def watch_all(loop: Clockwork, *due: float) -> tuple[Deadlines, list[Answer[Any]], list[float]]:
    waiting: list[Answer[Any]] = []
    expired: list[float] = []

    def expire(answer: Answer[Any]) -> None:
        expired.append(answer.due_at)
        waiting.remove(answer)

    deadlines = Deadlines(lambda: waiting, expire)
    for due_at in due:
        waiting.append(Answer(loop, due_at))
        deadlines.watch(waiting[-1])
    return deadlines, waiting, expired


def turn(loop: Clockwork) -> None:
    loop.run_until_complete(asyncio.sleep(0))


def test_one_timer_serves_all_who_wait_and_nobody_is_expired_early(clockwork: Clockwork):
    _, waiting, expired = watch_all(clockwork, 130.0, 130.0, 131.0, 140.0)
    assert clockwork.timers == [130.0]
    clockwork.now = 130.5
    turn(clockwork)
    assert expired == [130.0, 130.0]
    assert clockwork.timers == [130.0, 131.0]
    waiting.clear()
    clockwork.now = 131.0
    turn(clockwork)
    assert (expired, clockwork.timers) == ([130.0, 130.0], [130.0, 131.0])


def test_who_has_less_time_than_all_others_is_looked_at_in_time(clockwork: Clockwork):
    _, _, expired = watch_all(clockwork, 130.0, 101.0)
    clockwork.now = 101.0
    turn(clockwork)
    assert expired == [101.0]
    clockwork.now = 130.0
    turn(clockwork)
    assert expired == [101.0, 130.0]


def test_deadlines_that_lie_close_together_are_looked_at_together(clockwork: Clockwork):
    _, _, expired = watch_all(clockwork, 101.0, *(101.0 + at * 1e-6 for at in range(1, 50)))
    clockwork.now = 101.0
    turn(clockwork)
    assert (expired, clockwork.timers) == ([101.0], [101.0, 101.0 + LEAST_SECONDS])


def test_nothing_is_looked_at_once_it_was_stopped(clockwork: Clockwork):
    deadlines, _, expired = watch_all(clockwork, 101.0)
    deadlines.stop()
    clockwork.now = 200.0
    turn(clockwork)
    assert expired == []
