"""A worker with nothing to do looks every five seconds, and is told of what is due before that."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import Message, Retry
from leanmq_topology.brokers.connect import AsyncLink, open_async
from leanmq_topology.topology.model import HOUR_MS, Topology
from leanmq_topology.upkeep.promotion import TICK_SECONDS
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, Running, load, make_topology, work_queue, working

FOREVER_SECONDS = 600
DELAY_SECONDS = 0.3
TAKE_UNSEEN = """
redis.call('XADD', KEYS[1], '*', unpack(ARGV))
return redis.call('XREADGROUP', 'GROUP', 'g', 'leaving', 'STREAMS', KEYS[1], '>')
"""


@pytest.fixture(autouse=True)
def sound_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is not told sleeps past the end of its test."""
    monkeypatch.setattr("leanmq_topology.upkeep.watch.REST_SECONDS", FOREVER_SECONDS)


@pytest.fixture
def place(server: Server, namespace: str, tmp_path: Path) -> Place:
    place = Place(server, make_topology(namespace, tmp_path, work_queue(visibility_timeout_ms=HOUR_MS)))
    place.apply()
    return place


async def until_asleep(running: Running) -> None:
    """It rests longer than a tick, which only who hears the bell does."""
    upkeep = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while upkeep is None or not upkeep._heard_all or upkeep._rest() < FOREVER_SECONDS - 1:
            await asyncio.sleep(0.05)  # sleeping gives no signal
            upkeep = running.worker._upkeep


async def until(ran: asyncio.Future[Any]) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await ran


async def test_a_sleeping_worker_runs_what_is_delayed_for_less_than_it_sleeps(place: Place):
    ran: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def handler(data: Any) -> None:
        ran.set_result(time.monotonic())

    async with working(place, load(handler)) as running:
        await until_asleep(running)
        before = time.monotonic()
        await place.send(1, delay=DELAY_SECONDS)
        assert await until(ran) - before >= DELAY_SECONDS


async def test_every_worker_is_told_and_a_retry_is_too(place: Place):
    runs: list[float] = []
    over = asyncio.Event()

    async def handler(message: Message) -> None:
        runs.append(time.monotonic())
        if message.attempt < 3:
            raise Retry(after=DELAY_SECONDS)
        over.set()

    async with working(place, load(handler)) as one, working(place, load(handler)) as other:
        await until_asleep(one)
        await until_asleep(other)
        await place.send(1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await over.wait()
    assert all(after - before >= DELAY_SECONDS for before, after in pairwise(runs))


async def test_a_worker_whose_bell_is_cut_off_looks_by_itself_until_it_rings_again(place: Place):
    ran: asyncio.Queue[int] = asyncio.Queue()

    async def handler(data: dict[str, int]) -> None:
        ran.put_nowait(data["n"])

    async with working(place, load(handler)) as running:
        await until_asleep(running)
        assert place.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        await place.send(1, delay=DELAY_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await ran.get() == 1
        await until_asleep(running)
        await place.send(2, delay=DELAY_SECONDS)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await ran.get() == 2


async def test_only_what_is_due_soonest_and_within_five_seconds_rings(place: Place):
    heard: asyncio.Queue[int] = asyncio.Queue()
    async with place.client() as mq, await open_link(place) as link:
        listener = link.open_listener(lambda one: heard.put_nowait(int(one.payload)))
        try:
            await listener.execute(link.broker.listen_for_upkeep())
            await mq.send("work", {"n": 1}, delay=3600)
            await mq.send("work", {"n": 2}, delay=4.8)
            await mq.send("work", {"n": 3}, delay=4.9)
            await mq.send("work", {"n": 4}, delay=0.1)
            await listener.execute(link.broker.check_line())
            first, second = heard.get_nowait(), heard.get_nowait()
        finally:
            await listener.close()
    assert first > second
    assert heard.empty()


async def test_a_worker_that_may_not_listen_looks_every_tick(place: Place):
    """A server that lets this user into no channel."""
    place.command("ACL", "SETUSER", "default", "resetchannels")
    ran: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handler(data: Any) -> None:
        ran.set_result(None)

    try:
        async with working(place, load(handler)):
            await place.send(1, delay=DELAY_SECONDS)
            await until(ran)
    finally:
        place.command("ACL", "SETUSER", "default", "allchannels")


async def open_link(place: Place) -> AsyncLink:
    return await open_async(
        place.server.url, namespace=place.topology.broker.namespace, folder=place.topology.folder
    )


async def test_a_sleeping_worker_obeys_a_pause_and_its_end(place: Place):
    ran: asyncio.Queue[int] = asyncio.Queue()

    async def handler(data: dict[str, int]) -> None:
        ran.put_nowait(data["n"])

    async with working(place, load(handler)) as running, await open_link(place) as link:
        await until_asleep(running)
        await link.connection.execute(link.broker.pause(["work"]))
        await until_read(running, False)
        await place.send(1)
        await until_asleep(running)
        assert ran.empty()
        await link.connection.execute(link.broker.resume(["work"]))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await ran.get() == 1


async def until_read(running: Running, readable: bool) -> None:
    [lane] = running.worker._lanes.values()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while lane.readable is not readable:
            await asyncio.sleep(0.02)


async def test_a_sleeping_worker_takes_what_somebody_took_and_hands_back(place: Place):
    """No read brings it: it has been handed out once."""
    ran: asyncio.Queue[int] = asyncio.Queue()

    async def handler(data: dict[str, int]) -> None:
        ran.put_nowait(data["n"])

    async with working(place, load(handler)) as running, await open_link(place) as link:
        await until_asleep(running)
        fields = {
            "id": "m1",
            "type": "number",
            "data": '{"n":1}',
            "headers": "{}",
            "attempt": "0",
            "expires": "",
        }
        words = [word for pair in fields.items() for word in pair]
        place.command("EVAL", TAKE_UNSEEN, 1, place.key("q", "work"), *words)
        await asyncio.sleep(2 * TICK_SECONDS)
        assert ran.empty()
        await link.connection.execute(link.broker.release_held("work", "leaving"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await ran.get() == 1


async def test_a_sleeping_worker_hears_of_an_apply(place: Place):
    async with working(place, load(no_work)) as running:
        await until_asleep(running)
        upkeep = running.worker._upkeep
        assert upkeep is not None
        before = upkeep._going_by
        Place(place.server, replace_limits(place.topology)).apply()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while upkeep._going_by == before:
                await asyncio.sleep(0.02)


def replace_limits(topology: Topology) -> Topology:
    queues = {name: replace(queue, max_deliveries=9) for name, queue in topology.queues.items()}
    return replace(topology, queues=queues)


async def no_work(data: Any) -> None: ...
