"""Topic routes on real servers, from both clients: who gets a copy, what is counted, what travels along."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.errors import InvalidMessageError, QueueFullError, SettingError
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target, TopicRoute, Topology
from tests.support.factories import make_topology, run, write_topology
from tests.support.senders import open_sender
from tests.support.servers import Server
from tests.support.stage import COLOURS

ANY = {"type": "object"}
AUDIT = TopicRoute(
    name="audit",
    to=(
        Target(queue="critical", topics=("*.critical", "disk.#")),
        Target(queue="rich", topics=("user.#",), match={"data.total": {"minimum": 50}}),
        Target(queue="users", topics=("user.*",)),
    ),
)


class Scene:
    """The topology above on a server, a client, and what lies in its queues."""

    def __init__(self, server: Server, namespace: str, colour: str) -> None:
        self.admin = BlockingRedisConnection.open(parse_address(server.url))
        self.server, self.colour = server, colour
        self.topology = make_topology(
            namespace,
            *(Queue(name=name, accepts=("user.created", "disk")) for name in ("critical", "rich")),
            Queue(name="users", accepts=("user.created", "disk"), max_length=3),
            messages=(MessageType(name="user.created", schema=ANY), MessageType(name="disk", schema=ANY)),
            routes=(AUDIT, FanoutRoute(name="all", to=(Target(queue="critical"),))),
        )
        write_topology(self.admin, self.topology)

    def stored(self, queue: str) -> list[Envelope]:
        key = Keys(self.topology.broker.namespace).queue(queue)
        return [decode_fields(flat) for _, flat in run(self.admin, "XRANGE", key, "-", "+")]

    def holders(self) -> dict[str, list[str]]:
        """Queue -> ids in it, the empty ones left out."""
        found = {name: [one.id for one in self.stored(name)] for name in self.topology.queues}
        return {name: ids for name, ids in found.items() if ids}

    def count_unrouted(self) -> int:
        broker = RedisBroker(self.topology.broker.namespace)
        return self.admin.execute(broker.inspect_routes(["audit"]))["audit"]["unrouted"]

    def apply(self, route: TopicRoute) -> None:
        self.topology = replace(self.topology, routes={**self.topology.routes, "audit": route})
        write_topology(self.admin, self.topology, generation=2)


@pytest.fixture(params=COLOURS)
def scene(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    found = Scene(server, namespace, request.param)
    yield found
    found.admin.close()


def test_the_topic_of_a_send_chooses_who_gets_a_copy(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        first = mq.send("audit", {"total": 1}, type="disk", topic="disk.full")
        second = mq.send("audit", {"total": 60}, type="user.created", topic="user.critical")
        [third] = mq.send_many("audit", [{"total": 60}], type="user.created", topic="user.address.changed")
    assert scene.holders() == {"critical": [first, second], "rich": [second, third], "users": [second]}
    [envelope] = scene.stored("users")
    assert (envelope.type, envelope.headers["leanmqtopic"]) == ("user.created", "user.critical")


def test_without_a_topic_the_type_is_the_topic(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        sent = mq.send("audit", {}, type="user.created")
        other = mq.send("audit", {}, type="disk")
    assert scene.holders() == {"users": [sent], "critical": [other]}
    assert "leanmqtopic" not in scene.stored("users")[0].headers


def test_an_event_nobody_wants_succeeds_and_is_counted(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        assert mq.send("audit", {}, type="disk", topic="nobody.cares")
        assert len(mq.send_many("audit", [{}, {}], type="disk", topic="a")) == 2
    assert scene.holders() == {}
    assert scene.count_unrouted() == 3


def test_a_full_queue_withholds_all_copies_only_from_topics_it_wants(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        mq.send_many("audit", [{}] * 3, type="user.created")
        with pytest.raises(QueueFullError) as caught:
            mq.send("audit", {"total": 99}, type="disk", topic="user.critical")
        assert caught.value.queue == "users"
        mq.send("audit", {}, type="disk", topic="disk.full")
    assert {name: len(ids) for name, ids in scene.holders().items()} == {"users": 3, "critical": 1}


def test_a_client_follows_the_applied_patterns_by_itself(scene: Scene):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq:
        first = mq.send("audit", {}, type="disk", topic="user.new")
        scene.apply(TopicRoute(name="audit", to=(Target(queue="critical", topics=("user.*",)),)))
        second = mq.send("audit", {}, type="disk", topic="user.new")
    assert scene.holders() == {"users": [first], "critical": [second]}


@pytest.mark.parametrize("topic", ["user.*", "#", "a..b", "", "a b", 5])
def test_a_topic_that_is_none_is_refused_and_nothing_is_sent(scene: Scene, topic: object):
    with open_sender(scene.colour, scene.topology, scene.server.url) as mq, pytest.raises(SettingError):
        mq.send("audit", {}, type="disk", topic=topic)
    assert scene.holders() == {}


@pytest.mark.parametrize("target", ["all", "critical"])
def test_a_topic_for_what_is_no_topic_route_is_an_error_with_a_hint(scene: Scene, target: str):
    with (
        open_sender(scene.colour, scene.topology, scene.server.url) as mq,
        pytest.raises(SettingError) as caught,
    ):
        mq.send(target, {}, type="disk", topic="disk.full")
    assert caught.value.hint
    assert scene.holders() == {}


def test_a_type_that_not_every_queue_takes_is_refused_whatever_the_topic(scene: Scene):
    with (
        open_sender(scene.colour, scene.topology, scene.server.url) as mq,
        pytest.raises(InvalidMessageError, match="takes only"),
    ):
        mq.send("audit", {}, type="stranger", topic="disk.full")
    assert scene.holders() == {}


def test_the_applied_route_of_the_record_is_a_topic_route(scene: Scene):
    assert isinstance(scene.topology, Topology)
    broker = RedisBroker(scene.topology.broker.namespace)
    fields = scene.admin.execute(broker.read_addresses(["audit"]))
    assert fields["routes.audit"]["spec"]["to"][0] == {
        "queue": "critical", "match": None, "topics": ["*.critical", "disk.#"],
    }  # fmt: skip
