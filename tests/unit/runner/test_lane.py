"""One queue as a worker consumes it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from leanmq_topology.messages.envelope import Delivered, Envelope, Undecodable
from leanmq_topology.messages.outcome import Done, Failure, MoveToDeadLetters, Outcome, RetryLater
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.middleware.counters import Counters
from leanmq_topology.runner.middleware.event_log import EventLog
from leanmq_topology.runner.pipeline import SUCCEEDED, Pipeline, Verdict
from leanmq_topology.runner.prefetch import LARGEST
from leanmq_topology.runner.reader import LARGEST_READ
from leanmq_topology.topology.model import Handler, OnFalse, Queue

DECLARED = Handler(name="charge", queue="billing", call="shop:charge")


def make_lane(settled: list[tuple[Outcome, bool]], declared: Handler = DECLARED) -> Lane:
    class Settle:
        def add(self, delivered: Any, outcome: Outcome, *, started: bool, late: bool = False) -> None:
            settled.append((outcome, late))

        def acknowledge(self, queue: str, entry_ids: Sequence[str]) -> None:
            settled.extend((Done(), False) for _ in entry_ids)

        def commit(self, commit: Any) -> None:
            raise AssertionError("nothing is sent here")

    binding: Any = None
    pipeline = Pipeline(Queue(name="billing"), OnFalse.DEAD_LETTER, lambda *_: None, ())
    return Lane(
        LoadedHandler(declared, binding, "shop.py:1"),
        pipeline,
        lambda finish, forget, succeed: binding,
        Settle(),
        EventLog(declared, Path()),
        Counters(),
    )


def make_message(*, lease_seconds: float, lost: bool = False) -> Incoming:
    message = Incoming(
        Delivered("billing", "1-0", Envelope("m", "t", b"{}")), time.monotonic() + lease_seconds
    )
    message.lost = lost
    return message


@pytest.mark.parametrize(
    ("lease_seconds", "lost", "late"), [(60, False, False), (-1, False, True), (60, True, True)]
)
def test_a_success_after_the_lease_is_taken_and_flagged_late(
    lease_seconds: float, lost: bool, late: bool, caplog: pytest.LogCaptureFixture
):
    settled: list[tuple[Outcome, bool]] = []
    make_lane(settled).finish(make_message(lease_seconds=lease_seconds, lost=lost), Verdict(Done()))
    assert settled == [(Done(), late)]
    assert ("after its lease had lapsed" in caplog.text) is late


def test_of_a_batch_only_what_was_done_after_its_lease_is_late(caplog: pytest.LogCaptureFixture):
    settled: list[tuple[Outcome, bool]] = []
    lane = make_lane(settled)
    messages = [
        make_message(lease_seconds=60),
        make_message(lease_seconds=-1),
        make_message(lease_seconds=60),
    ]
    for message in messages:
        message.started_at = time.monotonic()
    lane.succeed(messages, 0.001)
    assert settled == [(Done(), False), (Done(), True), (Done(), False)]
    assert caplog.text.count("after its lease had lapsed") == 1
    assert all(message.finished for message in messages)


def test_what_simply_succeeded_is_counted_and_acknowledged_together():
    settled: list[tuple[Outcome, bool]] = []
    lane = make_lane(settled)
    for messages in ([make_message(lease_seconds=60) for _ in range(3)], [make_message(lease_seconds=60)]):
        for message in messages:
            message.started_at = time.monotonic()
        lane.succeed(messages, 0.001) if len(messages) > 1 else lane.finish(messages[0], SUCCEEDED)
        assert all(message.finished for message in messages)
    assert settled == [(Done(), False)] * 4
    assert lane.counters.as_dict()["handled"] == 4
    assert lane.counters.summary() == "4 handled"


def test_every_success_is_told_where_the_log_wants_that(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("DEBUG", "leanmq.runner"):
        lane = make_lane([])
        message = make_message(lease_seconds=60)
        message.started_at = time.monotonic()
        lane.finish(message, SUCCEEDED)
        lane.succeed([message, message], 0.001)
    assert caplog.text.count("handled in") == 3
    assert lane.counters.as_dict()["handled"] == 3


class Given:
    """A crew that only keeps what it is given."""

    unstarted = running = in_hand = 0

    def __init__(self) -> None:
        self.ids: list[str] = []

    def give(self, messages: Iterable[Incoming], pipeline: Pipeline) -> None:
        self.ids += [message.delivered.entry_id for message in messages]


def arrive(entry_id: str) -> Delivered:
    return Delivered("billing", entry_id, Envelope("m", "t", b"{}"))


def test_what_arrives_is_held_and_given_to_the_crew_in_its_order():
    lane = make_lane([])
    crew = lane.crew = cast(Any, Given())
    lane.take_in([arrive(f"{number}-0") for number in range(3)])
    assert list(lane.held) == crew.ids == ["0-0", "1-0", "2-0"]
    assert all(message.lease_ends > time.monotonic() for message in lane.held.values())


@pytest.mark.parametrize("ids", [["0-0"], ["1-0", "0-0"], ["1-0", "1-0", "0-0"]])
def test_what_is_held_already_has_its_lease_renewed_and_does_not_run_twice(ids: list[str]):
    lane = make_lane([])
    crew = lane.crew = cast(Any, Given())
    known = lane.held["0-0"] = make_message(lease_seconds=-1, lost=True)
    lane.take_in([arrive(entry_id) for entry_id in ids])
    assert lane.held["0-0"] is known
    assert known.is_ours(time.monotonic())
    assert crew.ids == [each for each in dict.fromkeys(ids) if each != "0-0"]


def test_what_cannot_be_read_is_settled_and_the_rest_runs():
    settled: list[tuple[Outcome, bool]] = []
    lane = make_lane(settled)
    crew = lane.crew = cast(Any, Given())
    lane.take_in([arrive("0-0"), Undecodable("billing", "1-0", "no fields"), arrive("2-0")])
    assert list(lane.held) == crew.ids == ["0-0", "2-0"]
    assert [type(outcome) for outcome, _ in settled] == [MoveToDeadLetters]


def test_a_failure_after_the_lease_is_left_to_the_server_to_refuse():
    settled: list[tuple[Outcome, bool]] = []
    retry = RetryLater(1, Failure("E", ""))
    make_lane(settled).finish(make_message(lease_seconds=-1), Verdict(retry))
    assert settled == [(retry, False)]


def test_a_queue_that_owes_room_to_lapsed_messages_is_not_read_and_rings_when_there_is_some():
    rung: list[int] = []

    class Crew:
        unstarted = running = in_hand = 0

    lane = make_lane([])
    lane.crew = cast(Any, Crew())
    lane.held = {"1-0": make_message(lease_seconds=60)}
    lane.room_bell = lambda: rung.append(lane.room)
    assert lane.hungry
    lane.owed = True
    assert not lane.hungry
    lane.settled(["1-0"])
    assert rung == [DECLARED.concurrency]
    assert not lane.hungry, "a search comes first"
    lane.owed = False
    assert lane.hungry


def test_a_set_prefetch_caps_all_that_is_not_acknowledged_what_runs_and_what_waits_to_be_settled():
    class Crew:
        unstarted, running, in_hand = 0, 2, 2

    lane = make_lane([], replace(DECLARED, prefetch=3))
    lane.crew = cast(Any, Crew())
    lane.held = {f"{number}-0": make_message(lease_seconds=60) for number in range(3)}
    assert (lane.room, lane.hungry) == (0, False)
    lane.settled(["1-0"])
    assert lane.room == 1


def test_the_next_read_goes_out_while_what_the_last_one_brought_is_run():
    class Crew:
        unstarted = running = in_hand = 0

    lane = make_lane([])
    lane.crew = crew = cast(Any, Crew())
    quick = make_message(lease_seconds=60)
    quick.started_at = time.monotonic()
    lane.finish(quick, SUCCEEDED)
    lane.held = {f"{number}-0": make_message(lease_seconds=60) for number in range(LARGEST_READ)}
    crew.unstarted = crew.in_hand = LARGEST_READ
    assert (lane.room, lane.hungry) == (LARGEST_READ, True)
    crew.unstarted = crew.in_hand = LARGEST_READ + 1
    assert not lane.hungry
    lane.held = {f"{number}-0": make_message(lease_seconds=60) for number in range(2 * LARGEST)}
    crew.unstarted = crew.in_hand = 0
    assert not lane.hungry, "the server is to take acknowledgements first"


def test_a_lane_says_before_its_crew_is_given_something_and_after_it_has_begun():
    happened: list[str] = []

    class Crew:
        def give(self, messages: Any, pipeline: Any) -> None:
            happened.append("given")

        def start(self) -> None:
            happened.append("started")

    lane = make_lane([])
    lane.crew = cast(Any, Crew())
    lane.on_taken, lane.on_begun = (lambda: happened.append("taken")), (lambda: happened.append("begun"))
    lane.take([make_message(lease_seconds=60).delivered])
    assert happened == ["taken", "given", "started", "begun"]
