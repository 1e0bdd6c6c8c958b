"""Rules of the delivery engine that show in what the server counts, not in what becomes of a message.

`docs/semantics.md` names for each rule the tests that fail without it; these have no better place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import Retrying
from leanmq_topology.brokers.redis import pipe as pipe_module
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.calls import Call, Script
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.record import address_field
from leanmq_topology.client import connect
from leanmq_topology.client.patience import LONGEST_S
from leanmq_topology.errors import LeanMQError
from leanmq_topology.topology.model import Deduplication, KeepAcked, Queue
from tests.support.factories import make_topology, run, write_topology
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, count_calls, open_carrier

DAY_MS = 24 * 60 * 60 * 1000
PLAIN = Queue(name="plain", max_deliveries=10, max_crashes=2)
ODD = Queue(name="o{d}d:%", keep_acked=KeepAcked(count=3), deduplication=Deduplication(window_ms=DAY_MS))


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        yield Stage(make_topology(namespace, PLAIN, ODD), RedisBroker(namespace), carry, admin, server.url)
    admin.close()


def claim(stage: Stage) -> list[Any]:
    return stage.carry(stage.broker.claim(PLAIN, "me", cursor="0-0", count=100))[1]


def test_lapsed_leases_are_no_crashes(stage: Stage):
    """A worker may have died of any message that it held, so its death says nothing about this one."""
    stage.send("plain", "m1")
    delivered = stage.fetch_one("plain")
    for attempt in range(2, 6):
        stage.lapse("plain", delivered)
        [delivered] = claim(stage)
        assert delivered.attempt == attempt
    assert not stage.raw("EXISTS", stage.keys.crashes("plain"))


def test_a_flush_is_remembered_longer_than_any_sender_goes_on(stage: Stage):
    stage.send("plain", "m1")
    assert stage.raw("PTTL", stage.keys.producer("p")) > 2 * 1000 * LONGEST_S


def test_only_reading_is_a_bare_command(stage: Stage):
    stage.send("plain", "m1")
    delivered = stage.fetch_one("plain")
    broker = stage.broker
    steps: list[Any] = [
        broker.send(stage.flush(stage.outgoing("plain", "m2"))),
        broker.ack("plain", [delivered.entry_id]),
        broker.retry("plain", "me", [Retrying(delivered, 0)]),
        broker.release("plain", "me", [delivered]),
        broker.maintain(["plain"]),
    ]
    assert all(isinstance(step, Call) and isinstance(step.command, Script) for step in steps)
    before = count_calls(stage)
    stage.fetch("plain")
    made = count_calls(stage) - before
    assert (made["xreadgroup"], made["evalsha"] + made["eval"]) == (1, 0)


def test_a_queue_counts_what_it_gets_by_another_name(stage: Stage):
    odd = ODD.name
    stage.carry(stage.broker.send(stage.flush(stage.outgoing("plain", "m1", odd))))
    assert [stage.raw("HGET", stage.keys.meta(name), "sent") for name in (odd, "plain")] == [b"1", None]


def test_counters_change_once_for_a_whole_batch(stage: Stage):
    ids = [f"m{n}" for n in range(100)]
    before = count_calls(stage)
    stage.send("plain", *ids)
    assert (count_calls(stage) - before)["hincrby"] == 1
    fetched = stage.fetch("plain")
    before = count_calls(stage)
    retried = stage.carry(stage.broker.retry("plain", "me", [Retrying(one, 0) for one in fetched[:50]]))
    assert retried == [True] * 50
    assert stage.carry(stage.broker.ack("plain", [one.entry_id for one in fetched[50:]])) == 50
    assert (count_calls(stage) - before)["hincrby"] == 2


def test_nothing_less_than_nothing_is_ready(stage: Stage):
    stage.send("plain", "a", "b")
    for delivered in stage.fetch("plain"):
        stage.raw("XDEL", stage.keys.queue("plain"), delivered.entry_id)
    state = stage.look("plain")
    assert (state.ready, state.in_flight) == (0, 2)


def test_a_purge_for_good_leaves_the_work_of_freeing_to_the_background(stage: Stage):
    stage.send("plain", "a", "b")
    stage.send("plain", "later", delay_ms=DAY_MS)
    before = count_calls(stage)
    stage.carry(stage.broker.purge("plain", "one", keep_ms=0))
    made = count_calls(stage) - before
    assert made["unlink"] >= 3
    assert made["del"] == 0


def test_an_acknowledgement_is_two_commands_and_counts_what_it_removed(stage: Stage):
    """XACK without XDEL leaves an entry that a rescue runs again; what XDEL removed is what counts."""
    stage.send("plain", "a", "b", "c")
    entries = [one.entry_id for one in stage.fetch("plain")]
    stage.raw("XDEL", stage.keys.queue("plain"), entries[0])
    before = count_calls(stage)
    assert stage.carry(stage.broker.ack("plain", entries)) == 2
    made = count_calls(stage) - before
    assert (made["xack"], made["xdel"], made["multi"]) == (1, 1, 0)
    counters = stage.look("plain").counters
    assert counters is not None
    assert counters["acked"] == 2


def test_every_key_of_a_namespace_lies_in_its_slot_whatever_a_queue_is_called(stage: Stage):
    """Each queue's record holds the tag that its keys are made with."""
    name = ODD.name
    stage.send(name, "a", "b")
    stage.send(name, "later", delay_ms=DAY_MS)
    first, second = stage.fetch(name)
    stage.carry(stage.broker.ack(name, [first.entry_id]))
    stage.carry(stage.broker.crash(name, "me", [second]))
    stage.carry(stage.broker.heartbeat("me", {"host": "here"}, lifetime_ms=DAY_MS, queues=[name]))
    stage.carry(stage.broker.purge(name, "one", keep_ms=DAY_MS))
    namespace = stage.keys.namespace
    found = {key.decode() for key in stage.raw("KEYS", f"*{namespace}*")}
    assert len(found) > 8
    assert {key.partition("}")[0] for key in found} == {"{" + namespace}
    assert not [key for key in found if key.count("{") > 1]
    assert stage.raw("HGET", stage.keys.meta(name), "tag").decode() == namespace


async def test_a_send_waits_while_too_much_is_on_its_way(
    server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    """What waits was not written: cancelled, it has not happened."""
    monkeypatch.setattr(pipe_module, "HIGH_WATER_BYTES", 10)
    admin = BlockingRedisConnection.open(parse_address(server.url))
    stage = Stage(make_topology(namespace, PLAIN), RedisBroker(namespace), admin.execute, admin, server.url)
    stage.send("plain", "m0")  # the server knows the script now: once it is written, it is carried out
    stage.fetch("plain")
    line = await AsyncRedisConnection.open(parse_address(server.url))
    reading = asyncio.ensure_future(
        line.execute(stage.broker.fetch(["plain"], "me", count=1, block_ms=60_000))
    )
    while b" flags=b" not in run(admin, "CLIENT", "LIST", "ID", line.connection_id):
        await asyncio.sleep(0)
    send = stage.broker.send(stage.flush(stage.outgoing("plain", "m1")))
    sending = asyncio.ensure_future(line.execute(send))
    for _ in range(5):  # turns of the loop, in which it would be written
        await asyncio.sleep(0)
    sending.cancel()
    admin.execute(stage.broker.end_fetch(line.connection_id))
    assert await reading == []
    [state] = await line.execute(stage.broker.inspect_queues(["plain"]))
    assert state.ready == 0
    await line.close()
    admin.close()


async def test_a_target_that_keeps_changing_is_given_up_after_three_more_tries(
    server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    admin = BlockingRedisConnection.open(parse_address(server.url))
    topology, keys = make_topology(namespace, PLAIN), RedisBroker(namespace).keys
    write_topology(admin, topology)
    honest, reads = RedisBroker.read_addresses, 0

    def change_it_behind(broker: RedisBroker, names: Sequence[str]) -> Call[Any]:
        call = honest(broker, names)

        def read(reply: Any) -> Any:
            nonlocal reads
            reads += 1
            run(admin, "HSET", keys.topology, address_field("plain"), f"another-{reads}")
            return call.read(reply)

        return structs.replace(call, read=read)

    monkeypatch.setattr(RedisBroker, "read_addresses", change_it_behind)
    async with connect(topology, url=server.url) as mq:
        with pytest.raises(LeanMQError, match="changed on the server 4 times while it was sent to"):
            await mq.send("plain", {"n": 1})
    assert reads == 4
    assert run(admin, "XLEN", keys.queue("plain")) == 0
    admin.close()
