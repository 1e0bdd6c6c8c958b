"""One planning of settlements, for workers and for programs that consume by themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology import settling
from leanmq_topology.brokers.protocol import Operation
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.client.consuming.settling import Grip, plan_leftovers, plan_settlements
from leanmq_topology.client.consuming.shelf import Leftover
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.outcome import (
    DeadReason,
    Done,
    Dropped,
    Failure,
    MoveToDeadLetters,
    Outcome,
    Released,
    RetryLater,
)
from leanmq_topology.settling import LARGEST_ACK, LARGEST_MOVE, Settlement

BROKER = RedisBroker("shop")
WHY = Failure("ValueError", "no")
OUTCOMES: tuple[Outcome, ...] = (
    Done(),
    RetryLater(500, WHY),
    MoveToDeadLetters(DeadReason.FAILED, WHY),
    Dropped(expired=True),
    Released(),
)


def delivered(number: int, queue: str = "work") -> Delivered:
    return Delivered(queue, f"{number}-0", Envelope(f"m{number}", "t", "{}"), 1)


def words(operation: Operation[Any]) -> tuple[Any, ...]:
    """What is said to the server."""
    call: Any = operation
    return (call.name, call.keys, call.arguments)


def test_outcomes_of_one_kind_and_one_queue_travel_together_in_their_order():
    batch = [
        Settlement(delivered(number, queue), outcome, started=True)
        for number, (queue, outcome) in enumerate(
            [("a", Done()), ("b", Done()), ("a", Released()), ("a", Done()), ("b", Done())]
        )
    ]
    steps = list(settling.plan_settlements(BROKER, "me", batch))
    assert [
        (step.operation.name, [one.delivered.entry_id for one in step.settlements]) for step in steps
    ] == [("ack", ["0-0", "3-0"]), ("ack", ["1-0", "4-0"]), ("release", ["2-0"])]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_a_step_carries_only_so_many(outcome: Outcome):
    most = LARGEST_ACK if isinstance(outcome, Done) else LARGEST_MOVE
    batch = [Settlement(delivered(number), outcome, started=True) for number in range(most + 1)]
    steps = list(settling.plan_settlements(BROKER, "me", batch))
    assert [len(step.settlements) for step in steps] == [most, 1]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_a_program_that_consumes_settles_in_the_very_steps_of_a_worker(outcome: Outcome):
    numbers = range(3)
    shelf: Any = _Shelf(name="work", consumer="me")
    batch = [Settlement(delivered(number), outcome, started=True) for number in numbers]
    expected = [words(step.operation) for step in settling.plan_settlements(BROKER, "me", batch)]
    grips = [Grip(shelf, Held(delivered(number), 0.0)) for number in numbers]
    planned = plan_settlements(BROKER, grips, lambda grip: outcome)
    assert [(words(step.operation), step.grips) for step in planned] == [(expected[0], grips)]
    leftovers = [Leftover(delivered(number), outcome, started=True) for number in numbers]
    assert [words(each) for each in plan_leftovers(BROKER, shelf, leftovers)] == expected


class _Shelf(SimpleNamespace):
    """What planning knows of one."""

    __hash__ = object.__hash__
