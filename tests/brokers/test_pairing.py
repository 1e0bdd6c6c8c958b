"""Pairs that no topology declares, and messages handled by hand: on every server, in both colours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs
from msgspec.structs import replace

from leanmq_topology.brokers.protocol import (
    Declared,
    Duplicate,
    Dying,
    Pair,
    Replayed,
    Revival,
    Stale,
    Stored,
)
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import BrokerError, TopologyNotAppliedError
from leanmq_topology.messages.envelope import Once
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import KeepAcked, OnExpire, Queue
from tests.support.factories import make_topology, write_topology
from tests.support.processes import wait_until
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, open_carrier

PAIR = Queue(name="a:b{1}", keep_acked=KeepAcked(count=3), on_expire=OnExpire.DISCARD)
NAME = PAIR.name
BY_HAND = Failure("", "by hand")


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        yield Stage(
            make_topology(namespace, Queue(name="declared"), Queue(name="small", max_length=1)),
            RedisBroker(namespace),
            carry,
            admin,
            server.url,
        )
    admin.close()


@pytest.fixture
def pair(stage: Stage) -> Pair:
    made = stage.carry(stage.broker.create_pair(PAIR))
    assert isinstance(made, Pair)
    return made


def dead_ids(stage: Stage, queue: str = NAME) -> list[str]:
    entries = stage.carry(stage.broker.read_dead_letters(queue, after="", count=100))
    return [entry.letter.envelope.id for entry in entries]


def kill(stage: Stage, *ids: str) -> list[str]:
    """Send these, dead-letter them, and return where they lie."""
    stage.send(NAME, *ids)
    dying = [Dying(one, DeadReason.FAILED, BY_HAND) for one in stage.fetch(NAME)]
    stage.carry(stage.broker.dead_letter(NAME, "me", dying))
    return [one.entry_id for one in stage.carry(stage.broker.read_dead_letters(NAME, after="", count=100))]


# -- pairs -----------------------------------------------------------------------------------------------


def test_a_pair_made_twice_is_the_one_made_first(stage: Stage, pair: Pair):
    stage.send(NAME, "m1")
    assert stage.carry(stage.broker.create_pair(PAIR)) == pair
    assert stage.carry(stage.broker.find_pair(NAME)) == pair
    assert stage.carry(stage.broker.list_pairs()) == [pair]
    assert [one.envelope.id for one in stage.fetch(NAME)] == ["m1"]


def test_what_is_sent_to_a_pair_is_handed_out_under_the_entry_id_that_the_sender_was_told(
    stage: Stage, pair: Pair
):
    flush = structs.replace(
        stage.flush(stage.outgoing(NAME, "m1"), stage.outgoing(NAME, "m2")), tells_entries=True
    )
    stored = stage.carry(stage.broker.send(flush))
    assert stage.carry(stage.broker.send(flush)) == stored, "a resend tells what the first send told"
    assert [(one.entry_id, one.envelope.id) for one in stage.fetch(NAME)] == [
        (result.entry_id, result.id) for result in stored if isinstance(result, Stored)
    ]


def test_a_delayed_message_has_no_entry_id_to_tell(stage: Stage, pair: Pair):
    flush = structs.replace(stage.flush(stage.outgoing(NAME, "m1", delay_ms=60_000)), tells_entries=True)
    assert stage.carry(stage.broker.send(flush)) == [Stored("m1", 1)]


def test_a_pair_that_lost_its_group_gets_it_back_with_its_messages(stage: Stage, pair: Pair):
    stage.send(NAME, "m1")
    stage.raw("XGROUP", "DESTROY", stage.keys.queue(NAME), "g")
    assert stage.carry(stage.broker.create_pair(PAIR)) == pair
    assert [one.envelope.id for one in stage.fetch(NAME)] == ["m1"]


def test_a_worker_too_may_mend_the_group_of_a_pair(stage: Stage, pair: Pair):
    stage.send(NAME, "m1")
    stage.raw("XGROUP", "DESTROY", stage.keys.queue(NAME), "g")
    assert stage.carry(stage.broker.rescue_group(NAME)) == 1


def test_a_declared_queue_is_neither_made_nor_deleted_by_a_call(stage: Stage):
    assert stage.carry(stage.broker.create_pair(Queue(name="declared"))) == Declared("declared")
    assert stage.carry(stage.broker.delete_pair("declared", dead_letters=True)) == Declared("declared")
    assert stage.carry(stage.broker.list_pairs()) == []


def test_a_foreign_key_in_the_way_is_named_and_left_alone(stage: Stage):
    stage.raw("SET", stage.keys.queue(NAME), "mine")
    with pytest.raises(BrokerError, match="holds a string"):
        stage.carry(stage.broker.create_pair(PAIR))
    assert stage.carry(stage.broker.find_pair(NAME)) is None


def test_a_deleted_pair_leaves_nothing_and_senders_are_told(stage: Stage, pair: Pair):
    kill(stage, "m1")
    stage.send(NAME, "m2", delay_ms=60_000)
    assert stage.carry(stage.broker.delete_pair(NAME, dead_letters=True)) is True
    assert stage.carry(stage.broker.delete_pair(NAME, dead_letters=True)) is False
    assert stage.send(NAME, "m3") == [Stale(NAME, None)]
    with pytest.raises(TopologyNotAppliedError):
        stage.fetch(NAME)
    left = stage.raw("KEYS", f"{{{stage.broker.namespace}}}:*{stage.keys.queue(NAME).rpartition(':')[2]}")
    assert left == []


def test_what_was_sent_to_a_deleted_pair_is_no_duplicate_in_one_of_its_name(stage: Stage, pair: Pair):
    once = (Once(b"one", 60_000),)
    assert stage.send(NAME, "m1", once=once) == [Stored("m1", 1)]
    stage.carry(stage.broker.delete_pair(NAME, dead_letters=True))
    stage.carry(stage.broker.create_pair(PAIR))
    assert stage.send(NAME, "m2", once=once) == [Stored("m2", 1)]
    stage.carry(stage.broker.create_pair(PAIR))
    assert stage.send(NAME, "m3", once=once) == [Duplicate("m2", False)]


def test_dead_letters_can_outlive_their_pair(stage: Stage, pair: Pair):
    kill(stage, "m1")
    assert stage.carry(stage.broker.delete_pair(NAME, dead_letters=False)) is True
    assert stage.carry(stage.broker.delete_pair(NAME, dead_letters=False)) is False
    assert stage.carry(stage.broker.find_pair(NAME)) == structs.replace(pair, has_queue=False)
    assert dead_ids(stage) == ["m1"]
    assert stage.raw("EXISTS", stage.keys.meta(NAME)) == 0
    assert stage.carry(stage.broker.create_pair(PAIR)) == pair
    assert stage.carry(stage.broker.delete_pair(NAME, dead_letters=True)) is True
    assert dead_ids(stage) == []


def test_a_sender_learns_that_a_pair_was_declared_meanwhile(stage: Stage, pair: Pair):
    stage.send(NAME, "m1")
    topology = make_topology(stage.broker.namespace, replace(PAIR, max_length=1))
    write_topology(stage.admin, topology, generation=2)
    [answer] = stage.send(NAME, "m2")
    assert isinstance(answer, Stale)
    assert answer.digest
    assert [one.envelope.id for one in stage.fetch(NAME)] == ["m1"]


# -- by hand ---------------------------------------------------------------------------------------------


def test_a_message_is_deleted_whether_or_not_it_was_delivered(stage: Stage, pair: Pair):
    stage.send(NAME, "m1", "m2", "m3")
    first = stage.fetch(NAME, count=1)[0]
    ready = [entry[0].decode() for entry in stage.raw("XRANGE", stage.keys.queue(NAME), "-", "+")]
    assert ready[0] == first.entry_id
    assert stage.carry(stage.broker.delete(NAME, ready[:2])) == 2
    assert stage.carry(stage.broker.delete(NAME, ready[:2])) == 0
    assert [one.envelope.id for one in stage.fetch(NAME)] == ["m3"]
    assert stage.look(NAME).in_flight == 1
    assert stage.look(NAME).kept == 0


def test_what_is_deleted_out_of_the_trash_of_a_purge_does_not_come_back(stage: Stage, pair: Pair):
    stage.send(NAME, "m1", "m2")
    held = stage.fetch(NAME)
    gone = stage.carry(stage.broker.purge(NAME, "one", keep_ms=60_000))
    assert stage.carry(stage.broker.delete(NAME, [held[0].entry_id])) == 0
    stage.carry(stage.broker.undo_purge(gone, count=10))
    stage.lapse(NAME, held[1])
    _, claimed = stage.carry(stage.broker.claim(PAIR, "other", cursor="0-0", count=10))
    assert [one.envelope.id for one in claimed] + [one.envelope.id for one in stage.fetch(NAME)] == ["m2"]


def test_a_message_is_buried_once_whether_or_not_it_was_delivered(stage: Stage, pair: Pair):
    stage.send(NAME, "m1", "m2", "m3")
    entries = [entry[0].decode() for entry in stage.raw("XRANGE", stage.keys.queue(NAME), "-", "+")]
    stage.fetch(NAME, count=1)
    assert stage.carry(stage.broker.bury(NAME, [*entries[:2], entries[0]], BY_HAND)) == 2
    assert stage.carry(stage.broker.bury(NAME, entries[:2], BY_HAND)) == 0
    dead = stage.carry(stage.broker.read_dead_letters(NAME, after="", count=10))
    assert [(one.letter.envelope.id, one.letter.envelope.attempt) for one in dead] == [("m1", 1), ("m2", 0)]
    assert {one.letter.reason for one in dead} == {DeadReason.MANUAL}
    assert {one.letter.failure for one in dead} == {BY_HAND}
    assert [one.envelope.id for one in stage.fetch(NAME)] == ["m3"]
    assert stage.look(NAME).counters["dead_lettered"] == 2


def test_a_dead_letter_can_be_replayed_to_another_queue(stage: Stage, pair: Pair):
    [entry] = kill(stage, "m1")
    there = [Revival(entry, {"x": "y"})]
    assert stage.carry(stage.broker.replay("small", there, source=NAME)) == Replayed((True,))
    assert stage.carry(stage.broker.replay("small", there, source=NAME)) == Replayed((False,))
    assert stage.fetch_one("small").envelope.id == "m1"
    assert dead_ids(stage) == []


def test_expired_messages_go_wherever_they_lie_and_each_is_counted_once(stage: Stage, pair: Pair):
    stage.send(NAME, "kept")
    stage.send(NAME, "gone1", "gone2", ttl_ms=1)
    stage.send(NAME, "held", ttl_ms=1)
    began = stage.server_ms()
    wait_until(lambda: stage.server_ms() > began + 2, "the end of short lives")
    [first] = stage.fetch(NAME, count=1)
    counts = [stage.carry(stage.broker.expire(NAME, cursor="")).count for _ in range(2)]
    assert counts == [3, 0]
    assert first.envelope.id == "kept"
    assert stage.look(NAME).in_flight == 1
    assert stage.look(NAME).counters["expired"] == 3
    assert dead_ids(stage) == []


def test_a_message_in_flight_is_not_expired(stage: Stage, pair: Pair):
    stage.send(NAME, "held", ttl_ms=1)
    stage.fetch(NAME)
    began = stage.server_ms()
    wait_until(lambda: stage.server_ms() > began + 2, "the end of a short life")
    assert stage.carry(stage.broker.expire(NAME, cursor="")).count == 0


def test_a_long_queue_is_searched_in_stretches(stage: Stage, pair: Pair):
    for start in range(0, 450, 50):
        stage.send(NAME, *(f"m{start + at}" for at in range(50)), ttl_ms=1)
    began = stage.server_ms()
    wait_until(lambda: stage.server_ms() > began + 2, "the end of short lives")
    cursor, counts = "", []
    while True:
        answer = stage.carry(stage.broker.expire(NAME, cursor=cursor))
        counts.append(answer.count)
        cursor = answer.cursor
        if not cursor:
            break
    assert counts == [200, 200, 50]


def test_history_is_kept_up_to_its_count_and_forgotten_on_demand(stage: Stage, pair: Pair):
    stage.send(NAME, *(f"m{at}" for at in range(5)))
    stage.carry(stage.broker.ack(NAME, [one.entry_id for one in stage.fetch(NAME)]))
    assert stage.look(NAME).kept == 3
    assert stage.carry(stage.broker.forget_history(NAME)) == 3
    assert stage.carry(stage.broker.forget_history(NAME)) == 0
