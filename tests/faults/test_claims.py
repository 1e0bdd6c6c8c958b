"""Many claim at once; few lapsed leases hide among many living ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.topology.model import Queue
from tests.faults.catalogue import Figures
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage

WORK = Queue(name="work")


@pytest.fixture
def stage(server: Server, namespace: str) -> Iterator[Stage]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    yield Stage(
        make_topology(namespace, WORK), RedisBroker(namespace), connection.execute, connection, server.url
    )
    connection.close()


async def test_of_many_workers_that_claim_the_same_message_one_gets_it(
    server: Server, stage: Stage, figures: Figures
):
    rounds = 20
    address = parse_address(server.url)
    claimers = [await AsyncRedisConnection.open(address) for _ in range(50)]
    wins: Counter[int] = Counter()
    for number in range(rounds):
        stage.send("work", f"m{number}")
        stage.lapse("work", stage.fetch_one("work"))
        answers = await asyncio.gather(
            *(
                claimer.execute(stage.broker.claim(WORK, f"w{at}", cursor="0-0", count=10))
                for at, claimer in enumerate(claimers)
            )
        )
        got = [delivered for _, taken in answers for delivered in taken]
        assert [(one.delivery_count, one.envelope.id) for one in got] == [(2, f"m{number}")]  # type: ignore[union-attr]
        wins[len(got)] += 1
        stage.carry(stage.broker.ack("work", [got[0].entry_id]))
    for claimer in claimers:
        await claimer.close()
    figures.report("F48", server=server.kind, claimers=50, rounds=rounds, got_by_one=wins[1])


def test_one_lapsed_lease_among_thousands_is_found_within_one_sweep(
    server: Server, stage: Stage, figures: Figures
):
    for start in range(0, 5000, 500):
        stage.send("work", *(f"m{number}" for number in range(start, start + 500)))
    held = stage.fetch("work", count=5000)
    stage.lapse("work", held[4321])
    cursor, calls, found = "0-0", 0, []
    while True:
        cursor, taken = stage.carry(stage.broker.claim(WORK, "other", cursor=cursor, count=100))
        found += taken
        calls += 1
        if cursor == "0-0":
            break
        assert calls < 200
    assert [one.envelope.id for one in found] == ["m4321"]
    figures.report("F49", server=server.kind, leases=5000, found=len(found), calls=calls)
