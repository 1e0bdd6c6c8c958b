"""What a worker does while an operator pauses, resumes and purges the queue it handles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leanmq_topology import Message
from leanmq_topology.brokers.protocol import Purge
from leanmq_topology.operations.queues import (
    find_purge,
    pause_queues,
    purge_queue,
    resume_queues,
    undo_purge,
)
from leanmq_topology.operations.status import Status, read_status
from tests.support.servers import Server
from tests.support.workers import (
    PATIENCE_SECONDS,
    Place,
    Running,
    happens,
    load,
    make_topology,
    work_queue,
    working,
)


@pytest.fixture
def place(server: Server, namespace: str, tmp_path: Path) -> Place:
    place = Place(server, make_topology(namespace, tmp_path, work_queue()))
    place.apply()
    return place


def pause(place: Place) -> None:
    with place.link() as link:
        pause_queues(link, ["work"])


def resume(place: Place) -> None:
    with place.link() as link:
        resume_queues(link, ["work"])


def purge(place: Place) -> Purge:
    with place.link() as link:
        return purge_queue(link, "work")


def undo(place: Place) -> int:
    with place.link() as link:
        return sum(step.restored for step in undo_purge(link, find_purge(link, "work")))


def status(place: Place) -> Status:
    with place.link() as link:
        return read_status(link, place.topology.broker.namespace)


async def until(holds: Callable[[], bool]) -> float:
    """Wait for something in this process or on the server; returns how long it took, in seconds."""
    since = time.monotonic()
    while not holds():
        assert time.monotonic() - since < PATIENCE_SECONDS
        await asyncio.sleep(0.01)  # neither gives a signal
    return time.monotonic() - since


def reads(running: Running) -> bool:
    return running.worker._lanes["work"].readable


async def test_a_paused_queue_is_read_no_more_within_a_second_and_every_worker_confirms_it(place: Place):
    got: list[int] = []

    async def handler(data: dict[str, int]) -> None:
        got.append(data["n"])

    async with working(place, load(handler)) as one, working(place, load(handler)) as two:
        pause(place)
        assert await until(lambda: not reads(one) and not reads(two)) < 1.5  # a second, and a busy machine
        await until(lambda: len(status(place).workers_that_paused("work")) == 2)
        assert len(status(place).workers_of("work")) == 2
        await place.send(1, 2, 3)
        state = place.state()
        assert (state.ready, state.in_flight, got) == (3, 0, [])
        resume(place)
        await place.until_settled()
        await until(lambda: not status(place).workers_that_paused("work"))
    assert sorted(got) == [1, 2, 3]


async def test_what_runs_ends_and_what_was_only_read_is_handed_back_without_counting(place: Place):
    attempts: list[tuple[int, int]] = []
    started, let_go = asyncio.Event(), asyncio.Event()

    async def handler(message: Message) -> None:
        attempts.append((message.data["n"], message.attempt))
        started.set()
        await let_go.wait()

    await place.send(1, 2, 3)
    async with working(place, load(handler, concurrency=1, prefetch=3)) as running:
        await happens(started)
        await place.until(lambda state: state.in_flight == 3)
        pause(place)
        await until(lambda: not reads(running))
        let_go.set()
        await place.until(lambda state: state.counters is not None and state.counters["acked"] == 1)
        await until(lambda: not running.worker._lanes["work"].held)
        assert attempts == [(1, 1)]
        resume(place)
        await place.until_settled()
    assert sorted(attempts) == [(1, 1), (2, 1), (3, 1)]


async def test_a_worker_that_starts_while_its_queue_is_paused_waits_for_the_resume(place: Place):
    handled = asyncio.Event()

    async def handler(data: dict[str, int]) -> None:
        handled.set()

    pause(place)
    async with working(place, load(handler)) as running:
        await until(lambda: not reads(running))
        await place.send(1)
        assert place.state().ready == 1
        resume(place)
        await happens(handled)


async def test_a_worker_lives_through_a_purge_and_goes_on(place: Place):
    got: list[int] = []

    async def handler(data: dict[str, int]) -> None:
        got.append(data["n"])

    async with working(place, load(handler)):
        await place.send(1, delay=3600)
        assert purge(place).delayed == 1
        await place.send(2)
        await until(lambda: got == [2])
        assert undo(place) == 1
        state = await place.until(lambda state: state.delayed == 1)
    assert state.counters is not None
    assert (state.counters["purged"], got) == (1, [2])


async def test_work_that_ends_after_a_purge_is_not_run_again_when_the_purge_is_undone(place: Place):
    runs: list[int] = []
    started, let_go = asyncio.Event(), asyncio.Event()

    async def handler(data: dict[str, int]) -> None:
        runs.append(data["n"])
        started.set()
        await let_go.wait()

    await place.send(1, 2)
    async with working(place, load(handler, concurrency=1, prefetch=1)) as running:
        await happens(started)
        pause(place)
        await until(lambda: not reads(running))
        assert purge(place).messages == 2
        let_go.set()
        await until(lambda: not running.worker._lanes["work"].held)
        assert undo(place) == 1
        resume(place)
        await place.until_settled()
    assert runs == [1, 2]
