"""The clock of the server jumps by an hour under a worker, back and then forth."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leanmq_topology import Message
from tests.faults.catalogue import Figures
from tests.support.arena import NOISE_S
from tests.support.preloads import SkewedClock
from tests.support.servers import Server, require_binary
from tests.support.workers import PATIENCE_SECONDS, Place, load, make_topology, work_queue, working

HOUR_S = 3600
LEASE_S = 2.0
NOTICED_S = 0.5
"""A tick of upkeep or two."""


@dataclass
class SkewedServer:
    """A server whose clock can be set while it runs."""

    server: Server
    clock: SkewedClock


@pytest.fixture(params=["valkey9", "redis62"])
def skewed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SkewedServer]:
    binary, clock = require_binary(request.param), SkewedClock.make(tmp_path)
    running = Server(request.param, binary, environ=clock.environ).start()
    yield SkewedServer(running, clock)
    running.stop()


async def until_settled_in(place: Place) -> None:
    """The worker is past what it checks at its start: ticks went by since it marked its queue as checked."""
    key, ticks = f"{{{place.topology.broker.namespace}}}:upkeep", 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while ticks < 3:
            if place.command("HEXISTS", key, "checked:work"):
                before = count_scripts(place)
                while count_scripts(place) < before + 1:
                    await asyncio.sleep(0.01)
                ticks += 1
            await asyncio.sleep(0.01)  # a server has no way to signal


def count_scripts(place: Place) -> int:
    stats = place.command("INFO", "commandstats").decode()
    return int(stats.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])


async def test_a_clock_that_jumps_loses_nothing_and_delays_recovery_by_one_scan(
    skewed: SkewedServer, namespace: str, tmp_path: Path, figures: Figures, caplog: pytest.LogCaptureFixture
):
    queue = work_queue(visibility_timeout_ms=round(LEASE_S * 1000))
    place = Place(skewed.server, make_topology(namespace, tmp_path, queue))
    place.apply()
    ran: dict[int, tuple[int, float]] = {}
    came = asyncio.Event()

    async def handler(message: Message) -> None:
        ran[message.data["n"]] = (message.attempt, time.monotonic())
        came.set()

    async def until_run(number: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while number not in ran:
                came.clear()
                await came.wait()

    await place.send(1)
    place.command("XREADGROUP", "GROUP", "g", "dead", "STREAMS", place.key("q", "work"), ">")
    with caplog.at_level(logging.WARNING, logger="leanmq.runner"):
        async with working(place, load(handler)):
            await until_settled_in(place)
            skewed.clock.jump(-HOUR_S)
            jumped = time.monotonic()
            await until_run(1)
            recovery_s = ran[1][1] - jumped
            await place.send(2)
            await until_run(2)
            skewed.clock.jump(HOUR_S)
            await place.send(3)
            await until_run(3)
            state = await place.until_settled()
    events = [getattr(record, "event", "") for record in caplog.records]
    assert events.count("clock_went_back") == 1
    assert {number: attempt for number, (attempt, _) in ran.items()} == {1: 2, 2: 1, 3: 1}
    assert state.counters is not None
    figures.report(
        "F40", server=skewed.server.kind, sent=3, lost=3 - state.counters["acked"], recovery_s=recovery_s
    )
    assert state.counters["acked"] == 3
    assert recovery_s <= NOTICED_S + LEASE_S * 1.3 + 1 + NOISE_S
