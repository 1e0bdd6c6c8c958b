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


def test_what_only_waits_for_its_acknowledgement_makes_room_up_to_twice_the_limit():
    prefetch = Prefetch(10)
    assert prefetch.room(in_hand=4, held=4) == 6
    assert prefetch.room(in_hand=4, held=14) == 6
    assert prefetch.room(in_hand=4, held=18) == 2
    assert prefetch.room(in_hand=0, held=20) == 0
    assert prefetch.room(in_hand=20, held=20) == 0


def test_a_set_prefetch_caps_everything_unacknowledged():
    prefetch = Prefetch(4, 16)
    assert prefetch.room(in_hand=0, held=10) == 6
    assert prefetch.room(in_hand=0, held=20) == 0


@given(st.integers(1, 1024), st.lists(st.floats(0, 1000), min_size=1, max_size=20), st.data())
def test_a_call_that_need_not_be_measured_would_not_change_the_limit(
    at_once: int, measured: list[float], data: st.DataObject
):
    prefetch = Prefetch(at_once)
    for seconds in measured:
        prefetch.measure(seconds)
    before = prefetch.limit
    if prefetch.ordinary_seconds >= 0:
        prefetch.measure(data.draw(st.floats(0, prefetch.ordinary_seconds)))
        assert prefetch.limit == before


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
