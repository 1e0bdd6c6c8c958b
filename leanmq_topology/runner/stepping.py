"""Run a coroutine inside the task that is already running, in a context of its own, with no task made for it.

A handler that never really waits is done in one inline step, `context.run(step.send, None)`, which ends in
`StopIteration`. One that waits goes on in the same task, which from then on is busy with it (`go_on`). What
it changes of context variables stays in that context.

Why not step it here and hand it to a new task once it waits? `asyncio.timeout()` and `TaskGroup` remember the
task they were entered in and cancel that one: it has to be the same from the first step to the last.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

Step = Coroutine[Any, Any, Any]


def as_step(started: Awaitable[Any]) -> Step:
    """What an asynchronous handler gave when it was called, as a coroutine that can be stepped."""
    return started if isinstance(started, types.CoroutineType) else _as_coroutine(started)


@types.coroutine
def go_on(coroutine: Step, context: Context, waiting_for: Any) -> Generator[Any, Any, Any]:
    """What `await coroutine` would give or raise, from its first step on, which waits for `waiting_for`.

    Passes what the coroutine waits for to the task, and what the task sends or throws to the coroutine.
    """
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
        except RuntimeError as failure:
            place_where_raised(failure)
            raise
        finally:
            value = None  # an exception kept here would keep this very frame


def place_where_raised(failure: BaseException) -> BaseException:
    """For who stepped a coroutine and caught this: the same error, now with the lines that it passed through.

    Before 3.12 Python makes a new error of a `StopIteration` that leaves a coroutine, outside of it: it knows
    the lines of who stepped it and no others, while those of the handler are its cause's.
    """
    cause, trace = failure.__cause__, failure.__traceback__
    if isinstance(cause, StopIteration) and trace is not None and trace.tb_next is None:
        return failure.with_traceback(cause.__traceback__)
    return failure


async def _as_coroutine(started: Awaitable[Any]) -> Any:
    return await started
