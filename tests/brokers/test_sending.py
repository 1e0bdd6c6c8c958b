"""Both clients on real servers: what is promised of a send holds when answers get lost and things change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import connect
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.errors import (
    BatchTooLargeError,
    BrokerFullError,
    InvalidMessageError,
    QueueFullError,
    TopologyNotAppliedError,
    UnknownTargetError,
)
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target, Topology
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology, run, write_topology
from tests.support.senders import Sender, open_sender
from tests.support.servers import Server
from tests.support.stage import COLOURS

ORDER = MessageType(
    name="order",
    version=2,
    schema={"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}},
)


@dataclass
class Scene:
    """A topology on a server, and what lies in its queues."""

    topology: Topology
    admin: BlockingRedisConnection
    server: Server
    colour: str

    @property
    def keys(self) -> Keys:
        return Keys(self.topology.broker.namespace)

    @contextmanager
    def sender(self, url: str | None = None) -> Iterator[Sender]:
        with open_sender(self.colour, self.topology, url or self.server.url) as sender:
            yield sender

    def stored(self, queue: str) -> list[Envelope]:
        return [
            decode_fields(flat) for _, flat in run(self.admin, "XRANGE", self.keys.queue(queue), "-", "+")
        ]

    def ids(self, queue: str) -> list[str]:
        return [envelope.id for envelope in self.stored(queue)]

    def apply(self, *queues: Queue, generation: int) -> None:
        changed = {**self.topology.queues, **{queue.name: queue for queue in queues}}
        write_topology(self.admin, replace(self.topology, queues=changed), generation=generation)


@pytest.fixture(params=COLOURS)
def scene(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    topology = make_topology(
        namespace,
        Queue(name="billing", accepts=("order",), max_message_size=1024),
        Queue(name="emails", accepts=("order",)),
        Queue(name="anything", max_length=5),
        messages=(ORDER,),
        routes=(
            FanoutRoute(
                name="events",
                to=(Target(queue="billing"), Target(queue="emails", match={"data.total": {"minimum": 50}})),
            ),
        ),
    )
    write_topology(admin, topology)
    yield Scene(topology, admin, server, request.param)
    admin.close()


def test_a_send_stores_the_envelope_a_handler_will_see(scene: Scene):
    with scene.sender() as mq:
        sent = mq.send("billing", {"total": 5}, correlation_id="c-1", headers={"traceparent": "00-a"})
    [envelope] = scene.stored("billing")
    assert (envelope.id, envelope.type, envelope.data, envelope.attempt) == (sent, "order", b'{"total":5}', 0)
    headers = dict(envelope.headers)
    assert headers.pop("time").endswith("Z")
    assert headers == {"dataschema": "order@2", "correlationid": "c-1", "traceparent": "00-a"}


def test_a_route_fans_out_to_the_queues_that_match(scene: Scene):
    with scene.sender() as mq:
        small, large = mq.send("events", {"total": 5}), mq.send("events", {"total": 50})
    assert scene.ids("billing") == [small, large]
    assert scene.ids("emails") == [large]


def test_invalid_data_is_refused_with_its_place_and_nothing_is_written(scene: Scene):
    with scene.sender() as mq:
        for data, path in (({"total": "much"}, "/total"), ({}, ""), ({"total": float("nan")}, "/total")):
            with pytest.raises(InvalidMessageError) as caught:
                mq.send("billing", data)
            assert caught.value.path == path
        with pytest.raises(InvalidMessageError, match="1024"):
            mq.send("billing", {"total": 1, "note": "x" * 1024})
        with pytest.raises(UnknownTargetError):
            mq.send("billling", {"total": 1})
    assert not scene.ids("billing")


def test_a_batch_is_stored_whole_in_order_or_not_at_all(scene: Scene):
    with scene.sender() as mq:
        assert mq.send_many("billing", [{"total": n} for n in range(20)]) == scene.ids("billing")
        with pytest.raises(InvalidMessageError):
            mq.send_many("billing", [{"total": 1}, {"total": None}])
        with pytest.raises(QueueFullError) as caught:
            mq.send_many("anything", [{}] * 6)
        assert (caught.value.queue, caught.value.max_length) == ("anything", 5)
        assert mq.send_many("billing", []) == []
    assert len(scene.ids("billing")) == 20
    assert not scene.ids("anything")


def test_a_batch_over_the_bounds_is_refused_before_anything_is_written(scene: Scene):
    with scene.sender() as mq:
        with pytest.raises(BatchTooLargeError) as caught:
            mq.send_many("events", [{"total": 50}] * 501)
        assert caught.value.copies == 1002
        with pytest.raises(BatchTooLargeError):
            mq.send_many("emails", [{"total": 1, "note": "x" * 100_000}] * 42)
    assert not scene.ids("billing")


def test_lost_answers_never_store_a_message_twice(scene: Scene):
    with ChaosProxy(scene.server.socket_path) as proxy, scene.sender(proxy.url) as mq:
        sent = [mq.send("billing", {"total": 0})]
        for n in range(20):
            proxy.lose_answers(1, to=b"EVALSHA")
            sent.append(mq.send("billing", {"total": n}))
        proxy.lose_answers(3, to=b"EVALSHA")
        sent += mq.send_many("billing", [{"total": n} for n in range(10)])
        assert proxy.lost == 23
    assert scene.ids("billing") == sent


def test_a_stale_client_follows_the_applied_topology_by_itself(scene: Scene):
    with scene.sender() as mq:
        mq.send("anything", {"any": "object"})
        scene.apply(Queue(name="anything", accepts=("order",)), generation=2)
        with pytest.raises(InvalidMessageError):
            mq.send("anything", {"any": "object"})
        sent = mq.send("anything", {"total": 1})
    assert [envelope.type for envelope in scene.stored("anything")] == ["", "order"]
    assert scene.ids("anything")[1] == sent


def test_a_queue_that_was_never_applied_is_named_and_nothing_is_created(scene: Scene):
    stranger = Queue(name="new")
    scene.topology = replace(scene.topology, queues={**scene.topology.queues, "new": stranger})
    with scene.sender() as mq, pytest.raises(TopologyNotAppliedError) as caught:
        mq.send("new", {})
    assert caught.value.missing == ("queues.new",)
    assert not run(scene.admin, "EXISTS", scene.keys.queue("new"))


def test_a_queue_removed_under_a_client_is_noticed(scene: Scene):
    with scene.sender() as mq:
        mq.send("billing", {"total": 1})
        run(scene.admin, "DEL", scene.keys.queue("billing"))
        with pytest.raises(TopologyNotAppliedError):
            mq.send("billing", {"total": 1})
    assert not run(scene.admin, "EXISTS", scene.keys.queue("billing"))


def test_a_topology_that_differs_warns_once_and_the_applied_one_counts(
    scene: Scene, caplog: pytest.LogCaptureFixture
):
    scene.apply(Queue(name="anything", max_length=1), generation=2)
    with caplog.at_level(logging.WARNING), scene.sender() as mq:
        mq.send("anything", {})
        with pytest.raises(QueueFullError):
            mq.send("anything", {})
    assert len(caplog.records) == 1


def test_a_full_server_is_told_and_the_client_goes_on_once_there_is_room(scene: Scene):
    with scene.sender() as mq:
        mq.send("billing", {"total": 0})
        run(scene.admin, "CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(BrokerFullError):
                mq.send("billing", {"total": 1})
        finally:
            run(scene.admin, "CONFIG", "SET", "maxmemory", 0)
        mq.send("billing", {"total": 2})
    assert [envelope.data for envelope in scene.stored("billing")] == [b'{"total":0}', b'{"total":2}']


# -- asyncio alone --------------------------------------------------------------------------------------


@pytest.fixture
def crowd(server: Server, namespace: str) -> Iterator[Scene]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    topology = make_topology(namespace, Queue(name="plain"))
    write_topology(admin, topology)
    yield Scene(topology, admin, server, "asyncio")
    admin.close()


async def test_many_tasks_lose_and_double_nothing_while_connections_are_cut(crowd: Scene):
    with ChaosProxy(crowd.server.socket_path) as proxy:
        async with connect(crowd.topology, url=proxy.url) as mq:

            async def send_some(task: int) -> list[str]:
                sent = []
                for n in range(15):
                    if n % 5 == 0 and task % 10 == 0:
                        proxy.lose_answers(1, to=b"EVALSHA")
                    sent.append(await mq.send("plain", {"task": task, "n": n}))
                return sent

            sent = await asyncio.gather(*[send_some(task) for task in range(20)])
        assert proxy.lost > 0
    assert sorted(crowd.ids("plain")) == sorted(one for some in sent for one in some)
    assert len(set(crowd.ids("plain"))) == 300


async def test_a_cancelled_send_never_gives_its_answer_to_another(crowd: Scene):
    with ChaosProxy(crowd.server.socket_path) as proxy:
        async with connect(crowd.topology, url=proxy.url) as mq:
            await mq.send("plain", {})
            proxy.hold_answers()
            gone = asyncio.ensure_future(mq.send("plain", {}, id="gone"))
            await asyncio.to_thread(proxy.holding.wait, 10)
            gone.cancel()
            kept = [asyncio.ensure_future(mq.send("plain", {}, id=f"kept{n}")) for n in range(3)]
            proxy.release_answers()
            assert await asyncio.gather(*kept) == ["kept0", "kept1", "kept2"]
            assert gone.cancelled()
    assert crowd.ids("plain")[1:] == ["gone", "kept0", "kept1", "kept2"]


async def test_sends_at_once_travel_in_two_script_calls(crowd: Scene):
    async with connect(crowd.topology, url=crowd.server.url) as mq:
        await mq.send("plain", {})
        before = _count_calls(crowd)
        await asyncio.gather(*[mq.send("plain", {"n": n}) for n in range(200)])
        assert _count_calls(crowd) - before == 2
    assert len(crowd.ids("plain")) == 201


def _count_calls(crowd: Scene) -> int:
    stats: Any = run(crowd.admin, "INFO", "commandstats").decode()
    [line] = [line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:")]
    return int(line.partition("calls=")[2].partition(",")[0])
