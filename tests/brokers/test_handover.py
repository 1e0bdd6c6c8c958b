"""What waits in one worker while another has nothing to do is run by the other."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import Message
from leanmq_topology.brokers.protocol import Part
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, happens, load, make_topology, work_queue, working

IDLE = {"queues": "work", "reading": "work", "held": "0", "lifetime_ms": "600000"}
"""What a worker says of itself to which messages are left."""


@pytest.fixture
def place(server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("leanmq_topology.runner.handover.WAITED_SECONDS", 0.2)
    monkeypatch.setattr("leanmq_topology.runner.upkeep.HEARTBEAT_SECONDS", 0.2)
    found = Place(server, make_topology(namespace, tmp_path, work_queue()))
    found.apply()
    return found


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_messages_behind_a_slow_one_are_left_to_an_idle_worker(place: Place, asynchronous: bool):
    started, release = asyncio.Event(), threading.Event()
    loop, slow = asyncio.get_running_loop(), []
    elsewhere: dict[int, int] = {}

    def in_a_thread(message: Message) -> None:
        slow.append(message.data["n"])
        loop.call_soon_threadsafe(started.set)
        assert release.wait(PATIENCE_SECONDS)

    async def in_the_loop(message: Message) -> None:
        await asyncio.to_thread(in_a_thread, message)

    async def quick(message: Message) -> None:
        elsewhere[message.data["n"]] = message.attempt

    await place.send(*range(10))
    handler = load(in_the_loop if asynchronous else in_a_thread, concurrency=1, prefetch=10)
    async with working(place, handler):
        await happens(started)
        await place.until(lambda state: state.in_flight == 10)
        async with working(place, load(quick)):
            await place.until(lambda state: state.in_flight == 1)
            release.set()
            await place.until_settled()
    assert slow == [0]
    assert elsewhere == dict.fromkeys(range(1, 10), 1), "handed over uncounted"


@pytest.mark.parametrize(
    "facts",
    [{"reading": ""}, {"reading": "other,workshop"}, {"held": "1"}, {"lifetime_ms": "1300000"}],
    ids=["reads nothing", "reads other queues", "has something in hand", "was not heard of lately"],
)
async def test_messages_wait_where_they_are_while_nobody_would_take_them(place: Place, facts: dict[str, str]):
    with place.link() as link:
        beat = link.broker.heartbeat("somebody", {**IDLE, **facts}, lifetime_ms=600_000, queues=["work"])
        link.connection.execute(beat)
    await expect_no_hand_over(place)


async def test_messages_wait_where_they_are_beside_a_process_for_suspects(place: Place):
    async with working(place, load(lambda message: None), part=Part.SUSPECT):
        await expect_no_hand_over(place)


async def test_a_client_is_left_messages_while_somebody_waits_for_them_and_not_before(place: Place):
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        started.set()
        await release.wait()

    await place.send(*range(10))
    async with working(place, load(slow, concurrency=1, prefetch=10)) as only, place.client() as mq:
        await happens(started)
        await place.until(lambda state: state.in_flight == 10)
        early = await mq.receive("work", wait=0)
        await is_listed(place, mq._consumer._name)
        handed_back = await count_releases(place, only.worker.name, seconds=1.0)
        found = await mq.receive("work", count=9, wait=PATIENCE_SECONDS)
        await mq.ack(found)
        release.set()
        await place.until_settled()
    assert (early, handed_back) == ([], 0)
    assert [message.attempt for message in found] == [1] * len(found) != []


async def test_a_worker_that_drains_says_at_once_that_nothing_is_to_be_left_to_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leanmq_topology.runner.upkeep.HEARTBEAT_SECONDS", 600.0)  # none by the clock
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        started.set()
        await release.wait()

    async with working(place, load(slow, concurrency=2)) as only:
        await is_listed(place, only.worker.name)
        assert facts_of(place, only.worker.name)["reading"] == "work"
        await place.send(1)
        await happens(started)
        stopping = asyncio.create_task(only.stop())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while facts_of(place, only.worker.name)["reading"]:
                await asyncio.sleep(0.01)  # nothing signals a heartbeat
        assert not stopping.done()
        release.set()
        assert (await stopping).clean


def facts_of(place: Place, name: str) -> dict[str, str]:
    with place.link() as link:
        [state] = link.connection.execute(link.broker.inspect_workers([name]))
    return dict(state.facts)


async def is_listed(place: Place, name: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with place.link() as link:
                if link.connection.execute(link.broker.inspect_workers([name])):
                    return
            await asyncio.sleep(0.01)  # nothing signals a heartbeat


async def test_messages_wait_where_they_are_while_nobody_is_idle(place: Place):
    await expect_no_hand_over(place)


async def test_a_worker_that_says_it_is_idle_is_left_messages_though_it_takes_none(place: Place):
    """What the tests above would see if their condition were gone."""
    with place.link() as link:
        link.connection.execute(link.broker.heartbeat("somebody", IDLE, lifetime_ms=600_000, queues=["work"]))
    with pytest.raises(AssertionError):
        await expect_no_hand_over(place)


async def expect_no_hand_over(place: Place) -> None:
    started, release = asyncio.Event(), asyncio.Event()
    attempts: list[int] = []

    async def slow(message: Message) -> None:
        attempts.append(message.attempt)
        started.set()
        await release.wait()

    await place.send(*range(10))
    async with working(place, load(slow, concurrency=1, prefetch=10)) as only:
        await happens(started)
        handed_back = await count_releases(place, only.worker.name, seconds=1.0)
        release.set()
        await place.until_settled()
    assert handed_back == 0
    assert attempts == [1] * 10


async def count_releases(place: Place, consumer: str, *, seconds: float) -> int:
    """How many of ten messages are not held by their worker any more, at any time within `seconds`."""
    most, ends = 0, asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        held: list[Any] = place.command("XPENDING", place.key("q", "work"), "g", "-", "+", 100, consumer)
        most = max(most, 10 - len(held))
        await asyncio.sleep(0.02)  # the length of the measurement
    return most
