"""A course of operations: it yields what to carry out next and is sent the answer, or the failure.

Like a single operation it does no I/O, so one text of a rule serves blocking code and asyncio alike.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar

from leanmq_topology.brokers.protocol import AsyncConnection, Operation, carry_out_all
from leanmq_topology.errors import LeanMQError

T = TypeVar("T")

Steps = Generator[Operation[Any], Any, T]


class Executor(Protocol):
    """A blocking connection, or what stands for one."""

    def execute(self, operation: Operation[T]) -> T: ...


def ask(operation: Operation[T]) -> Steps[T]:
    """One operation as a course: `answer = yield from ask(operation)` keeps its type."""
    answer: T = yield operation
    return answer


def carry_out(steps: Steps[T], connection: Executor) -> T:
    """Carry a course out to its end; what the server refuses is raised where the course asked for it."""
    try:
        operation = next(steps)
        while True:
            try:
                answer = connection.execute(operation)
            except LeanMQError as failure:
                operation = steps.throw(failure)
            else:
                operation = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # its type is T, which StopIteration cannot say


async def carry_out_async(steps: Steps[T], connection: AsyncConnection) -> T:
    """What `carry_out` does, for asyncio."""
    try:
        operation = next(steps)
        while True:
            try:
                answer = await connection.execute(operation)
            except LeanMQError as failure:
                operation = steps.throw(failure)
            else:
                operation = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # as above


async def carry_out_together(courses: Sequence[Steps[Any]], connection: AsyncConnection) -> list[Any]:
    """Several courses side by side: what they ask at the same time leaves in one write, none costs a task.

    What each returns; where one failed, its error stands in that place.
    """
    results: list[Any] = [None] * len(courses)
    answers: dict[int, Any] = dict.fromkeys(range(len(courses)))
    while True:
        asked: dict[int, Operation[Any]] = {}
        for at, answer in answers.items():
            steps = courses[at]
            try:
                asked[at] = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
            except StopIteration as end:
                results[at] = end.value
            except LeanMQError as failure:
                results[at] = failure
        if not asked:
            return results
        answers = dict(zip(asked, await carry_out_all(connection, list(asked.values())), strict=True))
