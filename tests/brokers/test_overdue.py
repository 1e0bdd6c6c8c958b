"""Counting what waits although its time is over: exact where it looks, and never looking at too much."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.protocol import OverdueStretch
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.operations import status as looking
from leanmq_topology.operations.status import Overdue, count_overdue, read_status
from leanmq_topology.topology.model import Queue
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage

HOUR_MS = 3_600_000


@pytest.fixture
def stage(server: Server, namespace: str) -> Iterator[Stage]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    topology = make_topology(namespace, Queue(name="plain"), Queue(name="other"))
    yield Stage(topology, RedisBroker(namespace), connection.execute, connection, server.url)
    connection.close()


class StageLink:
    """What looking at a namespace takes."""

    def __init__(self, stage: Stage) -> None:
        self.broker, self.connection = stage.broker, stage.admin


def overdue(stage: Stage) -> dict[str, Overdue]:
    link = StageLink(stage)
    return dict(count_overdue(link, read_status(link, stage.topology.broker.namespace)).overdue)


def test_what_waits_expired_behind_a_living_message_is_counted_and_left_where_it_is(stage: Stage):
    stage.add_expired("plain", "handed out")
    stage.fetch("plain")
    stage.send("plain", "living")
    stage.add_expired("plain", *(f"m{n}" for n in range(40)))
    stage.send("plain", "living longer", ttl_ms=HOUR_MS)
    assert stage.carry(stage.broker.count_expired("plain")) == OverdueStretch("", expired=40, looked_at=42)
    assert overdue(stage) == {"plain": Overdue(expired=40, looked_at=42)}
    assert stage.look("plain").ready == 42


def test_a_queue_that_is_not_there_has_nothing_that_waits(stage: Stage):
    assert stage.carry(stage.broker.count_expired("nowhere")) == OverdueStretch("", 0, 0)


def test_a_look_is_bounded_and_the_next_goes_on_behind_it(stage: Stage):
    stage.add_expired("plain", *(f"m{n}" for n in range(1200)))
    looks, after = [], ""
    while not looks or after:
        part = stage.carry(stage.broker.count_expired("plain", after=after))
        looks.append((part.expired, part.looked_at))
        after = part.after
    assert looks == [(500, 500), (500, 500), (200, 200)]
    stage.fetch("plain", count=1100)
    assert stage.carry(stage.broker.count_expired("plain", after="0-1")).looked_at == 100, "handed out since"


def test_a_look_reads_only_so_many_bytes(stage: Stage):
    large = b'"' + b"x" * 1024 * 1024 + b'"'
    for number in range(20):
        send = stage.outgoing("plain", f"m{number}")
        whole = replace(send, envelope=replace(send.envelope, data=large))
        stage.carry(stage.broker.send(stage.flush(whole)))
    part = stage.carry(stage.broker.count_expired("plain"))
    assert part.after
    assert part.looked_at == 16
    assert stage.carry(stage.broker.count_expired("plain", after=part.after)).looked_at == 4


def test_a_status_looks_at_so_many_messages_whatever_there_is(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    for queue in ("plain", "other"):
        stage.add_expired(queue, *(f"m{n}" for n in range(600)))
    assert overdue(stage) == {"other": Overdue(600, 600), "plain": Overdue(600, 600)}
    monkeypatch.setattr(looking, "LOOKS_IN_ALL", 2)
    assert overdue(stage) == {"other": Overdue(500, 500), "plain": Overdue(500, 500)}
    monkeypatch.setattr(looking, "LOOKS_IN_ALL", 1)
    assert overdue(stage) == {"other": Overdue(500, 500)}
