"""A client that consumes and has nothing to do looks every five seconds; it is told of what is due sooner."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from leanmq_topology import connect_sync
from leanmq_topology.client.consuming.housekeeper import Housekeeper
from leanmq_topology.topology.model import HOUR_MS, Queue
from tests.brokers.test_consume import PATIENCE, Place
from tests.support.consumers import COLOURS, Consumer
from tests.support.factories import run
from tests.support.processes import wait_until
from tests.support.servers import Server

FOREVER_SECONDS = 600.0
DELAY_SECONDS = 0.4
WORK = Queue(name="work", visibility_timeout_ms=HOUR_MS)
"""No lease has to be renewed meanwhile."""


@pytest.fixture(autouse=True)
def sound_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is not told sleeps past the end of its test, unless it has something in hand."""
    monkeypatch.setattr("leanmq_topology.upkeep.watch.REST_SECONDS", FOREVER_SECONDS)


@pytest.fixture(params=COLOURS)
def place(request: pytest.FixtureRequest, server: Server, namespace: str) -> Iterator[Place]:
    with ExitStack() as stack:
        place = Place(server, namespace, request.param, stack)
        place.apply(WORK)
        yield place


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long housekeepers meant to rest, each time."""
    found: list[float] = []
    sleep: Callable[[Housekeeper, float], None] = Housekeeper._sleep

    def note(keeper: Housekeeper, seconds: float) -> None:
        found.append(seconds)
        sleep(keeper, seconds)

    monkeypatch.setattr(Housekeeper, "_sleep", note)
    return found


def until_asleep(rests: list[float]) -> None:
    """It rests for longer than a tick, which is a quarter of a second."""
    rests.clear()
    wait_until(lambda: any(rest > 1 for rest in rests), "a long rest")


def fall_asleep(mq: Consumer, rests: list[float]) -> None:
    assert mq.receive(wait=0) == []
    until_asleep(rests)


def test_a_sleeping_client_gets_what_is_delayed_for_less_than_it_sleeps(place: Place, rests: list[float]):
    mq = place.client()
    fall_asleep(mq, rests)
    place.send(1, delay=DELAY_SECONDS)
    assert mq.one(wait=PATIENCE).data == {"n": 1}


def test_a_client_whose_bell_is_cut_off_looks_by_itself_until_it_rings_again(
    place: Place, rests: list[float]
):
    mq = place.client()
    fall_asleep(mq, rests)
    rests.clear()
    run(place.admin, "CLIENT", "KILL", "TYPE", "pubsub")
    place.send(1, delay=DELAY_SECONDS)
    got = mq.one(wait=PATIENCE)
    mq.call(got.ack())
    until_asleep(rests)


def test_a_client_that_took_a_message_looks_every_tick_until_it_is_settled(place: Place, rests: list[float]):
    mq = place.client()
    fall_asleep(mq, rests)
    rests.clear()
    place.send(1)
    got = mq.one(wait=PATIENCE)
    wait_until(lambda: len(rests) > 4 and max(rests[-3:]) <= 0.25, "short rests")
    mq.call(got.ack())
    until_asleep(rests)


def test_closing_a_sleeping_client_leaves_no_thread_behind(
    server: Server, namespace: str, rests: list[float]
):
    with ExitStack() as stack:
        place = Place(server, namespace, "blocking", stack)
        place.apply(WORK)
        before = set(threading.enumerate())
        with connect_sync(place.topology, url=server.url) as mq:
            assert mq.receive("work") == []
            until_asleep(rests)
            names: set[Any] = {thread.name for thread in set(threading.enumerate()) - before}
            assert names == {"leanmq-housekeeper", "leanmq-due-bell"}
        wait_until(lambda: set(threading.enumerate()) <= before, "the end of its threads")


def test_a_sleeping_client_obeys_a_pause_and_its_end(
    place: Place, rests: list[float], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "leanmq.client")
    mq = place.client()
    fall_asleep(mq, rests)
    for operation, event in ((place.broker.pause, "paused"), (place.broker.resume, "resumed")):
        place.admin.execute(operation(["work"]))
        wait_until(lambda event=event: event in events_of(caplog), event)
        wait_until(lambda: rests[-1] > 1, "a long rest")


def events_of(log: pytest.LogCaptureFixture) -> set[str]:
    return {getattr(record, "event", "") for record in log.records}
