"""The checker judges everything else here, so each class and each invariant is shown to be violable."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.support.checker import FinalState, Findings, Home, Ledger, Limits, Slot, check
from tests.support.history import Fault, Kind, Outcome, Record

LIMITS = Limits(lease_s=1.0, max_deliveries=3, recovery_s=2.0)
A = Slot("a", "work")


def sent(key: str = "a", at: float = 0.0, result: Kind = Kind.OK) -> list[Record]:
    return [Record(Kind.INVOKE, at, key, "work", "p"), Record(result, at + 0.01, key, "work", "p")]


def run(
    at: float,
    until: float | None,
    *,
    key: str = "a",
    worker: str = "w1",
    attempt: int = 1,
    outcome: str = Outcome.DONE,
) -> list[Record]:
    """A run of `worker`; without an end if `until` is None."""
    start = Record(Kind.START, at, key, "work", worker, attempt)
    end = [] if until is None else [Record(Kind.END, until, key, "work", worker, attempt, outcome)]
    return [start, *end]


def fault(kind: Fault, at: float, until: float | None = None, worker: str = "") -> Record:
    return Record(Kind.FAULT, at, worker=worker, note=kind, until=at if until is None else until)


def state(**homes: list[Slot]) -> FinalState:
    return FinalState({Home(name): Counter(slots) for name, slots in homes.items()})


def verdict(records: list[Record], end: FinalState | None = None, limits: Limits = LIMITS) -> Findings:
    return check(records, end or FinalState(), limits)


def violated(found: Findings) -> set[str]:
    return {name for name, texts in found.violations.items() if texts}


def test_a_message_sent_run_once_and_gone_is_in_order():
    found = verdict([*sent(), *run(1, 2)])
    assert (found.sent, found.runs, violated(found)) == (1, 1, set())
    found.assert_sound()


def test_findings_that_are_not_sound_say_what_is_wrong():
    with pytest.raises(AssertionError, match=r"I1: .*lies nowhere"):
        verdict(sent()).assert_sound()


# -- I1 --------------------------------------------------------------------------------------------------


def test_a_sent_message_that_is_nowhere_is_lost():
    found = verdict(sent())
    assert found.lost == [A]
    assert violated(found) == {"I1"}


def test_a_message_whose_only_run_never_finished_is_lost():
    assert verdict([*sent(), *run(1, None)]).lost == [A]
    assert verdict([*sent(), *run(1, 2, outcome=Outcome.FAILED)]).lost == [A]


@pytest.mark.parametrize("home", list(Home))
def test_a_message_that_lies_somewhere_is_not_lost(home: Home):
    reasons = [(A, "failed")] if home is Home.DEAD else []
    found = verdict(sent(), replace(state(**{home: [A]}), reasons=reasons))
    assert not found.lost
    assert not violated(found)


def test_a_send_without_an_answer_may_be_lost():
    assert not verdict(sent(result=Kind.UNKNOWN)).lost
    assert not verdict(sent(result=Kind.FAIL)).lost
    assert not verdict(sent()[:1]).lost


def test_only_what_was_sent_right_before_a_server_died_may_be_gone_where_that_was_said():
    limits = replace(LIMITS, loss_window_s=1.0)
    soon = verdict([*sent(), fault(Fault.SERVER_KILLED, 0.5, 0.6)], limits=limits)
    assert soon.lost == [A]
    assert not violated(soon)
    while_down = verdict([*sent(at=0.55), fault(Fault.SERVER_KILLED, 0.5, 0.6)], limits=limits)
    assert not violated(while_down), "an answer that was read while it was gone"
    promised = verdict([*sent(at=0.55), fault(Fault.SERVER_KILLED, 0.5, 0.6)])
    assert violated(promised) == {"I1"}
    late = verdict([*sent(), fault(Fault.SERVER_KILLED, 1.5, 1.6)], limits=limits)
    assert violated(late) == {"I1"}
    before = verdict([fault(Fault.SERVER_KILLED, 0.0, 0.1), *sent(at=0.2)], limits=limits)
    assert violated(before) == {"I1"}


# -- I2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "end"),
    [(run(1, 2), FinalState()), ([], state(main=[A])), (run(1, None), state(delayed=[A]))],
    ids=["run", "kept", "both"],
)
def test_a_message_nobody_sent_is_unexpected(records: list[Record], end: FinalState):
    found = verdict(records, end)
    assert found.unexpected == [A]
    assert violated(found) == {"I2"}


def test_a_refused_send_that_is_run_is_unexpected():
    found = verdict([*sent(result=Kind.FAIL), *run(1, 2)])
    assert found.unexpected == [A]
    assert violated(found) == {"I2"}


def test_an_end_without_a_start_is_noticed():
    assert violated(verdict([*sent(), *run(1, 2)[1:]], state(main=[A]))) == {"I2"}


def test_a_send_whose_answer_was_lost_and_that_is_run_is_recovered():
    found = verdict([*sent(result=Kind.UNKNOWN), *run(1, 2)])
    assert found.recovered == [A]
    assert not violated(found)
    assert verdict([*sent()[:1], *run(1, 2)]).recovered == [A]


# -- I3 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [state(main=[A, A]), state(main=[A], delayed=[A]), state(delayed=[A], trash=[A])],
    ids=["stored twice", "two homes", "trash"],
)
def test_a_message_that_lies_twice_breaks_conservation(end: FinalState):
    assert violated(verdict(sent(), end)) == {"I3"}


@pytest.mark.parametrize(
    ("ledger", "sound"),
    [
        (Ledger(sent=4, acked=1, discarded=1, dead_lettered=1), True),
        (Ledger(sent=5, acked=1, discarded=1, dead_lettered=1), False),
        (Ledger(sent=4, acked=2, discarded=1, dead_lettered=1), False),
        (Ledger(sent=4, acked=1, discarded=1, dead_lettered=0), False),
        (Ledger(sent=4, acked=1, dropped=1, dead_lettered=1), True),
        (Ledger(sent=5, acked=1, dropped=1, vanished=1, dead_lettered=1), True),
        (Ledger(sent=4, acked=1, discarded=1, dropped=1, dead_lettered=1), False),
    ],
)
def test_counters_must_agree_with_what_lies_there(ledger: Ledger, sound: bool):
    b = Slot("b", "work")
    end = replace(state(main=[A], dead=[b]), reasons=[(b, "failed")], ledgers={"work": ledger})
    found = verdict([*sent("a"), *sent("b")], end)
    assert violated(found) == (set() if sound else {"I3"})


# -- I4 --------------------------------------------------------------------------------------------------


def again(*faults: Record) -> Findings:
    return verdict([*sent(), *run(1, 2), *run(5, 6, worker="w2", attempt=2), *faults])


def test_a_second_success_without_a_cause_is_a_violation():
    found = again()
    assert found.duplicates == [A]
    assert violated(found) == {"I4"}


@pytest.mark.parametrize(
    ("cause", "explains"),
    [
        (fault(Fault.KILLED, 2.5, worker="w1"), True),
        (fault(Fault.KILLED, 2.5, worker="w2"), False),
        (fault(Fault.KILLED, 0.5, worker="w1"), False),
        (fault(Fault.KILLED, 4.0, worker="w1"), False),
        (fault(Fault.PAUSED, 1.5, 4.5, worker="w1"), True),
        (fault(Fault.SERVER_KILLED, 2.9, 3.5), True),
        (fault(Fault.SERVER_KILLED, 3.1, 3.5), False),
        (fault(Fault.CONNECTIONS_CUT, 0.0, 9.0), True),
    ],
)
def test_a_second_success_is_explained_by_what_met_the_first_or_its_acknowledgement(
    cause: Record, explains: bool
):
    found = again(cause)
    assert found.duplicates == [A]
    assert violated(found) == (set() if explains else {"I4"})


def test_a_run_after_a_failed_one_needs_no_cause_and_is_no_duplicate():
    found = verdict([*sent(), *run(1, 2, outcome=Outcome.FAILED), *run(5, 6, worker="w2", attempt=2)])
    assert not found.duplicates
    assert not violated(found)


@pytest.mark.parametrize("outcome", [Outcome.DISCARDED, Outcome.REJECTED])
def test_a_run_after_a_final_verdict_needs_a_cause(outcome: Outcome):
    found = verdict([*sent(), *run(1, 2, outcome=outcome), *run(5, 6, worker="w2", attempt=2)])
    assert violated(found) == {"I4"}


# -- I5, I6 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasons", "sound"), [([(A, "crashed")], True), ([(A, "")], False), ([(A, "bored")], False), ([], False)]
)
def test_every_dead_letter_has_a_reason(reasons: list[tuple[Slot, str]], sound: bool):
    found = verdict(sent(), replace(state(dead=[A]), reasons=reasons))
    assert violated(found) == (set() if sound else {"I5"})


@pytest.mark.parametrize(
    ("end", "sound"),
    [
        (FinalState(consumers={"work": 2}), True),
        (FinalState(consumers={"work": 3}), False),
        (FinalState(connections=1), False),
        (FinalState(strange_keys=["{x}:left"]), False),
    ],
)
def test_what_is_left_behind_is_noticed(end: FinalState, sound: bool):
    found = verdict([], end, replace(LIMITS, consumers=2))
    assert violated(found) == (set() if sound else {"I6"})


@pytest.mark.parametrize(("held_since", "explains"), [(7.0, True), (1.0, False)])
def test_what_was_held_unstarted_may_run_twice_once_nobody_knows_who_held_it(
    held_since: float, explains: bool
):
    lost = fault(Fault.OWNERSHIP_LOST, held_since)
    records = [*sent(), lost, *run(10, 11), *run(12, 13, worker="w2", attempt=2)]
    found = verdict(records, limits=replace(LIMITS, recovery_s=None))
    assert found.duplicates == [A]
    assert violated(found) == (set() if explains else {"I4"})


# -- I7 --------------------------------------------------------------------------------------------------


def overlapping(*faults: Record, until: float | None = 9.0) -> Findings:
    second = run(5, 6, worker="w2", attempt=2, outcome=Outcome.FAILED)
    return verdict([*sent(), *run(1, until), *second, *faults], state(main=[A]))


@pytest.mark.parametrize("until", [9.0, None])
def test_two_runs_at_once_while_leases_were_renewed_are_a_violation(until: float | None):
    found = overlapping(until=until)
    assert found.concurrent == [A]
    assert violated(found) == {"I7"}


def test_a_run_that_died_with_its_worker_overlaps_nothing():
    found = overlapping(fault(Fault.KILLED, 4.0, worker="w1"), until=None)
    assert not found.concurrent
    assert not violated(found)


@pytest.mark.parametrize(
    ("cause", "explains"),
    [
        (fault(Fault.PAUSED, 2.0, 4.5, worker="w1"), True),
        (fault(Fault.PAUSED, 2.0, 2.1, worker="w1"), False),
        (fault(Fault.PAUSED, 2.0, 4.5, worker="w2"), False),
        (fault(Fault.SERVER_STALLED, 2.0, 4.0), True),
        (fault(Fault.SERVER_STALLED, 6.0, 9.0), False),
        (fault(Fault.OWNERSHIP_LOST, 3.0), True),
    ],
)
def test_two_runs_at_once_are_explained_by_a_lease_that_could_not_be_renewed(cause: Record, explains: bool):
    found = overlapping(cause)
    assert found.concurrent == [A]
    assert violated(found) == (set() if explains else {"I7"})


# -- I8, I9 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("restart", "sound"), [(4.0, True), (6.0, False)])
def test_what_died_with_its_worker_is_started_again_in_time(restart: float, sound: bool):
    killed = fault(Fault.KILLED, 3.0, worker="w1")
    found = verdict([*sent(), *run(1, None), killed, *run(restart, 9, worker="w2", attempt=2)])
    assert found.recoveries_s == [restart - 3.0]
    assert violated(found) == (set() if sound else {"I8"})


@pytest.mark.parametrize(("restart", "sound"), [(7.0, True), (7.1, False)])
def test_each_further_death_begins_a_bound_of_its_own(restart: float, sound: bool):
    killed = [fault(Fault.KILLED, 3.0, worker="w1"), fault(Fault.KILLED, 4.5, worker="w3")]
    found = verdict([*sent(), *run(1, None), *killed, *run(restart, 9, worker="w2", attempt=2)])
    assert violated(found) == (set() if sound else {"I8"})


def test_a_server_fault_excuses_a_late_recovery():
    records = [*sent(), *run(1, None), fault(Fault.KILLED, 3.0, worker="w1")]
    found = verdict([*records, fault(Fault.SERVER_KILLED, 4, 8), *run(9, 10, worker="w2", attempt=2)])
    assert not violated(found)


@pytest.mark.parametrize(("start", "sound"), [(4.0, True), (6.0, False)])
def test_work_resumes_in_time_after_the_server_is_back(start: float, sound: bool):
    found = verdict([*sent(), fault(Fault.SERVER_KILLED, 1.0, 3.0), *run(start, 9)])
    assert found.resumptions_s == [start - 3.0]
    assert violated(found) == (set() if sound else {"I8"})


def test_a_fault_after_all_work_was_done_asks_for_nothing():
    found = verdict([*sent(), *run(1, 2), fault(Fault.SERVER_KILLED, 3.0, 4.0)])
    assert found.resumptions_s == []
    assert not violated(found)


def test_a_message_started_more_often_than_its_limit_is_a_violation():
    def failed(n: int) -> list[Record]:
        return run(n, n + 0.5, attempt=n, outcome=Outcome.FAILED)

    three = [*sent(), *failed(1), *failed(2), *failed(3)]
    assert not violated(verdict(three, state(main=[A])))
    assert violated(verdict([*three, *failed(4)], state(main=[A]))) == {"I9"}
