"""What idle queues and short-lived workers cost a server, and how soon a lost lease is taken over."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leanmq_topology import Message
from leanmq_topology.brokers.redis.calls import load_script
from leanmq_topology.runner.worker import Worker
from leanmq_topology.topology.model import Queue
from tests.support.chaos_proxy import ChaosProxy
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, QUICK, Place, load, make_topology, work_queue, working

MEASURED_SECONDS = 4.0
QUEUES = 50
NOISE_SECONDS = 8
"""What other tests on the same cores may add to a bound."""


async def no_work(data: Any) -> None: ...


def place_of(server: Server, namespace: str, folder: Path, *queues: Queue) -> Place:
    place = Place(server, make_topology(namespace, folder, *queues))
    place.apply()
    return place


def count_calls(place: Place) -> Counter[str]:
    """Commands that the server has carried out, those inside scripts too."""
    lines = place.command("INFO", "commandstats").decode().splitlines()
    found = (line.removeprefix("cmdstat_").partition(":calls=") for line in lines if ":calls=" in line)
    return Counter({name: int(rest.partition(",")[0]) for name, _, rest in found})


async def test_an_idle_worker_with_fifty_queues_costs_next_to_nothing(
    server: Server, namespace: str, tmp_path: Path
):
    """Twice around at most, for 50 queues: bounds with room for a busy machine."""
    names = [f"q{number:02d}" for number in range(QUEUES)]
    place = place_of(server, namespace, tmp_path, *(Queue(name=name) for name in names))
    async with working(place, *(load(no_work, name) for name in names)):
        await until_quiet(place)
        before, used, since = count_calls(place), time.process_time(), time.monotonic()
        await asyncio.sleep(MEASURED_SECONDS)
        used = time.process_time() - used
        calls, seconds = count_calls(place) - before, time.monotonic() - since
    assert calls["evalsha"] <= 4 + seconds, calls
    assert calls["xreadgroup"] <= 1 + seconds / 2
    assert calls.total() <= 250 * seconds, calls
    assert used <= 0.02 * seconds


async def until_quiet(place: Place) -> None:
    """The worker is past what it does once, at its start: half a second went by with hardly a script."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        calls = count_calls(place)
        while True:
            await asyncio.sleep(0.5)
            before, calls = calls, count_calls(place)
            if (calls - before)["evalsha"] <= 5:
                return


async def test_a_queue_without_messages_is_never_searched_for_lapsed_leases(
    server: Server, namespace: str, tmp_path: Path
):
    place = place_of(server, namespace, tmp_path, work_queue(visibility_timeout_ms=1000))
    async with working(place, load(no_work)):
        before = count_calls(place)
        await asyncio.sleep(1.5)  # several scans, if there were any
        assert (count_calls(place) - before)["xautoclaim"] == 0


@pytest.mark.parametrize("lease_ms", [1000, 2000])
async def test_what_a_dead_worker_held_is_run_within_the_bound(
    server: Server, namespace: str, tmp_path: Path, lease_ms: int
):
    """Lease, a scan (a quarter of it, and a fifth), and one sweep; never before the lease is over.

    With room for a busy machine: how often a worker scans is tested with a clock of its own, and how long
    this takes stands in the report of the faults.
    """
    place = place_of(server, namespace, tmp_path, work_queue(visibility_timeout_ms=lease_ms))
    ran: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def handler(data: Any) -> None:
        ran.set_result(time.monotonic())

    await place.send(1)
    died = time.monotonic()
    place.command("XREADGROUP", "GROUP", "g", "dead", "STREAMS", place.key("q", "work"), ">")
    async with working(place, load(handler)), asyncio.timeout(PATIENCE_SECONDS):
        took = await ran - died
    assert lease_ms / 1000 <= took <= lease_ms / 1000 * 1.3 + 1 + NOISE_SECONDS


async def test_what_was_handed_back_is_taken_over_without_waiting_for_a_scan(
    server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leanmq_topology.upkeep.scan.LONGEST_SCAN_SECONDS", 600)
    place = place_of(server, namespace, tmp_path, work_queue(visibility_timeout_ms=3_600_000))
    attempt: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def handler(message: Message) -> None:
        attempt.set_result(message.attempt)

    with place.link() as link:
        carry, broker = link.connection.execute, link.broker
        carry(broker.pause(["work"]))
        async with working(place, load(handler)):
            await place.send(1)
            held = carry(broker.fetch(["work"], "leaving", count=1, block_ms=0))
            carry(broker.release("work", "leaving", held))
            carry(broker.resume(["work"]))
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await attempt == 1


async def test_what_came_in_the_lost_answer_to_a_search_is_run_at_once_and_uncounted(
    server: Server, namespace: str, tmp_path: Path
):
    """The search runs on a connection of its own: the one that reads may know nothing of the break."""
    place = place_of(server, namespace, tmp_path, work_queue(visibility_timeout_ms=3_600_000))
    attempts: asyncio.Queue[int] = asyncio.Queue()

    async def handler(message: Message) -> None:
        attempts.put_nowait(message.attempt)

    with ChaosProxy(server.socket_path) as proxy, place.link() as link:
        there = Place(cast(Server, SimpleNamespace(url=proxy.url)), place.topology)
        carry, broker = link.connection.execute, link.broker
        claim = broker.claim(place.topology.queues["work"], "me", cursor="0-0", count=1)
        carry(claim)  # the server knows the script from now on
        carry(broker.pause(["work"]))
        async with working(there, load(handler)):
            await place.send(1, 2)
            held = carry(broker.fetch(["work"], "leaving", count=2, block_ms=0))
            carry(broker.release("work", "leaving", held))
            proxy.lose_answers(1, to=load_script("claim").sha.encode())
            carry(broker.resume(["work"]))
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert [await attempts.get() for _ in range(2)] == [1, 1]
        assert proxy.lost == 1
        assert attempts.empty()


async def test_no_more_is_taken_over_before_what_came_in_a_lost_answer_is_found(
    server: Server, namespace: str, tmp_path: Path
):
    """A set `prefetch` is a hard cap, and who runs suspects has one message in hand."""
    place = place_of(server, namespace, tmp_path, work_queue(visibility_timeout_ms=3_600_000))
    gate = asyncio.Event()

    async def handler(data: Any) -> None:
        await gate.wait()

    with ChaosProxy(server.socket_path) as proxy, place.link() as link:
        there = Place(cast(Server, SimpleNamespace(url=proxy.url)), place.topology)
        carry, broker = link.connection.execute, link.broker
        carry(broker.claim(place.topology.queues["work"], "me", cursor="0-0", count=1))
        carry(broker.fetch_own("work", "me", cursor="0-0", known=[]))
        carry(broker.pause(["work"]))
        async with working(there, load(handler, concurrency=1, prefetch=1)) as running:
            await place.send(1, 2)
            held = carry(broker.fetch(["work"], "leaving", count=2, block_ms=0))
            carry(broker.release("work", "leaving", held))
            proxy.lose_answers(1, to=load_script("claim").sha.encode())
            carry(broker.resume(["work"]))
            found = note_recovery(running.worker)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not proxy.lost:
                    await asyncio.sleep(0)
                proxy.lose_answers(3, to=load_script("fetch_own").sha.encode())
                await found.wait()
            [lane] = running.worker._lanes.values()
            assert len(lane.held) == 1
            gate.set()
            await place.until_settled("work")


def note_recovery(worker: Worker) -> asyncio.Event:
    """Set once all that was lost has been looked for."""
    reader, found = worker._reader, asyncio.Event()
    assert reader is not None
    recover = reader._recover

    async def note() -> None:
        await recover()
        found.set()

    reader._recover = note  # type: ignore[method-assign]
    return found


async def test_workers_that_come_and_go_leave_no_names_behind(server: Server, namespace: str, tmp_path: Path):
    place = place_of(server, namespace, tmp_path, work_queue())
    for number in range(10):
        async with working(place, load(no_work)):
            await place.send(number)
            await place.until_settled()
    assert place.state().consumers == 0


async def test_names_of_killed_workers_are_forgotten(
    server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A thousand of them; here five minutes are a moment, and turns come round faster."""
    monkeypatch.setattr("leanmq_topology.upkeep.checkup.ASK_SECONDS", 0.2)
    monkeypatch.setattr("leanmq_topology.upkeep.checkup.GOOD_FOR_SECONDS", 0.2)
    monkeypatch.setattr("leanmq_topology.upkeep.checkup.FORGOTTEN_SECONDS", 0.05)
    place = place_of(server, namespace, tmp_path, work_queue(retry=QUICK))
    with place.link() as link:
        for _ in range(1000):
            name = os.urandom(6).hex()
            link.connection.execute(link.broker.heartbeat(name, {"pid": "1"}, lifetime_ms=1, queues=["work"]))
    assert place.state().consumers == 1000
    async with working(place, load(no_work)):
        await place.until(lambda state: state.consumers <= 1)
