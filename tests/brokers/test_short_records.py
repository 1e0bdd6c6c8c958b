"""A record says in one field that its queue takes all there is, for exactly as long as that is so.

What is sent goes by that field, so each step that changes a queue has to keep to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from leanmq_topology import connect_sync
from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.errors import QueueFullError, TopologyNotAppliedError
from leanmq_topology.plan.changes import Pruning
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.topology.model import FanoutRoute, Lifecycle, OnRemove, Queue, Target, Topology
from tests.support.factories import make_topology, run
from tests.support.servers import Server

OLD = Queue(name="old", lifecycle=Lifecycle(on_remove=OnRemove.DRAIN))
NEW = Queue(name="new", ttl_ms=60_000)


@pytest.fixture
def link(server: Server, namespace: str) -> Iterator[BlockingLink]:
    with open_blocking(server.url, namespace=namespace, folder=Path()) as opened:
        yield opened


def shop(namespace: str, *queues: Queue) -> Topology:
    both = FanoutRoute(name="both", to=tuple(Target(queue=queue.name) for queue in queues))
    return make_topology(namespace, *queues, routes=(both,))


def put(link: BlockingLink, topology: Topology) -> None:
    apply_changes(link, topology, who="ada", approve=lambda change: True, pruning=Pruning(frozenset()))


def read_short(link: BlockingLink, queue: str) -> str | None:
    found = run(link.connection, "HGET", link.broker.keys.meta(queue), "short")
    return None if found is None else found.decode()


def count_sent(link: BlockingLink, *queues: str) -> list[int]:
    return [state.counters["sent"] for state in link.connection.execute(link.broker.inspect_queues(queues))]


@contextmanager
def shortened(link: BlockingLink) -> Iterator[None]:
    """What is done here reads no limit of a queue one by one."""
    before = run(link.connection, "INFO", "commandstats").decode().partition("cmdstat_hmget:calls=")[2]
    yield
    after = run(link.connection, "INFO", "commandstats").decode().partition("cmdstat_hmget:calls=")[2]
    assert before.partition(",")[0] == after.partition(",")[0]


def test_an_applied_queue_that_takes_all_at_once_says_where_it_lies_its_counter_and_its_ttl(link, namespace):
    put(link, shop(namespace, OLD, NEW))
    assert read_short(link, "old") == f"{link.broker.keys.queue('old')} 1 "
    assert read_short(link, "new") == f"{link.broker.keys.queue('new')} 2 60000"


@pytest.mark.parametrize("limit", [{"max_length": 1}, {"delay_ms": 50}])
def test_a_limit_takes_the_word_back_and_lifting_it_gives_it_again(link, namespace, limit):
    put(link, shop(namespace, OLD, NEW))
    first = read_short(link, "old")
    put(link, shop(namespace, replace(OLD, **limit), NEW))
    assert (read_short(link, "old"), read_short(link, "new") is None) == (None, False)
    put(link, shop(namespace, OLD, NEW))
    assert read_short(link, "old") == first


def test_a_sender_that_has_not_heard_of_a_new_limit_keeps_to_it(server: Server, link, namespace):
    topology = shop(namespace, OLD, NEW)
    put(link, topology)
    with connect_sync(topology, url=server.url) as mq:
        mq.send("both", {})
        put(link, shop(namespace, replace(OLD, max_length=1), NEW))
        for target in ("both", "old"):
            with pytest.raises(QueueFullError):
                mq.send(target, {})
    assert count_sent(link, "old", "new") == [1, 1]


def test_a_queue_that_drains_takes_nothing_more_and_keeps_its_count(server: Server, link, namespace):
    topology = shop(namespace, OLD, NEW)
    put(link, topology)
    with connect_sync(topology, url=server.url) as mq:
        mq.send("both", {})
        put(link, shop(namespace, NEW))
        assert read_short(link, "old") is None
        with pytest.raises(TopologyNotAppliedError):
            mq.send("old", {})
        mq.send("both", {})  # the route leads to the other one only by now
    put(link, topology)
    assert read_short(link, "old")
    assert count_sent(link, "old", "new") == [1, 2]


def test_a_queue_made_again_counts_anew_and_the_others_go_on(server: Server, link, namespace):
    kept = Queue(name="kept")
    topology = shop(namespace, replace(OLD, lifecycle=Lifecycle()), NEW, kept)
    put(link, topology)
    with connect_sync(topology, url=server.url) as mq:
        mq.send("both", {})
        with shortened(link):
            mq.send("both", {})
        for delivery in mq.receive("old", 2, wait=5):
            delivery.ack()
        put(link, shop(namespace, NEW, kept))
        assert count_sent(link, "new", "kept") == [2, 2]
        assert b"1" not in b"".join(run(link.connection, "HKEYS", link.broker.keys.sent))
        put(link, topology)
        assert count_sent(link, "old", "new", "kept") == [0, 2, 2]
        mq.send("both", {})
    assert count_sent(link, "old", "new", "kept") == [1, 3, 3]


def test_a_pair_that_no_topology_declares_is_sent_to_by_it_too(link, namespace):
    put(link, shop(namespace, NEW))
    broker, keys = link.broker, link.broker.keys
    link.connection.execute(broker.create_pair(Queue(name="pair")))
    assert read_short(link, "pair") == f"{keys.queue('pair')} 2 "
    link.connection.execute(broker.delete_pair("pair", dead_letters=True))
    link.connection.execute(broker.create_pair(Queue(name="pair")))
    assert read_short(link, "pair") == f"{keys.queue('pair')} 3 "
