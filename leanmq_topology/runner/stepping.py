"""Run a coroutine inside the task that is already running, in a context of its own, with no task made for it.

A handler that never really waits is done in one inline step. One that waits goes on in the same task, which
from then on is busy with it; `waited` tells the caller so that another task can take the next message.

Why not step it here and hand it to a new task once it waits? `asyncio.timeout()` and `TaskGroup` remember the
task they were entered in and cancel that one: it has to be the same from the first step to the last.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

Step = Coroutine[Any, Any, Any]


async def run_inline(started: Awaitable[Any], context: Context, waited: Callable[[], None]) -> Any:
    """What `await started` would give or raise; its changes to context variables stay in `context`.

    `waited` is called once, when the coroutine first gives control back to the loop.
    """
    coroutine: Step = started if inspect.iscoroutine(started) else _as_coroutine(started)
    try:
        waiting_for = context.run(coroutine.send, None)
    except StopIteration as done:
        return done.value
    waited()
    return await _go_on(coroutine, context, waiting_for)


@types.coroutine
def _go_on(coroutine: Step, context: Context, waiting_for: Any) -> Generator[Any, Any, Any]:
    """Pass what the coroutine waits for to the task, and what the task sends or throws to the coroutine."""
    resume: Callable[[Any], Any]
    value: Any
    while True:
        try:
            sent = yield waiting_for
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as thrown:
            resume, value = coroutine.throw, thrown
        else:
            resume, value = coroutine.send, sent
        try:
            waiting_for = context.run(resume, value)
        except StopIteration as done:
            return done.value
        finally:
            value = None  # an exception kept here would keep this very frame


async def _as_coroutine(started: Awaitable[Any]) -> Any:
    return await started
