"""The law: running a coroutine inline is `await`, seen from the coroutine and from its caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from leanmq_topology.runner.stepping import as_step, go_on

seen: ContextVar[str] = ContextVar("seen", default="nothing")

Body = Callable[[], Coroutine[Any, Any, Any]]


class Refusal(BaseException):
    """Not an Exception, as some libraries' own are not."""


async def returns_at_once() -> Any:
    return ["a", "value"]


async def returns_false() -> Any:
    return False


async def raises_at_once() -> Any:
    raise ValueError("card")


async def raises_stop_iteration() -> Any:
    raise StopIteration("card")


async def raises_no_exception() -> Any:
    raise Refusal


async def waits_a_turn() -> Any:
    await asyncio.sleep(0)
    return 1


async def waits_for_a_timer() -> Any:
    return await asyncio.sleep(0.001, "slept")


async def waits_often() -> Any:
    return [await asyncio.sleep(0, number) for number in range(20)]


async def raises_after_waiting() -> Any:
    await asyncio.sleep(0)
    raise ValueError("card")


async def catches_what_a_future_raises() -> Any:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, ConnectionError("gone"))
    try:
        await future
    except ConnectionError as failure:
        return str(failure)


async def times_out_inside() -> Any:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        return "timed out"


async def lets_a_timeout_out() -> Any:
    async with asyncio.timeout(0.001):
        await asyncio.Event().wait()


async def runs_a_group() -> Any:
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(waits_a_turn()), group.create_task(waits_often())
    return first.result(), second.result()


async def runs_a_failing_group() -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises_after_waiting())
        group.create_task(asyncio.Event().wait())


async def cancels_itself() -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("enough")
    await asyncio.sleep(0)


async def shields_its_work() -> Any:
    return await asyncio.shield(waits_for_a_timer())


async def keeps_its_task() -> Any:
    before = asyncio.current_task()
    await asyncio.sleep(0)
    return before is asyncio.current_task() and before is not None


BODIES: list[Body] = [
    returns_at_once,
    returns_false,
    raises_at_once,
    raises_stop_iteration,
    raises_no_exception,
    waits_a_turn,
    waits_for_a_timer,
    waits_often,
    raises_after_waiting,
    catches_what_a_future_raises,
    times_out_inside,
    lets_a_timeout_out,
    runs_a_group,
    runs_a_failing_group,
    cancels_itself,
    shields_its_work,
    keeps_its_task,
]


async def inline(body: Awaitable[Any], waited: Callable[[], None] = lambda: None) -> Any:
    """As a crew does it; `waited` hears when it gives control back for the first time."""
    step, context = as_step(body), copy_context()
    try:
        waits_for = context.run(step.send, None)
    except StopIteration as done:
        return done.value
    waited()
    return await go_on(step, context, waits_for)


async def outcome(awaitable: Awaitable[Any]) -> tuple[str, Any]:
    """What became of it, in a form that two runs can be compared in."""

    async def contained() -> tuple[str, Any]:
        try:
            return "returned", await awaitable
        except BaseException as failure:
            parts = getattr(failure, "exceptions", ())
            return type(failure).__name__, (str(failure), [repr(part) for part in parts])

    return await asyncio.ensure_future(contained())


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_running_inline_gives_what_awaiting_gives(body: Body):
    assert await outcome(inline(body())) == await outcome(body())


async def test_an_awaitable_that_is_no_coroutine_is_awaited_too():
    future = asyncio.get_running_loop().create_future()
    future.set_result("done")
    assert await inline(future) == "done"


@pytest.mark.parametrize(
    ("body", "times"), [(returns_at_once, 0), (raises_at_once, 0), (waits_a_turn, 1), (waits_often, 1)]
)
async def test_the_caller_is_told_once_and_only_when_it_really_waits(body: Body, times: int):
    calls: list[None] = []
    await outcome(inline(body(), lambda: calls.append(None)))
    assert len(calls) == times


async def test_a_coroutine_that_does_not_wait_never_gives_control_away():
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "the loop turned")
    for _ in range(100):
        await inline(returns_at_once())
    assert turns == []


@pytest.mark.parametrize("wait", [0, 1, 3])
async def test_context_variables_set_inside_stay_inside(wait: int):
    async def body() -> str:
        seen.set("inside")
        for _ in range(wait):
            await asyncio.sleep(0)
        return seen.get()

    assert await inline(body()) == "inside"
    assert seen.get() == "nothing"


async def test_context_variables_of_the_caller_are_seen_inside():
    async def body() -> str:
        await asyncio.sleep(0)
        return seen.get()

    token = seen.set("outside")
    try:
        assert await inline(body()) == "outside"
    finally:
        seen.reset(token)


async def test_tasks_started_inside_see_the_context_of_the_handler():
    async def child() -> str:
        return seen.get()

    async def body() -> str:
        await asyncio.sleep(0)
        seen.set("inside")
        return await asyncio.create_task(child())

    assert await inline(body()) == "inside"


@pytest.mark.parametrize("swallow", [False, True])
async def test_cancelling_the_task_cancels_what_it_runs(swallow: bool):
    reached, ended = asyncio.Event(), []

    async def body() -> str:
        try:
            reached.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            if not swallow:
                raise
        return "went on"

    task = asyncio.create_task(inline(body()))
    await reached.wait()
    task.cancel()
    if swallow:
        assert await task == "went on"
    else:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended == ["cancelled"]


def test_a_coroutine_left_behind_by_a_closed_loop_is_closed_with_its_caller():
    ended: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("closed")

    async def main() -> None:
        abandoned = inline(body())
        abandoned.send(None)
        abandoned.close()

    asyncio.run(main())
    assert ended == ["closed"]
