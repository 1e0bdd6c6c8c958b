"""Waits grow, stay below their cap, and are spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from leanmq_topology.messages.backoff import backoff_ms
from leanmq_topology.topology.model import Backoff, Jitter, Retry

PLAIN = Retry(delay_ms=100, max_delay_ms=1000, jitter=Jitter.NONE)


@pytest.mark.parametrize(
    ("attempt", "wait_ms"), [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (900, 1000)]
)
def test_exponential_waits_double_up_to_the_cap(attempt: int, wait_ms: int):
    assert backoff_ms(PLAIN, attempt, 0.5) == wait_ms


def test_fixed_waits_stay_the_same():
    fixed = Retry(backoff=Backoff.FIXED, delay_ms=250, jitter=Jitter.NONE)
    assert {backoff_ms(fixed, attempt, 0.9) for attempt in range(1, 9)} == {250}


def test_steps_are_used_as_written_and_the_last_one_stays():
    steps = Retry(steps_ms=(10, 60, 600))
    assert [backoff_ms(steps, attempt, 0.1) for attempt in (1, 2, 3, 4, 50)] == [10, 60, 600, 600, 600]


@given(some.integers(1, 1000), some.floats(0, 1, exclude_max=True))
def test_full_jitter_spreads_a_wait_from_nothing_to_the_whole(attempt: int, chance: float):
    whole = backoff_ms(PLAIN, attempt, chance)
    spread = backoff_ms(Retry(delay_ms=100, max_delay_ms=1000, jitter=Jitter.FULL), attempt, chance)
    assert 0 <= spread <= whole
    assert spread == int(whole * chance)
