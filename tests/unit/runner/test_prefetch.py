from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leanmq_topology.runner.prefetch import LARGEST, Prefetch
from leanmq_topology.topology.model import Batch, Handler


def test_it_starts_at_concurrency():
    assert Prefetch(7).limit == 7


def test_a_fast_handler_gets_the_most():
    prefetch = Prefetch(4)
    prefetch.measure(0.000_01)
    assert prefetch.limit == LARGEST


def test_about_a_tenth_of_a_second_of_work_is_held():
    prefetch = Prefetch(10)
    prefetch.measure(0.01)
    assert prefetch.limit == 100


def test_a_slow_handler_holds_no_more_than_it_runs():
    prefetch = Prefetch(4)
    prefetch.measure(0.000_01)
    for _ in range(50):
        prefetch.measure(2.0)
    assert prefetch.limit == 4


def test_a_set_prefetch_never_moves():
    prefetch = Prefetch(4, 16)
    prefetch.measure(0.000_01)
    assert prefetch.limit == 16


@given(st.integers(1, 1024), st.lists(st.floats(0, 1000)))
def test_it_stays_between_concurrency_and_the_most(concurrency: int, seconds: list[float]):
    prefetch = Prefetch(concurrency)
    for measured in seconds:
        prefetch.measure(measured)
        assert concurrency <= prefetch.limit <= max(concurrency, LARGEST)


@given(st.integers(1, 8), st.integers(1, 1000), st.lists(st.floats(0, 1000)))
def test_a_batch_handler_can_always_fill_one_batch_more_than_it_runs(
    concurrency: int, size: int, seconds: list[float]
):
    handler = Handler(name="h", queue="q", call="m:f", concurrency=concurrency, batch=Batch(size=size))
    prefetch = Prefetch.of(handler)
    for measured in seconds:
        prefetch.measure(measured)
        assert prefetch.limit >= (concurrency + 1) * size
