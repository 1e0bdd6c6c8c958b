"""What a namespace remembers of the applies that changed it, on real servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.brokers.protocol import Operation
from leanmq_topology.brokers.redis.history import MOST_NAMED, MOST_REVISIONS
from leanmq_topology.errors import BlockedChangeError, BrokerError, ConcurrentApplyError
from leanmq_topology.plan.changes import Pruning
from leanmq_topology.plan.revision import PastRevision
from leanmq_topology.reconciler import Link, apply_changes
from leanmq_topology.topology.model import FanoutRoute, Lifecycle, OnRemove, Queue, Target, Topology
from leanmq_topology.topology.specs import fingerprint, resource_specs
from tests.support.factories import make_topology, run
from tests.support.servers import Server

BILLING, EMAILS = Queue(name="billing", max_length=100), Queue(name="emails")
EVENTS = FanoutRoute(name="events", to=(Target(queue="billing"), Target(queue="emails")))


@pytest.fixture
def link(server: Server, namespace: str) -> Iterator[BlockingLink]:
    with open_blocking(server.url, namespace=namespace, folder=Path()) as opened:
        yield opened


def shop(namespace: str, *queues: Queue) -> Topology:
    return make_topology(namespace, *queues, routes=(EVENTS,) if queues == (BILLING, EMAILS) else ())


def apply(link: Link, topology: Topology, **options: Any) -> None:
    apply_changes(link, topology, **{"who": "ada@host", "approve": lambda change: True, **options})


def read(link: BlockingLink, count: int = 20) -> Sequence[PastRevision]:
    return link.connection.execute(link.broker.read_history(count=count))


class Before:
    """A link whose connection does something else just before the operation of a name."""

    def __init__(self, link: BlockingLink, name: str, act: Any) -> None:
        self.broker, self.connection = link.broker, self
        self._within, self._name, self._act = link.connection, name, act

    def execute(self, operation: Operation[Any]) -> Any:
        if operation.name == self._name:
            self._act()
        return self._within.execute(operation)

    def close(self) -> None:
        """Whoever opened the link closes it."""


def test_a_revision_is_remembered_with_who_when_from_what_and_what_it_changed(link, namespace):
    first, second = shop(namespace, BILLING, EMAILS), shop(namespace, replace(BILLING, max_length=7))
    apply(link, first, git_commit="abc", clock=lambda: 1234)
    apply(link, second, who="bob", pruning=Pruning(), clock=lambda: 5678)

    [latest, oldest] = read(link)
    assert oldest == PastRevision(
        generation=1,
        by="ada@host",
        at_ms=1234,
        commit="abc",
        fingerprint=fingerprint(resource_specs(first)),
        summary={"create": 3},
        changes={"queues.billing": "create", "queues.emails": "create", "routes.events": "create"},
    )
    assert (latest.generation, latest.by, latest.at_ms, latest.commit) == (2, "bob", 5678, None)
    assert latest.fingerprint == fingerprint(resource_specs(second))
    assert latest.summary == {"update": 1, "delete": 2}
    assert latest.changes == {
        "queues.billing": "update",
        "routes.events": "delete",
        "queues.emails": "delete",
    }
    assert read(link, count=1) == [latest]


def test_an_apply_that_finds_nothing_to_do_is_not_remembered(link, namespace):
    apply(link, shop(namespace, BILLING, EMAILS))
    apply(link, shop(namespace, BILLING, EMAILS))
    assert len(read(link)) == 1


def test_a_revision_is_remembered_in_the_step_that_makes_its_generation(link, namespace):
    """One that did not come so far is not, and who completes it is who is remembered."""
    keys, topology = link.broker.keys, shop(namespace, BILLING, EMAILS)
    interrupted = Before(link, "apply_commit", lambda: run(link.connection, "DEL", keys.lock))
    with pytest.raises(ConcurrentApplyError):
        apply(interrupted, topology)
    assert run(link.connection, "HGET", keys.topology, "generation") is None
    assert read(link) == []

    apply(link, topology, who="bob")
    [only] = read(link)
    assert (only.generation, only.by) == (1, "bob")
    assert (only.completes, only.changes) == (True, {})

    apply(link, shop(namespace, BILLING, EMAILS, Queue(name="more")), who="eve")
    assert [revision.completes for revision in read(link)] == [False, True]


def test_what_turned_out_not_to_go_is_not_told_as_gone(link, namespace):
    apply(link, shop(namespace, BILLING, EMAILS))

    def send() -> None:
        run(link.connection, "XADD", link.broker.keys.queue("emails"), "*", "data", "{}")

    with pytest.raises(BlockedChangeError, match=r"in queues\.emails"):
        apply(Before(link, "apply_remove", send), shop(namespace, BILLING), pruning=Pruning())
    assert read(link)[0].changes == {"routes.events": "delete"}


def test_how_a_queue_leaves_is_remembered(link, namespace):
    leaving = [
        Queue(name="a", lifecycle=Lifecycle(on_remove=OnRemove.DRAIN)),
        Queue(name="b", lifecycle=Lifecycle(on_remove=OnRemove.RETAIN)),
    ]
    apply(link, shop(namespace, BILLING, *leaving))
    run(link.connection, "XADD", link.broker.keys.queue("a"), "*", "data", "{}")
    apply(link, shop(namespace, BILLING), pruning=Pruning())
    assert read(link)[0].changes == {"queues.a": "drain", "queues.b": "retain"}


def test_of_a_large_apply_all_is_counted_and_a_part_is_named(link, namespace):
    apply(link, shop(namespace, *(Queue(name=f"q{n:03}") for n in range(MOST_NAMED + 30))))
    [only] = read(link)
    assert only.summary == {"create": MOST_NAMED + 30}
    assert (only.changed, len(only.changes)) == (MOST_NAMED + 30, MOST_NAMED)


def test_the_oldest_revisions_are_forgotten(link, namespace):
    apply(link, shop(namespace, BILLING))
    history = link.broker.keys.history
    [(_, fields)] = run(link.connection, "XRANGE", history, "-", "+")
    for _ in range(MOST_REVISIONS + 500):
        run(link.connection, "XADD", history, "*", *fields)
    apply(link, shop(namespace, BILLING, EMAILS))
    assert MOST_REVISIONS <= run(link.connection, "XLEN", history) < MOST_REVISIONS + 250
    assert read(link, count=MOST_REVISIONS)[0].generation == 2


def test_what_lies_in_its_place_and_is_not_ours_stops_an_apply_before_it_writes(link, namespace):
    keys = link.broker.keys
    run(link.connection, "SET", keys.history, "mine")
    with pytest.raises(BrokerError, match=r":history holds a string that is not ours"):
        apply(link, shop(namespace, BILLING))
    assert run(link.connection, "EXISTS", keys.queue("billing"), keys.plan, keys.lock) == 0
    assert run(link.connection, "HGET", keys.topology, "owner") is None


OURS = ("generation", "9", "by", "x", "at", "1", "commit", "", "fingerprint", "f", "changes")


@pytest.mark.parametrize("fields", [("data", "{}"), (*OURS, "{"), (*OURS, "[]"), (*OURS, '{"summary": 1}')])
def test_an_entry_that_is_not_ours_is_named(link, namespace, fields):
    apply(link, shop(namespace, BILLING))
    entry = run(link.connection, "XADD", link.broker.keys.history, "*", *fields).decode()
    with pytest.raises(BrokerError, match=f"entry {entry} of .*:history is not a revision"):
        read(link)


@pytest.mark.parametrize("count", [0, MOST_REVISIONS + 1])
def test_a_look_back_is_bounded(link, count):
    with pytest.raises(ValueError, match="1 to 1000 revisions"):
        link.broker.read_history(count=count)
