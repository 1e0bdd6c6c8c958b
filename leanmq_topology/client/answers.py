"""Answers that tasks wait for: passed on without a turn of the loop, and each only waited for in its time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")

LEAST_SECONDS: Final = 0.001
"""Between two looks at who has waited too long, however many deadlines there are."""


class Answer(asyncio.Future[T]):
    """Awaited by one task, until `due_at` (the loop's time) where there is an end.

    `give` has the task go on there and then, as a callback of the loop may: a turn of the loop takes a lone
    task longer than all else that is to be done for it. What comes in any other way takes that turn, as it
    does with every future.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due_at: float = math.inf) -> None:
        super().__init__(loop=loop)
        self.due_at = due_at
        self._resume: tuple[Callable[..., Any], Context] | None = None

    def add_done_callback(self, fn: Callable[..., Any], /, *, context: Context | None = None) -> None:
        """A task says with it how it goes on, and in which context."""
        if context is not None and self._resume is None and not self.done():
            self._resume = fn, context
        else:
            super().add_done_callback(fn, context=context)

    def give(self, result: T) -> None:
        """Have who waits go on now, unless he has given up. Not for one who is himself run by a task."""
        if self.done():
            return
        resume, self._resume = self._resume, None
        super().set_result(result)
        if resume is not None:
            go_on, context = resume
            context.run(go_on, self)

    def set_result(self, result: T, /) -> None:
        self._wait_for_turn()
        super().set_result(result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        self._wait_for_turn()
        super().set_exception(exception)

    def cancel(self, msg: Any | None = None) -> bool:
        self._wait_for_turn()
        return super().cancel(msg)

    def _wait_for_turn(self) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            super().add_done_callback(resume[0], context=resume[1])


class Deadlines:
    """One timer for all who wait: one each would cost a lone answer as much as what it says.

    `waiting` tells who does; `expire` hears of each whose time is up.
    """

    def __init__(
        self, waiting: Callable[[], Iterable[Answer[T]]], expire: Callable[[Answer[T]], None]
    ) -> None:
        self._waiting: Callable[[], Iterable[Answer[Any]]] = waiting
        self._expire: Callable[[Answer[Any]], None] = expire
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = 0.0

    def watch(self, answer: Answer[Any]) -> None:
        """Somebody more waits."""
        if self._timer is None or answer.due_at < self._looks_at:
            self.stop()
            self._look_at(answer.get_loop(), answer.due_at)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, loop: asyncio.AbstractEventLoop, due_at: float) -> None:
        self._looks_at = due_at
        self._timer = loop.call_at(due_at, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now, next_at = loop.time(), None
        for answer in list(self._waiting()):
            if answer.due_at <= now:
                self._expire(answer)
            elif next_at is None or answer.due_at < next_at:
                next_at = answer.due_at
        if next_at is not None:
            self._look_at(loop, max(next_at, now + LEAST_SECONDS))
