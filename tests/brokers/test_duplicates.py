"""Clients of both colours on real servers: duplicates, overflow, and sends in many steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.errors import BatchTooLargeError, InvalidMessageError, QueueFullError
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import Deduplication, FanoutRoute, Overflow, Queue, Target, Topology
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology, run, write_topology
from tests.support.senders import Sender, open_sender
from tests.support.servers import Server
from tests.support.stage import COLOURS


@dataclass
class Scene:
    topology: Topology
    admin: BlockingRedisConnection
    server: Server
    colour: str

    @contextmanager
    def sender(self, url: str | None = None) -> Iterator[Sender]:
        with open_sender(self.colour, self.topology, url or self.server.url) as sender:
            yield sender

    def stored(self, queue: str) -> list[Envelope]:
        key = Keys(self.topology.broker.namespace).queue(queue)
        return [decode_fields(flat) for _, flat in run(self.admin, "XRANGE", key, "-", "+")]

    def ids(self, queue: str) -> list[str]:
        return [envelope.id for envelope in self.stored(queue)]

    def count(self, queue: str, counter: str) -> int:
        [state] = self.admin.execute(RedisBroker(self.topology.broker.namespace).inspect_queues([queue]))
        return (state.counters or {})[counter]


@pytest.fixture(params=COLOURS)
def scene(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    topology = make_topology(
        namespace,
        Queue(name="billing"),
        Queue(name="emails", deduplication=Deduplication(window_ms=60_000, key="/order_id")),
        Queue(name="small", max_length=1500),
        Queue(name="news", max_length=2, overflow=Overflow.DROP_OLDEST),
        routes=(FanoutRoute(name="events", to=(Target(queue="billing"), Target(queue="emails"))),),
    )
    write_topology(admin, topology)
    yield Scene(topology, admin, server, request.param)
    admin.close()


def test_a_named_id_is_stored_once_whoever_sends_it(scene: Scene):
    for _ in range(2):
        with scene.sender() as mq:
            assert mq.send("billing", {"n": 1}, id="order-1") == "order-1"
    assert scene.ids("billing") == ["order-1"]
    assert scene.count("billing", "duplicates") == 1


def test_a_queue_keeps_one_message_for_each_value_of_its_key(scene: Scene):
    with scene.sender() as mq:
        first = mq.send("emails", {"order_id": "A"})
        assert mq.send("emails", {"order_id": "A"}) == first
        other = mq.send("emails", {"order_id": "B"})
    assert scene.ids("emails") == [first, other]


def test_messages_without_a_value_are_the_same_only_by_id(scene: Scene):
    with scene.sender() as mq:
        sent = [mq.send("emails", {"order_id": None}), mq.send("emails", {})]
        sent.append(mq.send("emails", {}, id="mine"))
        assert mq.send("emails", {}, id="mine") == "mine"
    assert scene.ids("emails") == sent


def test_each_queue_of_a_route_keeps_to_its_own_rule(scene: Scene):
    with scene.sender() as mq:
        first, second = (mq.send("events", {"order_id": "A"}) for _ in range(2))
        assert mq.send("events", {"order_id": "C"}, id="c") == mq.send("events", {"order_id": "C"}, id="c")
    assert scene.ids("billing") == [first, second, "c"]
    assert scene.ids("emails") == [first, "c"]


def test_other_data_is_warned_of_and_the_first_stays(scene: Scene, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING), scene.sender() as mq:
        mq.send("billing", {"n": 1}, id="m")
        mq.send("billing", {"n": 2}, id="m")
    assert [envelope.data for envelope in scene.stored("billing")] == [b'{"n":1}']
    assert scene.count("billing", "conflicts") == 1
    assert len(caplog.records) == 1


def test_a_batch_stores_what_is_new_and_names_what_is_not(scene: Scene):
    with scene.sender() as mq:
        [first] = mq.send_many("emails", [{"order_id": "A"}])
        ids = mq.send_many("emails", [{"order_id": name} for name in "ABBC"])
    assert ids[0] == first
    assert ids[1] == ids[2]
    assert scene.ids("emails") == [first, ids[1], ids[3]]


def test_an_id_survives_the_loss_of_its_answer_and_of_its_sender(scene: Scene):
    with ChaosProxy(scene.server.socket_path) as proxy, scene.sender(proxy.url) as mq:
        mq.send("billing", {"n": 0}, id="warm")
        proxy.lose_answers(2, to=b"EVALSHA")
        assert mq.send("billing", {"n": 1}, id="m") == "m"
        assert proxy.lost == 2
    with scene.sender() as another:
        assert another.send("billing", {"n": 1}, id="m") == "m"
    assert scene.ids("billing") == ["warm", "m"]
    assert scene.count("billing", "duplicates") == 1


def test_a_queue_that_drops_never_refuses(scene: Scene):
    with scene.sender() as mq:
        sent = mq.send_many("news", [{"n": n} for n in range(10)])
        sent.append(mq.send("news", {"n": 10}))
    assert scene.ids("news") == sent[-2:]
    assert scene.count("news", "dropped") == 9


def test_any_number_is_stored_in_order_in_steps(scene: Scene):
    with scene.sender() as mq:
        sent = mq.send_many("billing", ({"n": n} for n in range(2500)), atomic=False)
        assert mq.send_many("billing", [], atomic=False) == []
    assert len(sent) == 2500
    assert scene.ids("billing") == sent


def test_steps_are_as_small_as_their_copies_and_bytes_need(scene: Scene):
    data = {"order_id": None, "x": "y" * 20_000}
    with scene.sender() as mq:
        with pytest.raises(BatchTooLargeError, match="600 copies"):
            mq.send_many("events", [data] * 300)
        sent = mq.send_many("events", [data] * 300, atomic=False)
    assert scene.ids("billing") == scene.ids("emails") == sent
    assert len(sent) == 300


def test_a_failure_names_exactly_what_is_stored(scene: Scene):
    with scene.sender() as mq:
        with pytest.raises(QueueFullError) as full:
            mq.send_many("small", ({"n": n} for n in range(2500)), atomic=False)
        assert list(full.value.stored_ids) == scene.ids("small")
        assert len(full.value.stored_ids) == 1000
        assert full.value.unknown_ids == ()

        bad = [{"n": n} for n in range(1000)] + [{"n": float("nan")}]
        with pytest.raises(InvalidMessageError) as invalid:
            mq.send_many("billing", bad, atomic=False)
        assert list(invalid.value.stored_ids) == scene.ids("billing")
        assert len(invalid.value.stored_ids) == 1000
