"""Transactions of both clients on real servers: several targets, all or none, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.errors import (
    BatchTooLargeError,
    BrokerFullError,
    InvalidMessageError,
    QueueFullError,
    SettingError,
    TopologyNotAppliedError,
    TransactionError,
    UnknownTargetError,
)
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import FanoutRoute, MessageType, Overflow, Queue, Target, TopicRoute
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology, run, write_topology
from tests.support.senders import Block, Sender, open_sender
from tests.support.servers import Server
from tests.support.stage import COLOURS

ORDER = MessageType(
    name="order",
    schema={"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}},
)


class Scene:
    """A shop on a server, one client of it, and what lies in its queues."""

    def __init__(self, server: Server, namespace: str, colour: str) -> None:
        self.server, self.colour = server, colour
        self.admin = BlockingRedisConnection.open(parse_address(server.url))
        self.keys = Keys(namespace)
        self.topology = make_topology(
            namespace,
            Queue(name="billing", accepts=("order",)),
            Queue(name="emails", accepts=("order",)),
            Queue(name="small", accepts=("order",), max_length=2),
            Queue(name="patient", accepts=("order",), max_length=1, overflow=Overflow.DEAD_LETTER),
            Queue(name="anything"),
            messages=(ORDER,),
            routes=(
                FanoutRoute(name="events", to=(Target(queue="billing"), Target(queue="small"))),
                FanoutRoute(name="kept", to=(Target(queue="billing"), Target(queue="patient"))),
                TopicRoute(name="topics", to=(Target(queue="emails", topics=("order.#",)),)),
            ),
        )
        write_topology(self.admin, self.topology)

    def transact(self, block: Block, url: str | None = None) -> tuple[str, ...]:
        with open_sender(self.colour, self.topology, url or self.server.url) as mq:
            return mq.transact(block)

    def stored(self, queue: str) -> list[Envelope]:
        return [
            decode_fields(flat) for _, flat in run(self.admin, "XRANGE", self.keys.queue(queue), "-", "+")
        ]

    def ids(self) -> dict[str, list[str]]:
        """Queue -> ids ready in it, the empty ones left out."""
        found = {name: [one.id for one in self.stored(name)] for name in self.topology.queues}
        return {name: ids for name, ids in found.items() if ids}

    def is_untouched(self) -> bool:
        delayed = [run(self.admin, "ZCARD", self.keys.delayed(name)) for name in self.topology.queues]
        return self.ids() == {} and not any(delayed)


@pytest.fixture(params=COLOURS)
def scene(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    found = Scene(server, namespace, request.param)
    yield found
    found.admin.close()


def sends(*messages: tuple[str, object], **options: object) -> Callable[[Transaction], list[str]]:
    def block(tx: Transaction) -> list[str]:
        return [tx.send(target, data, **options) for target, data in messages]  # type: ignore[arg-type]

    return block


def test_all_messages_are_stored_in_order_and_their_ids_known(scene: Scene):
    told: list[str] = []

    def block(tx: Transaction) -> None:
        told.append(tx.send("billing", {"total": 1}))
        told.append(tx.send("events", {"total": 2}))
        told.append(tx.send("billing", {"total": 3}, id="mine"))
        told.append(tx.send("topics", {"total": 4}, topic="order.new"))
        assert tx.ids == ()

    assert list(scene.transact(block)) == told
    assert told[2] == "mine"
    assert scene.ids() == {"billing": told[:3], "small": [told[1]], "emails": [told[3]]}


def test_every_message_keeps_its_own_ttl_delay_and_headers(scene: Scene):
    def block(tx: Transaction) -> None:
        tx.send("billing", {"total": 1}, ttl=1)
        tx.send("billing", {"total": 2}, ttl="1h", headers={"of": "second"})
        tx.send("billing", {"total": 3})
        tx.send("anything", {}, delay="1h", id="later")

    scene.transact(block)
    first, second, third = scene.stored("billing")
    assert first.expires_ms is not None
    assert second.expires_ms is not None
    assert second.expires_ms - first.expires_ms == 3_599_000, "one step, one moment"
    assert third.expires_ms is None
    assert [dict(one.headers).get("of") for one in (first, second, third)] == [None, "second", None]
    assert run(scene.admin, "ZRANGE", scene.keys.delayed("anything"), 0, -1) == [b"later"]


def test_a_block_that_raises_sends_nothing(scene: Scene):
    def block(tx: Transaction) -> None:
        tx.send("billing", {"total": 1})
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        scene.transact(block)
    assert scene.is_untouched()


def test_every_wrong_send_is_named_and_nothing_is_sent(scene: Scene):
    def block(tx: Transaction) -> None:
        tx.send("billing", {"total": 1})
        tx.send("billing", {"total": "a lot"})
        tx.send("emails", {})
        tx.send("emails", {"total": 2}, topic="a.b")

    with pytest.raises(TransactionError) as caught:
        scene.transact(block)
    wrong = caught.value.failures
    assert [(place, target, type(error)) for place, target, error in wrong] == [
        (1, "billing", InvalidMessageError),
        (2, "emails", InvalidMessageError),
        (3, "emails", SettingError),
    ]
    assert "3 of 4 sends are wrong" in str(caught.value)
    assert "send 2, to 'billing'" in str(caught.value)
    assert "/total" in str(caught.value)
    assert scene.is_untouched()


@pytest.mark.parametrize(
    ("target", "data", "options", "error"),
    [
        ("biling", {"total": 1}, {}, UnknownTargetError),
        ("billing", {"total": float("nan")}, {}, InvalidMessageError),
        ("billing", {"total": 1}, {"ttl": -1}, SettingError),
        ("topics", {"total": 1}, {"topic": "a.*"}, SettingError),
    ],
    ids=["target", "data", "ttl", "topic"],
)
def test_what_needs_no_server_is_told_at_the_send_itself(
    scene: Scene, target: str, data: object, options: dict[str, object], error: type[Exception]
):
    reached = []

    def block(tx: Transaction) -> None:
        tx.send("billing", {"total": 1})
        with pytest.raises(error):
            tx.send(target, data, **options)  # type: ignore[arg-type]
        reached.append(True)
        tx.send(target, data, **options)  # type: ignore[arg-type]

    with pytest.raises(error):
        scene.transact(block)
    assert reached
    assert scene.is_untouched()


def test_a_full_queue_withholds_everything_and_is_named(scene: Scene):
    scene.transact(sends(("small", {"total": 1}), ("small", {"total": 2})))
    with pytest.raises(QueueFullError) as caught:
        scene.transact(sends(("emails", {"total": 3}), ("events", {"total": 4}), ("billing", {"total": 5})))
    assert caught.value.queue == "small"
    assert {queue: len(ids) for queue, ids in scene.ids().items()} == {"small": 2}


def test_room_is_counted_over_the_whole_transaction(scene: Scene):
    with pytest.raises(QueueFullError):
        scene.transact(sends(*[("small", {"total": n}) for n in range(3)]))
    with pytest.raises(QueueFullError):
        scene.transact(sends(("small", {"total": 1}), ("events", {"total": 2}), ("events", {"total": 3})))
    assert scene.is_untouched()


def test_a_full_queue_that_dead_letters_withholds_nothing(scene: Scene):
    first = scene.transact(sends(("patient", {"total": 1})))
    ids = scene.transact(sends(("kept", {"total": 2}), ("emails", {"total": 3})))
    assert scene.ids() == {"patient": list(first), "billing": [ids[0]], "emails": [ids[1]]}
    [(_, flat)] = run(scene.admin, "XRANGE", scene.keys.dead("patient"), "-", "+")
    assert dict(zip(flat[::2], flat[1::2], strict=True))[b"reason"] == b"overflow"


def test_a_target_that_is_not_applied_withholds_everything_and_is_named(scene: Scene):
    scene.topology = replace(
        scene.topology, queues={**scene.topology.queues, "new": Queue(name="new", accepts=("order",))}
    )
    with pytest.raises(TopologyNotAppliedError) as caught:
        scene.transact(sends(("billing", {"total": 1}), ("new", {"total": 2})))
    assert caught.value.missing == ("queues.new",)
    run(scene.admin, "DEL", scene.keys.queue("new"))
    assert scene.ids() == {}


def test_a_queue_that_goes_under_the_client_is_the_one_named(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        mq.transact(sends(("billing", {"total": 1}), ("emails", {"total": 2}), ("anything", {})))
        run(scene.admin, "DEL", scene.keys.queue("emails"))
        with pytest.raises(TopologyNotAppliedError) as caught:
            mq.transact(sends(("billing", {"total": 1}), ("emails", {"total": 2}), ("anything", {})))
    assert caught.value.missing == ("queues.emails",)
    assert {queue: len(ids) for queue, ids in scene.ids().items()} == {"billing": 1, "anything": 1}


def test_targets_that_changed_are_followed_as_one(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        mq.transact(sends(("billing", {"total": 1}), ("events", {"total": 2})))
        changed = FanoutRoute(name="events", to=(Target(queue="emails"),))
        later = replace(scene.topology, routes={**scene.topology.routes, "events": changed})
        write_topology(scene.admin, later, generation=2)
        ids = mq.transact(sends(("billing", {"total": 3}), ("events", {"total": 4})))
    found = scene.ids()
    assert found["billing"][2:] == [ids[0]]
    assert found["emails"] == [ids[1]]


def test_a_schema_that_changed_meanwhile_is_what_counts(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        mq.transact(sends(("billing", {"total": 1}), ("emails", {"total": 2})))
        stricter = replace(ORDER, schema={"type": "object", "required": ["total", "by"]})
        write_topology(scene.admin, replace(scene.topology, messages={"order": stricter}), generation=2)
        with pytest.raises(TransactionError, match="'by'"):
            mq.transact(sends(("billing", {"total": 3}), ("emails", {"total": 4})))
    assert {queue: len(ids) for queue, ids in scene.ids().items()} == {"billing": 1, "emails": 1}


def test_more_than_one_step_may_write_is_refused_whole(scene: Scene):
    with pytest.raises(BatchTooLargeError) as caught:
        scene.transact(sends(*[("billing", {"total": n}) for n in range(1001)]))
    assert caught.value.copies == 1001
    large = "x" * (1024 * 1024 - 100)
    with pytest.raises(BatchTooLargeError):
        scene.transact(sends(*[("anything", {"text": large}) for _ in range(5)]))
    assert scene.is_untouched()


def test_a_thousand_messages_are_one_step(scene: Scene):
    ids = scene.transact(sends(*[("billing", {"total": n}) for n in range(1000)]))
    assert scene.ids() == {"billing": list(ids)}


def test_a_lost_answer_stores_nothing_twice(scene: Scene):
    with ChaosProxy(scene.server.socket_path) as proxy:
        with open_sender(scene.colour, scene.topology, proxy.url) as mq:
            mq.transact(sends(("billing", {"total": 0}), ("emails", {"total": 0})))
            proxy.lose_answers(3, to=b"EVALSHA")
            ids = mq.transact(sends(("billing", {"total": 1}), ("emails", {"total": 2})))
        assert proxy.lost == 3
    assert [found[1:] for found in scene.ids().values()] == [[ids[0]], [ids[1]]]


def test_a_duplicate_has_the_id_of_the_first_and_the_rest_is_stored(scene: Scene):
    def block(tx: Transaction) -> None:
        tx.send("billing", {"total": 1}, id="once")
        tx.send("emails", {"total": 2})

    scene.transact(block)
    ids = scene.transact(block)
    assert ids[0] == "once"
    assert {queue: len(found) for queue, found in scene.ids().items()} == {"billing": 1, "emails": 2}


def test_a_full_server_stores_none_of_it(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        mq.transact(sends(("billing", {"total": 0})))
        run(scene.admin, "CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(BrokerFullError):
                mq.transact(sends(("emails", {"total": 1}), ("billing", {"total": 2})))
        finally:
            run(scene.admin, "CONFIG", "SET", "maxmemory", 0)
    assert {queue: len(found) for queue, found in scene.ids().items()} == {"billing": 1}


def test_a_transaction_that_has_ended_takes_nothing_more(scene: Scene):
    kept: list[Transaction] = []
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        mq.transact(kept.append)
        with pytest.raises(TransactionError, match="has ended"):
            kept[0].send("billing", {"total": 1})

        def block(tx: Transaction) -> None:
            kept.append(tx)
            raise LookupError

        with pytest.raises(LookupError):
            mq.transact(block)
        with pytest.raises(TransactionError, match="has ended"):
            kept[1].send("billing", {"total": 1})
    assert scene.is_untouched()


def test_an_empty_transaction_asks_the_server_nothing(scene: Scene):
    def count(mq: Sender) -> int:
        assert mq.transact(lambda tx: None) == ()
        stats = run(scene.admin, "INFO", "commandstats").decode()
        return sum(
            int(line.partition("calls=")[2].partition(",")[0])
            for line in stats.splitlines()
            if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:"))
        )

    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        assert count(mq) == count(mq)
