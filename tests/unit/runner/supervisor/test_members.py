"""How long a seat stays empty, and how a death is told."""

from __future__ import annotations

import signal

import pytest

from leanmq_topology.runner.supervisor.members import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Backoff,
    describe_status,
)


def test_a_process_that_dies_at_once_again_and_again_is_started_ever_later_up_to_a_limit():
    backoff = Backoff()
    pauses = [backoff.pause_after(0.1, settled=0) for _ in range(10)]
    assert pauses[0] == FIRST_PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize(("lived", "settled"), [(0.1, 1), (60.0, 0)])
def test_one_that_did_something_or_lived_for_a_while_is_replaced_at_once(lived: float, settled: int):
    backoff = Backoff()
    for _ in range(10):
        backoff.pause_after(0.1, settled=0)
    assert backoff.pause_after(lived, settled) == FIRST_PAUSE_SECONDS
    assert backoff.pause_after(0.1, settled=0) == FIRST_PAUSE_SECONDS


def test_a_death_is_told_by_the_name_of_its_signal_or_its_exit_code():
    assert describe_status(-signal.SIGSEGV) == "SIGSEGV"
    assert describe_status(7) == "exit code 7"
    assert describe_status(-250) == "signal 250"
