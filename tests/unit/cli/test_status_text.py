"""What `leanmq status` says of queues that need a reader's eye."""

from __future__ import annotations

from dataclasses import replace

from leanmq_topology.cli.commands.status import describe, render
from leanmq_topology.operations.status import Overdue, Status
from leanmq_topology.plan.live_state import QueueState
from leanmq_topology.topology.model import Queue, Target, TopicRoute


def make_status(state: QueueState) -> Status:
    return Status(1, {state.name: Queue(name=state.name)}, {}, {state.name: state}, [])


def test_parked_messages_are_told_with_what_to_do():
    status = make_status(QueueState("billing", dead=10, parked=1200))
    assert "billing: 1,200 parked: its dead-letter queue is full; replay or discard some" in render(status)
    assert describe(status)["queues"]["billing"]["parked"] == 1200


def test_what_expired_while_it_was_ready_is_told_and_out_of_how_many():
    status = make_status(QueueState("billing", ready=9840))
    whole = replace(status, overdue={"billing": Overdue(expired=312, looked_at=9840)})
    part = replace(status, overdue={"billing": Overdue(expired=312, looked_at=500)})
    assert "billing: 312 of the 9,840 ready have expired; they go as they are reached" in render(whole)
    assert "billing: 312 of the first 500 of 9,840 ready have expired; they go as they are reached" in render(
        part
    )
    told = describe(part)["queues"]["billing"]
    assert (told["ready_expired"], told["ready_looked_at"]) == (312, 500)
    assert describe(status)["queues"]["billing"]["ready_expired"] == 0


def test_the_history_and_what_left_it_are_told_where_there_is_any():
    status = make_status(QueueState("audit", kept=5, counters={"dead_expired": 2}))
    assert "audit: 5 kept, 2 dead expired" in render(status)
    assert describe(status)["queues"]["audit"]["kept"] == 5


def test_one_of_something_is_told_as_one():
    def tell(count: int) -> list[str]:
        counters = {"duplicates": count, "conflicts": count, "dead_expired": count}
        audit = TopicRoute(name="audit", to=(Target(queue="log", topics=("#",)),))
        states = {"log": QueueState("log", counters=counters)}
        status = Status(1, {"log": Queue(name="log")}, {"audit": audit}, states, [], {"audit": counters})
        return [line.partition("log")[2] for line in render(status) if "duplicate" in line]

    assert tell(1) == [
        ": 1 duplicate, 1 conflict, 1 dead expired",
        ", 1 duplicate, 1 conflict, 1 dead expired",
    ]
    assert tell(2) == [
        ": 2 duplicates, 2 conflicts, 2 dead expired",
        ", 2 duplicates, 2 conflicts, 2 dead expired",
    ]


def test_a_queue_with_neither_needs_no_line():
    assert not [line for line in render(make_status(QueueState("plain"))) if line.startswith("plain:")]


def test_what_a_route_counted_stands_behind_it():
    audit = TopicRoute(name="audit", to=(Target(queue="log", topics=("#",)),))
    counters = {"unrouted": 1234, "duplicates": 0, "conflicts": 0}
    status = Status(
        1, {"log": Queue(name="log")}, {"audit": audit}, {"log": QueueState("log")}, [], {"audit": counters}
    )
    assert "route audit: topic to log, 1,234 unrouted" in list(render(status))
    assert describe(status)["routes"]["audit"] == {"type": "topic", "to": ["log"], **counters}
