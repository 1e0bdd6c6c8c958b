"""Workers die or freeze; what they held is run by others."""

from __future__ import annotations

import time

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import LEASE_S, Arena
from tests.support.history import Kind, Outcome, Record

LONG = (pytest.mark.soak, pytest.mark.timeout(600))


def starts(place: Arena, key: str) -> list[Record]:
    return [record for record in place.happened() if record.kind is Kind.START and record.key == key]


@pytest.mark.parametrize("kills", [pytest.param(4, id="short"), pytest.param(110, id="long", marks=LONG)])
@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_what_killed_workers_held_is_run_by_others_in_time(
    arena: Build, figures: Figures, kind: str, kills: int
):
    place = arena(kind)
    for _ in range(3):
        place.start_worker()
    place.start_producer(tasks=6, pause_ms=20, work_ms=30)  # keeps two thirds of the hands busy
    for number in range(kills):
        time.sleep(place.dice.uniform(0.1, 0.5))  # the pace of the nemesis, with the start of a worker
        if number:
            place.kill_worker()
        else:
            place.kill_worker_at_work()
        place.start_worker()
    found = place.judge()
    figures.report(
        "F1",
        server=kind,
        kills=kills,
        sent=found.sent,
        lost=len(found.lost),
        run_twice=len(found.duplicates),
        cut_short=len(found.recoveries_s),
        recovery_s=found.recoveries_s,
    )
    found.assert_sound()
    assert found.sent > 20 * kills
    assert not found.lost
    assert found.recoveries_s


@pytest.mark.parametrize("hands", [1, 4])
def test_what_a_killed_worker_held_does_not_wait_for_the_end_of_a_backlog(
    arena: Build, figures: Figures, hands: int
):
    """The others have their hands full all the time, and take it over all the same."""
    place = arena(prefetch=hands, concurrency=hands)
    place.start_producer(count=250 * hands, batch=50, tasks=1, pause_ms=0, work_ms=30, wishes={"done": 1.0})
    place.producers[0].end()
    for _ in range(2):
        place.start_worker()
    place.kill_worker_at_work()
    found = place.judge()
    figures.report("F1", backlog=250 * hands, lost=len(found.lost), recovery_s=found.recoveries_s)
    found.assert_sound()
    assert found.recoveries_s


def test_a_worker_that_dies_before_a_handler_starts_leaves_all_it_read_to_others(
    arena: Build, figures: Figures
):
    place = arena()
    doomed = place.start_worker(module="tests.support.doomed_worker")
    place.start_producer(count=20, tasks=1, pause_ms=1, wishes={"done": 1.0})
    place.note_death(doomed)
    died = time.monotonic()
    place.start_worker()
    found = place.judge(consumers=1)
    figures.report(
        "F2",
        sent=found.sent,
        lost=len(found.lost),
        runs=found.runs,
        recovered_within_s=time.monotonic() - died,
    )
    found.assert_sound()
    assert (found.sent, found.runs) == (20, 20)


def test_work_that_was_done_but_not_acknowledged_is_run_exactly_once_more(arena: Build, figures: Figures):
    place = arena(prefetch=1, concurrency=1)
    first = place.start_worker()
    place.start_producer(count=1, tasks=1, wishes={"die after": 1.0})
    place.note_death(first)
    place.start_worker()
    found = place.judge()
    figures.report("F3", sent=found.sent, runs=found.runs, lost=len(found.lost))
    found.assert_sound()
    again = starts(place, "p0-0")
    assert [(record.attempt, record.redelivered) for record in again] == [(1, False), (2, True)]
    [sent] = [record for record in place.happened() if record.kind is Kind.INVOKE]
    assert again[1].at - sent.at >= LEASE_S, "nobody may start it while the lease runs"


def test_a_worker_killed_while_a_handler_runs_counts_its_attempt(arena: Build):
    place = arena(prefetch=1, concurrency=1, limits="max_deliveries: 2, retry: {delay: 20ms}")
    first = place.start_worker()
    place.start_producer(count=1, tasks=1, wishes={"die": 1.0})
    place.note_death(first)
    place.start_worker()
    found = place.judge(max_deliveries=2)
    found.assert_sound()
    assert [record.attempt for record in starts(place, "p0-0")] == [1, 2]


def test_a_message_that_kills_every_worker_ends_dead_after_its_limit(arena: Build):
    """Nobody sees them die, so `max_deliveries` is what stops it."""
    place = arena(prefetch=1, concurrency=1, limits="max_deliveries: 3, retry: {delay: 20ms}")
    place.start_producer(count=1, tasks=1, wishes={"die always": 1.0})
    for _ in range(3):
        place.note_death(place.start_worker(wait=False))  # it may die before it is heard
    place.start_worker()
    found = place.judge(max_deliveries=3, recovery_s=60)  # the start of each worker is in it
    found.assert_sound()
    assert found.runs == 3
    assert [reason for _, reason in place.look().reasons] in (["failed"], ["crashed"])


@pytest.mark.parametrize("wish", ["done", "fail once", "reject", "discard"])
def test_a_worker_that_froze_for_three_leases_does_no_harm_when_it_wakes(
    arena: Build, figures: Figures, wish: str
):
    place = arena(prefetch=1, concurrency=1)
    frozen = place.start_worker()
    place.start_producer(count=1, tasks=1, hold=True, wishes={wish: 1.0})
    place.wait_for_record(lambda record: record.kind is Kind.START, "a run in the first worker")
    with place.paused(frozen):
        other = place.start_worker()
        taken = place.wait_for_record(
            lambda record: record.kind is Kind.START and record.worker == other.name, "a run in the other"
        )
        place.wait_for_record(lambda record: record.kind is Kind.END, "the end of that run")
        place.open_gate()
        until = taken.at + 2 * LEASE_S - time.monotonic()
        if until > 0:
            time.sleep(until)  # the rest of the three leases
    place.wait_for_record(
        lambda record: record.kind is Kind.END and record.worker == frozen.name,
        "the late end of the first run",
    )
    found = place.judge()
    figures.report(
        "F5",
        wish=wish,
        runs=found.runs,
        lost=len(found.lost),
        taken_over_within_s=taken.at - starts(place, "p0-0")[0].at,
    )
    found.assert_sound()
    assert found.runs == 2
    if wish != "done":
        assert "lost" in frozen.said, "the late settlement was refused, and that was said"
    if wish == "fail once":
        # The frozen one ran attempt 1 and failed; the other one's success is what counts.
        ends = [record.note for record in place.happened() if record.kind is Kind.END]
        assert sorted(ends) == [Outcome.DONE, Outcome.FAILED]


@pytest.mark.parametrize("rounds", [pytest.param(4, id="short"), pytest.param(100, id="long", marks=LONG)])
def test_idle_workers_that_come_and_go_leave_no_consumer(arena: Build, figures: Figures, rounds: int):
    place = arena()
    place.start_worker()
    for _ in range(rounds):
        assert place.start_worker().end() == 0
    place.start_producer(count=20)
    found = place.judge(consumers=0)
    figures.report("F50", restarts=rounds, consumers_left=place.onlooker.consumers("work"))
    found.assert_sound()
