"""Ephemeral channels on real servers: who hears what, and what becomes of a broken connection."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import InvalidMessageError, SettingError, TopologyNotAppliedError, connect
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.topology.model import EphemeralRoute, FanoutRoute, MessageType, Queue, Target, Topology
from tests.support.consumers import COLOURS, Consumer, open_consumer
from tests.support.factories import make_topology, run, write_topology
from tests.support.listeners import PATIENCE, Listener
from tests.support.servers import Server

NEWS = MessageType(
    name="news.item",
    version=2,
    schema={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
)
TICKER = EphemeralRoute(name="ticker", accepts=("news.item",))


class Air:
    """One namespace on one server, and clients of the colour under test."""

    def __init__(self, server: Server, namespace: str, colour: str, stack: ExitStack) -> None:
        self.server, self.namespace, self.colour, self._stack = server, namespace, colour, stack
        self.admin = BlockingRedisConnection.open(parse_address(server.url))
        stack.callback(self.admin.close)
        self.topology = self.apply()

    def apply(self, *routes: Any, news: MessageType = NEWS, queues: tuple[Queue, ...] = ()) -> Topology:
        self.topology = make_topology(self.namespace, *queues, routes=routes or (TICKER,), messages=(news,))
        write_topology(self.admin, self.topology)
        return self.topology

    def client(self, topology: Topology | None = None) -> Consumer:
        made = open_consumer(self.colour, topology or self.topology, self.server.url)
        return self._stack.enter_context(made)

    def publish(self, mq: Consumer, channel: str, data: Any, **options: Any) -> int:
        return int(mq.call(mq.mq.publish(channel, data, **options)))

    def publish_raw(self, channel: str, payload: str) -> None:
        run(self.admin, "PUBLISH", Keys(self.namespace).channel(channel), payload)


@pytest.fixture(params=COLOURS)
def air(request: pytest.FixtureRequest, server: Server, namespace: str) -> Iterator[Air]:
    with ExitStack() as stack:
        yield Air(server, namespace, request.param, stack)


def until(holds: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# -- who hears what --------------------------------------------------------------------------------------


def test_everybody_who_listens_hears_a_message_and_the_sender_learns_how_many(air: Air):
    mq = air.client()
    assert air.publish(mq, "ticker", {"n": 0}) == 0
    first, second = Listener(mq, "ticker"), Listener(air.client(), "ticker")
    assert air.publish(mq, "ticker", {"n": 1}) == 2
    assert [first.next().data, second.next().data] == [{"n": 1}, {"n": 1}]
    assert first.nothing(), "what was published before it listened is gone"


def test_a_message_carries_what_a_sent_one_does_and_its_channel(air: Air):
    mq = air.client()
    ear = Listener(mq, "ticker")
    air.publish(mq, "ticker", {"n": 1}, id="one", headers={"tenant": "a"}, correlation_id="c")
    got = ear.next()
    assert (got.id, got.type, got.version, got.data) == ("one", "news.item", 2, {"n": 1})
    assert (got.channel, got.queue, got.pattern, got.correlation_id) == ("ticker", "ticker", None, "c")
    assert got.headers["tenant"] == "a"
    assert abs(got.sent_at - time.time()) < 60
    assert (got.attempt, got.delivery_count) == (1, 0)


def test_nothing_is_stored(air: Air):
    mq = air.client()
    before = run(air.admin, "KEYS", f"*{air.namespace}*")
    Listener(mq, "ticker", "undeclared")
    air.publish(mq, "ticker", {"n": 1})
    air.publish(mq, "undeclared", {"a": 1})
    assert sorted(run(air.admin, "KEYS", f"*{air.namespace}*")) == sorted(before)


def test_an_undeclared_channel_takes_any_object_and_nothing_else(air: Air):
    mq = air.client()
    ear = Listener(mq, "orders/new:1")
    air.publish(mq, "orders/new:1", {"anything": [1, 2]})
    assert ear.next().data == {"anything": [1, 2]}
    with pytest.raises(InvalidMessageError):
        air.publish(mq, "orders/new:1", [1])


def test_one_subscription_hears_several_channels_and_patterns(air: Air):
    mq = air.client()
    ear = Listener(mq, "news", "alerts.*", "log?")
    for channel in ("news", "alerts.critical", "alerts", "log1", "log12", "other"):
        air.publish(mq, channel, {"c": channel})
    heard = [ear.next() for _ in range(3)]
    assert sorted((one.channel, one.pattern) for one in heard) == [
        ("alerts.critical", "alerts.*"),
        ("log1", "log?"),
        ("news", None),
    ]
    assert ear.nothing()


def test_channels_are_added_and_removed_while_it_listens(air: Air):
    mq = air.client()
    ear = Listener(mq, "a")
    ear.call("add", "b", "c.*")
    assert [air.publish(mq, name, {"c": name}) for name in ("a", "b", "c.x")] == [1, 1, 1]
    assert sorted(ear.next().channel for _ in range(3)) == ["a", "b", "c.x"]
    ear.call("remove", "a", "c.*", "never")
    until(lambda: air.publish(mq, "a", {"late": 1}) == 0, "the server hears of it")
    assert [air.publish(mq, name, {"c": name}) for name in ("b", "c.x")] == [1, 0]
    assert ear.subscription.channels == ("b",)
    until(lambda: ear.next().data == {"c": "b"}, "what is still listened to comes")


def test_several_are_published_together_and_all_are_checked_first(air: Air):
    mq = air.client()
    ear = Listener(mq, "ticker", "a")
    assert mq.call(mq.mq.publish_many([("ticker", {"n": 1}), ("a", {"x": 1}), ("b", {})])) == [1, 1, 0]
    assert [ear.next().channel, ear.next().channel] == ["ticker", "a"]
    with pytest.raises(InvalidMessageError):
        mq.call(mq.mq.publish_many([("a", {"x": 2}), ("ticker", {"n": "two"})]))
    assert ear.nothing()


def test_a_namespace_hears_nothing_of_another(air: Air):
    mq = air.client()
    ear = Listener(mq, "*")
    other = air.client(make_topology(f"{air.namespace}x"))
    assert air.publish(other, "a", {"x": 1}) == 0
    assert ear.nothing()


# -- what is checked -------------------------------------------------------------------------------------


def test_what_breaks_the_schema_of_a_declared_channel_is_not_published(air: Air):
    mq = air.client()
    ear = Listener(mq, "ticker")
    with pytest.raises(InvalidMessageError) as raised:
        air.publish(mq, "ticker", {"n": "one"})
    assert (raised.value.path, raised.value.type) == ("/n", "news.item")
    with pytest.raises(InvalidMessageError):
        air.publish(mq, "ticker", {"n": 1}, type="other")
    with pytest.raises(InvalidMessageError):
        air.publish(mq, "ticker", {"n": 1, "pad": "x" * 1_048_577})
    assert ear.nothing()


def test_what_another_program_published_is_left_out_and_counted(air: Air, caplog: pytest.LogCaptureFixture):
    mq = air.client()
    ear = Listener(mq, "ticker")
    odd = (broadcast(data={"n": "one"}), broadcast(type="other", data={"n": 1}))
    for payload in ("no json", '{"n": 1}', *odd):
        air.publish_raw("ticker", payload)
    air.publish(mq, "ticker", {"n": 1})
    assert ear.next().data == {"n": 1}
    statistics = ear.subscription.statistics
    assert (statistics.invalid, statistics.received) == ({"ticker": 4}, {"ticker": 1})
    assert sum("left out" in record.message for record in caplog.records) == 1, "said once a channel"


def broadcast(*, type: str = "news.item", data: Any) -> str:
    return json.dumps({"id": "x", "type": type, "digest": "", "headers": {}, "data": data})


def test_a_schema_that_is_applied_anew_counts_for_both_sides_at_once(air: Air):
    mq, other = air.client(), air.client()
    ear = Listener(other, "ticker")
    air.publish(mq, "ticker", {"n": 1})
    assert ear.next().data == {"n": 1}
    air.apply(news=replace(NEWS, version=3, schema={"type": "object", "required": ["m"]}))
    with pytest.raises(InvalidMessageError):
        air.publish(mq, "ticker", {"n": 1})
    air.publish(mq, "ticker", {"m": 1})
    assert (got := ear.next()).data == {"m": 1}
    assert got.version == 3


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "é", 7, None, "-a"])
def test_a_name_that_no_channel_has_is_refused(air: Air, name: Any):
    mq = air.client()
    with pytest.raises(SettingError):
        air.publish(mq, name, {})
    with pytest.raises(SettingError):
        mq.mq.subscribe(name)


def test_a_pattern_is_heard_and_not_published_to(air: Air):
    with pytest.raises(SettingError, match="pattern"):
        air.publish(air.client(), "alerts.*", {})


@pytest.mark.parametrize("size", [0, True, "9", 100_001])
def test_a_buffer_that_cannot_be_is_refused(air: Air, size: Any):
    with pytest.raises(SettingError):
        air.client().mq.subscribe("a", buffer=size)


def test_queues_and_routes_that_store_are_sent_to_and_not_published_to_and_the_other_way_round(air: Air):
    queue = Queue(name="work")
    air.apply(TICKER, FanoutRoute(name="events", to=(Target(queue="work"),)), queues=(queue,))
    mq = air.client()
    for name in ("work", "events"):
        with pytest.raises(SettingError, match="stores its messages") as raised:
            air.publish(mq, name, {"a": 1})
        assert "send" in (raised.value.hint or "")
        with pytest.raises(SettingError, match="stores its messages"):
            Listener(mq, name)
    with pytest.raises(SettingError, match="ephemeral") as refused:
        mq.call(mq.mq.send("ticker", {"n": 1}))
    assert "publish" in (refused.value.hint or "")
    with pytest.raises(SettingError, match="is a route"):
        mq.receive("ticker")


def test_a_declared_channel_has_to_be_applied(air: Air):
    declared = make_topology(air.namespace, routes=(TICKER, replace(TICKER, name="new")), messages=(NEWS,))
    mq = air.client(declared)
    with pytest.raises(TopologyNotAppliedError):
        air.publish(mq, "new", {"n": 1})
    with pytest.raises(TopologyNotAppliedError):
        Listener(mq, "new")


# -- callbacks, counts, bounds ---------------------------------------------------------------------------


def test_a_callback_is_called_in_the_background_and_its_failure_stops_nothing(
    server: Server, namespace: str, caplog: pytest.LogCaptureFixture
):
    with ExitStack() as stack:
        air = Air(server, namespace, "blocking", stack)
        mq, heard, changed = air.client(), list[int](), threading.Event()

        def note(message: Any) -> None:
            heard.append(message.data["n"])
            changed.set()
            if message.data["n"] == 1:
                raise ValueError("no")

        subscription = mq.mq.subscribe("a")
        subscription.listen(note)
        for number in (1, 2):
            changed.clear()
            mq.mq.publish("a", {"n": number})
            assert changed.wait(PATIENCE)
        assert heard == [1, 2]
        until(lambda: any("callback failed" in record.message for record in caplog.records), "it is logged")
        subscription.stop()
        mq.mq.publish("a", {"n": 3})
        assert subscription.next(PATIENCE).data == {"n": 3}
        assert heard == [1, 2]


def test_a_subscription_is_a_context_and_an_iterator(server: Server, namespace: str):
    with ExitStack() as stack:
        air = Air(server, namespace, "blocking", stack)
        mq = air.client()
        with mq.mq.subscribe("a") as heard:
            mq.mq.publish_many([("a", {"n": number}) for number in range(3)])
            found = []
            for message in heard:
                found.append(message.data["n"])
                if len(found) == 3:
                    break
        assert found == [0, 1, 2]
        assert list(heard) == [], "a closed subscription has ended"


async def test_an_asyncio_subscription_iterates_and_calls_back(server: Server, namespace: str):
    with ExitStack() as stack:
        air = Air(server, namespace, "asyncio", stack)
        heard, both = list[int](), asyncio.Event()

        async def note(message: Any) -> None:
            heard.append(message.data["n"])
            if len(heard) == 2:
                both.set()
            raise ValueError("a callback that fails stops nothing")

        async with connect(air.topology, url=server.url) as mq, asyncio.timeout(PATIENCE):
            async with mq.subscribe("a") as subscription:
                await mq.publish("a", {"n": 0})
                async for message in subscription:
                    assert message.data == {"n": 0}
                    break
                await subscription.listen(note)
                await mq.publish_many([("a", {"n": 1}), ("a", {"n": 2})])
                await both.wait()
                await subscription.stop()
            assert heard == [1, 2]
            assert [message async for message in subscription] == [], "a closed one has ended"


def test_what_was_published_and_heard_is_counted_by_channel(air: Air):
    mq = air.client()
    ear = Listener(mq, "a", "b")
    for channel in ("a", "a", "b", "c"):
        air.publish(mq, channel, {"x": 1})
    with pytest.raises(InvalidMessageError):
        air.publish(mq, "a", [1])
    for _ in range(3):
        ear.next()
    stats = mq.mq.stats()
    assert (stats.published, stats.received) == ({"a": 2, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 0})
    assert (stats.failed, ear.subscription.statistics.received) == ({"a": 1}, {"a": 2, "b": 1})
    assert abs(stats.since - time.time()) < 600


def test_a_slow_reader_costs_messages_and_not_memory(air: Air, caplog: pytest.LogCaptureFixture):
    mq = air.client()
    ear = Listener(mq, "a", buffer=5)
    mq.call(mq.mq.publish_many([("a", {"n": number}) for number in range(50)]))
    until(lambda: heard_of(ear) == 50, "all of them came")
    found = [ear.next().data["n"] for _ in range(5)]
    assert found == [0, 1, 2, 3, 4]
    assert ear.subscription.statistics.dropped == {"a": 45}
    assert sum("faster than they are read" in record.message for record in caplog.records) == 1


def heard_of(ear: Listener) -> int:
    ear.consumer.call(ear.consumer.mq.publish("nobody", {}))  # the loop of an asyncio client runs meanwhile
    statistics = ear.subscription.statistics
    return ear.subscription._ear.inbox.waiting + sum(statistics.dropped.values())


# -- broken connections ----------------------------------------------------------------------------------


def test_a_broken_connection_is_said_once_mended_and_counted(air: Air, caplog: pytest.LogCaptureFixture):
    mq = air.client()
    ear = Listener(mq, "ticker", "a.*")
    run(air.admin, "CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: reaches(air, mq, ear), "it listens again")
    assert ear.subscription.statistics.interruptions == 1
    assert sum("trying again" in record.message for record in caplog.records) == 1
    assert sum("is back" in record.message for record in caplog.records) == 1


def reaches(air: Air, mq: Consumer, ear: Listener) -> bool:
    """Whether both channels are heard; the loop of an asyncio client runs only while it is called."""
    mq.call(ear.subscription.next(0.05))
    return air.publish(mq, "ticker", {"n": 1}) == 1 and air.publish(mq, "a.x", {"n": 1}) == 1


def test_closing_a_client_closes_its_subscriptions(air: Air):
    mq = air.client()
    ear = Listener(mq, "a")
    mq.close()
    assert ear.call("next") is None
    until(lambda: run(air.admin, "PUBLISH", Keys(air.namespace).channel("a"), "x") == 0, "nobody listens")
