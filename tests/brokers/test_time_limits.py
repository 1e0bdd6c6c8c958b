"""What takes longer than its handler's `timeout`, on real servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import Message
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.topology.model import Queue
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, load, make_topology, work_queue, working

Here = Callable[..., Place]


@pytest.fixture
def here(server: Server, namespace: str, tmp_path: Path) -> Here:
    """Applies these queues on the server of this run."""

    def apply(*queues: Queue) -> Place:
        place = Place(server, make_topology(namespace, tmp_path, *queues))
        place.apply()
        return place

    return apply


async def test_a_handler_that_hangs_for_ever_is_ended_retried_and_dead_lettered(here: Here):
    place = here(work_queue(max_deliveries=3))
    runs: list[int] = []

    async def hangs(message: Message) -> None:
        runs.append(message.attempt)
        await asyncio.Event().wait()

    await place.send(1)
    async with working(place, load(hangs, timeout_ms=50)) as running:
        await place.until(lambda state: state.dead == 1)
        assert not running.task.done()
        ended = await running.stop()
    [dead] = place.dead_letters()
    assert (dead.reason, dead.failure.type) == (DeadReason.FAILED, "TimeoutError")
    assert "longer than its timeout of 50ms" in dead.failure.message
    assert runs == [1, 2, 3]
    assert (ended.clean, ended.tainted) == (True, None)


async def test_others_go_on_while_one_runs_into_its_limit(here: Here):
    place, quick = here(work_queue(max_deliveries=1)), []

    async def handler(data: dict[str, int]) -> None:
        if data["n"] == 0:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        quick.append(data["n"])

    await place.send(*range(50))
    async with working(place, load(handler, timeout_ms=200)):
        state = await place.until(lambda state: state.dead == 1 and not state.ready)
        state = await place.until_settled()
    assert sorted(quick) == list(range(1, 50))
    assert state.counters is not None
    assert state.counters["acked"] == 49


async def test_a_thread_that_hangs_is_given_up_and_its_worker_stops_to_be_replaced(
    here: Here, caplog: pytest.LogCaptureFixture
):
    place, release = here(work_queue()), threading.Event()
    attempts: list[int] = []

    def hangs(message: Message) -> None:
        release.wait(PATIENCE_SECONDS)

    await place.send(1, 2, 3)
    async with working(place, load(hangs, concurrency=1, timeout_ms=100)) as running:
        async with asyncio.timeout(PATIENCE_SECONDS):
            ended = await running.task
    assert ended.clean
    assert ended.tainted is not None
    assert "on-work" in ended.tainted
    assert "to be replaced" in caplog.text

    async def note(message: Message) -> None:
        attempts.append(message.attempt)

    async with working(place, load(note)):  # the fresh process
        state = await place.until_settled()
    release.set()
    assert sorted(attempts) == [1, 1, 2]  # one run had failed; the two that never started do not count
    assert state.counters is not None
    assert state.counters["retried"] == 1


async def test_what_a_thread_returns_after_its_limit_is_ignored(here: Here):
    place, release = here(work_queue(max_deliveries=1)), threading.Event()
    returned = threading.Event()

    def late(data: Any) -> None:
        release.wait(PATIENCE_SECONDS)
        returned.set()

    await place.send(1)
    async with working(place, load(late, timeout_ms=100)) as running:
        await place.until(lambda state: state.dead == 1)
        release.set()
        assert await asyncio.to_thread(returned.wait, PATIENCE_SECONDS)
        await running.task
    state = place.state()
    assert state.counters is not None
    assert (state.dead, state.counters["acked"]) == (1, 0)


async def test_a_thread_that_ends_in_time_is_no_reason_to_stop(here: Here):
    place = here(work_queue())

    def handler(data: dict[str, int]) -> None:
        time.sleep(0.001)

    await place.send(*range(100))
    async with working(place, load(handler, timeout_ms=60_000, concurrency=2)) as running:
        await place.until_settled()
        assert (await running.stop()).tainted is None
