"""Courses of operations, carried out side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from leanmq_topology.errors import BrokerUnavailableError, LeanMQError
from leanmq_topology.upkeep.steps import Steps, ask, carry_out_together


class Answering:
    """Answers an operation with itself; one that is an error, with that. Keeps what left together."""

    def __init__(self) -> None:
        self.writes: list[list[Any]] = []

    def begin_all(self, begun: Iterable[tuple[Any, Callable[[Any], None]]]) -> None:
        given = list(begun)
        self.writes.append([operation for operation, _ in given])
        for operation, told in given:
            told(operation)


def asking(*operations: Any) -> Steps[list[Any]]:
    heard = []
    for operation in operations:
        heard += [(yield from ask(operation))]
    return heard


def forgiving(operation: Any) -> Steps[str]:
    try:
        yield from ask(operation)
    except LeanMQError:
        return "forgiven"
    return "well"


async def test_what_courses_ask_at_the_same_time_leaves_in_one_write():
    connection: Any = Answering()
    results = await carry_out_together([asking("a", "b"), asking(), asking("c", "d", "e")], connection)
    assert results == [["a", "b"], [], ["c", "d", "e"]]
    assert connection.writes == [["a", "c"], ["b", "d"], ["e"]]


async def test_a_course_that_fails_does_not_take_others_along():
    connection: Any = Answering()
    failure = BrokerUnavailableError("gone")
    results = await carry_out_together([asking(failure, "never"), asking("a", "b")], connection)
    assert results == [failure, ["a", "b"]]
    assert connection.writes == [[failure, "a"], ["b"]]


async def test_a_failure_is_raised_where_the_course_asked_for_it():
    connection: Any = Answering()
    assert await carry_out_together([forgiving(LeanMQError("no"))], connection) == ["forgiven"]


async def test_a_mistake_is_no_answer():
    connection: Any = Answering()
    with pytest.raises(ZeroDivisionError):
        await carry_out_together([asking(ZeroDivisionError())], connection)
