"""Awaits of the client are cancelled at every step of the event loop; nobody else may notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from leanmq_topology import connect
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.client.consuming.delivery import Delivery
from leanmq_topology.topology.model import Queue, Topology
from tests.faults.catalogue import Figures
from tests.support.factories import make_topology, run, write_topology
from tests.support.final_state import Onlooker
from tests.support.processes import PATIENCE_SECONDS
from tests.support.servers import Server

MOST_STEPS = 400
STEPS_OF_A_CALL = 40
"""More steps of the loop than any call here needs once its answer has come."""


@pytest.fixture
def topology(server: Server, namespace: str) -> Topology:
    made = make_topology(namespace, Queue(name="work"))
    admin = BlockingRedisConnection.open(parse_address(server.url))
    write_topology(admin, made)
    admin.close()
    return made


async def cancel_after(steps: int, made: Awaitable[object]) -> bool:
    """Let it take so many steps of the loop, then cancel it. True: it was over before that."""
    task = asyncio.ensure_future(made)
    for _ in range(steps):
        await asyncio.sleep(0)
    over = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return over


async def sweep(make: Callable[[int], Awaitable[object]], check: Callable[[int], Awaitable[None]]) -> int:
    """Cancel after 0, 1, 2… steps, until a call has been over in time often enough; returns how many."""
    over = 0
    for steps in range(MOST_STEPS):
        over += await cancel_after(steps, make(steps))
        await check(steps)
        if over > STEPS_OF_A_CALL:
            return steps + 1
    return MOST_STEPS


class Neighbours:
    """Calls that are under way on the same connection, one made before the cancelled one and one after it."""

    def __init__(self) -> None:
        self._pair: list[asyncio.Future[Any]] = []

    def around(self, make: Callable[[str], Awaitable[Any]]) -> Awaitable[object]:
        """Begin three calls, of which the one in the middle is to be cancelled."""
        before, gone, after = (asyncio.ensure_future(make(name)) for name in ("before", "gone", "after"))
        self._pair = [before, after]
        return gone

    async def answers(self) -> list[Any]:
        return await asyncio.gather(*self._pair)


def echo(text: str) -> Call[bytes]:
    return Call("echo", "ECHO", (), (text,), bytes)


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[AsyncRedisConnection]:
    connection = await AsyncRedisConnection.open(parse_address(server.url), client_name="leanmq-cancelled")
    try:
        yield connection
    finally:
        await connection.close()


async def nothing_left(server: Server, namespace: str) -> None:
    """The server has closed what we closed."""
    onlooker = Onlooker(server.url, namespace)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while b"name=leanmq-cancelled" in listed(onlooker):
            await asyncio.sleep(0.005)  # a server has no way to signal that a client has gone
    onlooker.close()


def listed(onlooker: Onlooker) -> bytes:
    found = onlooker.ask("CLIENT", "LIST")
    assert isinstance(found, bytes)
    return found


async def test_a_cancelled_call_never_shifts_the_answers_of_a_shared_connection(
    server: Server, namespace: str, figures: Figures
):
    neighbours = Neighbours()
    async with opened(server) as connection:

        def three(steps: int) -> Awaitable[object]:
            return neighbours.around(lambda name: connection.execute(echo(f"{name} {steps}")))

        async def others_are_right(steps: int) -> None:
            assert await neighbours.answers() == [f"before {steps}".encode(), f"after {steps}".encode()]
            assert await connection.execute(echo(f"next {steps}")) == f"next {steps}".encode()

        swept = await sweep(three, others_are_right)
    await nothing_left(server, namespace)
    figures.report("F12", server=server.kind, call="execute", cancelled_at_steps=swept, wrong_answers=0)


async def test_opening_a_connection_that_is_cancelled_leaves_none_behind(
    server: Server, namespace: str, figures: Figures
):
    async def open_and_close() -> None:
        async with opened(server):
            pass

    async def fine(steps: int) -> None: ...

    swept = await sweep(lambda steps: open_and_close(), fine)
    await nothing_left(server, namespace)
    figures.report("F12", server=server.kind, call="connect", cancelled_at_steps=swept, left_open=0)


async def test_a_cancelled_send_is_stored_once_or_not_at_all_and_others_get_their_own_ids(
    server: Server, topology: Topology, figures: Figures
):
    kept: list[str] = []
    neighbours = Neighbours()
    async with connect(topology, url=server.url) as mq:

        def send_three(steps: int) -> Awaitable[object]:
            return neighbours.around(lambda name: mq.send("work", {"n": steps}, id=f"{name}-{steps}"))

        async def note_ids(steps: int) -> None:
            kept.extend(await neighbours.answers())

        swept = await sweep(send_three, note_ids)
    assert kept == [f"{name}-{steps}" for steps in range(swept) for name in ("before", "after")]
    stored = stored_ids(server, topology)
    assert len(stored) == len(set(stored))
    assert set(kept) <= set(stored)
    assert "gone-0" not in stored, "what was cancelled before it left is withdrawn"
    figures.report("F12", server=server.kind, call="send", cancelled_at_steps=swept, stored_twice=0)


async def test_a_cancelled_read_loses_nothing_that_was_handed_out(
    server: Server, topology: Topology, figures: Figures
):
    broker = RedisBroker(topology.broker.namespace)
    async with connect(topology, url=server.url) as mq, opened(server) as connection:

        async def send_one(steps: int) -> None:
            await mq.send("work", {"n": steps}, id=f"sent-{steps}")

        swept = await sweep(
            lambda steps: connection.execute(broker.fetch(["work"], "me", count=1, block_ms=0)), send_one
        )
        _, own = await connection.execute(broker.fetch_own("work", "me", cursor="0-0", known=[]))
        rest = await connection.execute(broker.fetch(["work"], "me", count=1000, block_ms=0))
        found = [one.envelope.id for one in [*own, *rest]]  # type: ignore[union-attr]
    assert found == [f"sent-{steps}" for steps in range(swept)]
    figures.report("F12", server=server.kind, call="fetch", cancelled_at_steps=swept, stranded=0)


def stored_ids(server: Server, topology: Topology) -> list[str]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    keys = RedisBroker(topology.broker.namespace).keys
    entries = run(connection, "XRANGE", keys.queue("work"), "-", "+")
    connection.close()
    return [dict(zip(flat[::2], flat[1::2], strict=True))[b"id"].decode() for _, flat in entries]


async def test_a_cancelled_receive_strands_nothing_and_counts_nothing(
    server: Server, topology: Topology, figures: Figures
):
    """Whoever gave up gets nothing; what came for them is handed to the next, as if for the first time."""
    got: list[Delivery] = []
    async with connect(topology, url=server.url) as mq:

        async def take(steps: int) -> None:
            await mq.send("work", {"n": steps}, id=f"sent-{steps}")
            got.extend(await mq.receive("work", wait=5))

        async def fine(steps: int) -> None: ...

        swept = await sweep(take, fine)
        sent = {f"sent-{steps}" for steps in range(swept)} & set(stored_ids(server, topology))
        async with asyncio.timeout(60):
            while sent - {delivery.id for delivery in got}:
                got.extend(await mq.receive("work", 1000, wait=0.1))
        assert len(got) == len(sent), "none came twice"
        assert {delivery.attempt for delivery in got} == {1}
        await mq.ack(got)
    assert stored_ids(server, topology) == []
    figures.report("F12", server=server.kind, call="receive", cancelled_at_steps=swept, stranded=0)


async def test_a_consumer_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next(
    server: Server, topology: Topology
):
    async with connect(topology, url=server.url) as mq:
        waiting = [asyncio.create_task(mq.receive("work", wait=60)) for _ in range(3)]
        await asyncio.sleep(0.05)  # whichever has the turn by now is among those cancelled
        for task in waiting[:2]:
            task.cancel()
        await mq.send("work", {"n": 1}, id="only")
        async with asyncio.timeout(20):
            (delivery,) = await waiting[2]
        assert (delivery.id, delivery.attempt) == ("only", 1)
        await asyncio.gather(*waiting, return_exceptions=True)
