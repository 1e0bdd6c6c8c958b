"""Handlers that block, hold Python's lock, or never end; nothing is lost, and who did it is said."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import Message
from tests.faults.catalogue import Figures
from tests.support.servers import Server
from tests.support.workers import Place, load, make_topology, work_queue, working


def make_place(server: Server, namespace: str, folder: Path, lease_s: float = 30, **limits: Any) -> Place:
    queue = work_queue(visibility_timeout_ms=int(lease_s * 1000), **limits)
    place = Place(server, make_topology(namespace, folder, queue))
    place.apply()
    return place


def hold(seconds: float) -> None:
    """Keep Python's lock for about so long of work: in C, without a chance for anybody else."""
    started = time.monotonic()
    sum(range(2_000_000))
    once = time.monotonic() - started
    sum(range(int(2_000_000 * seconds / once)))


class Rival:
    """Another worker, in a thread and loop of its own, that would take whatever lapses."""

    def __init__(self, place: Place) -> None:
        self.runs = 0
        self.ready = threading.Event()
        self._place, self._over = place, threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))

    async def _work(self) -> None:
        async def handler(data: Any) -> None:
            self.runs += 1

        async with working(self._place, load(handler)):
            self.ready.set()
            await asyncio.to_thread(self._over.wait)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._over.set()
        await asyncio.to_thread(self._thread.join)


async def test_a_handler_that_blocks_the_loop_for_two_leases_keeps_its_own_and_is_named(
    valkey: Server, namespace: str, tmp_path: Path, figures: Figures, caplog: pytest.LogCaptureFixture
):
    lease_s = 2.0
    place, runs = make_place(valkey, namespace, tmp_path, lease_s), []
    rival = Rival(place)

    async def blocks(data: Any) -> None:
        runs.append(time.monotonic())
        rival.start()
        assert rival.ready.wait(60)
        time.sleep(2 * lease_s + 0.2)  # the fault itself

    async with working(place, load(blocks)):
        await place.send(1)
        state = await place.until_settled()
    await rival.stop()
    assert state.counters is not None
    warned = "handler on-work with number" in caplog.text and "blocked the event loop" in caplog.text
    twice = len(runs) - 1 + rival.runs
    figures.report(
        "F6",
        blocked_s=2 * lease_s + 0.2,
        run_twice=twice,
        lost=1 - state.counters["acked"],
        named=str(warned),
    )
    assert (twice, state.counters["acked"], warned) == (0, 1, True)


async def test_a_handler_that_holds_the_lock_for_two_leases_loses_nothing_and_is_reported(
    valkey: Server, namespace: str, tmp_path: Path, figures: Figures, caplog: pytest.LogCaptureFixture
):
    lease_s = 0.7
    place, runs = make_place(valkey, namespace, tmp_path, lease_s), []

    async def holds(data: Any) -> None:
        runs.append(data)
        deadline = time.monotonic() + 60
        while "Python's lock" not in caplog.text and time.monotonic() < deadline:
            hold(2 * lease_s + 0.5)
            time.sleep(0.2)  # lets the watch look

    async with working(place, load(holds, concurrency=1)):
        await place.send(1)
        state = await place.until_settled()
    assert state.counters is not None
    reported = "held Python's lock" in caplog.text
    figures.report("F7", runs=len(runs), lost=1 - state.counters["acked"], reported=str(reported))
    assert (state.counters["acked"], state.dead, reported) == (1, 0, True)


@pytest.mark.parametrize("limit_ms", [200])
async def test_a_handler_that_never_ends_is_ended_by_its_timeout_and_dead_lettered_at_last(
    valkey: Server, namespace: str, tmp_path: Path, figures: Figures, limit_ms: int
):
    place, runs = make_place(valkey, namespace, tmp_path, max_deliveries=3), []

    async def hangs(message: Message) -> None:
        runs.append(message.attempt)
        await asyncio.Event().wait()

    async with working(place, load(hangs, timeout_ms=limit_ms)):
        started = time.monotonic()
        await place.send(1)
        await place.until(lambda state: state.dead == 1)
        took = time.monotonic() - started
    [dead] = place.dead_letters()
    figures.report("F8", limit_s=limit_ms / 1000, runs=len(runs), dead_lettered_within_s=took)
    assert (runs, dead.failure.type) == ([1, 2, 3], "TimeoutError")
    assert took >= 3 * limit_ms / 1000
