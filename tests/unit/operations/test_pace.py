"""How fast dead letters are handled."""

from __future__ import annotations

import pytest

from leanmq_topology.operations.dead_letters import ENTRIES_A_STEP, Pace


class Time:
    """A clock that only moves when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("rate", [1, 3, 10, 250, 5000])
def test_no_second_sees_more_than_the_rate_and_a_step(rate: int):
    time = Time()
    pace = Pace(rate, sleep=time.sleep, clock=time)
    starts = []
    for _ in range(40):
        pace.wait(pace.step_size)
        starts.append(time.now)
    for start in starts:
        within = [moment for moment in starts if start <= moment < start + 1]
        assert len(within) * pace.step_size <= rate + pace.step_size
    assert starts[-1] - starts[0] == pytest.approx(39 * pace.step_size / rate)


def test_time_that_a_step_takes_is_not_waited_for_again():
    time = Time()
    pace = Pace(100, sleep=time.sleep, clock=time)
    for _ in range(10):
        pace.wait(25)
        time.now += 0.2
    assert time.now - 100 == pytest.approx(9 * 0.25 + 0.2)


def test_without_a_rate_nothing_waits():
    def fail(seconds: float) -> None:
        raise AssertionError("slept")

    pace = Pace(sleep=fail)
    assert pace.step_size == ENTRIES_A_STEP
    pace.wait(10)
    pace.wait(10)
