"""Duplicates and full queues: what the send script promises, on every server and in both colours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.protocol import Duplicate, Full, Stored
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import BrokerError, BrokerFullError
from leanmq_topology.messages.codec import DeadLetter, decode_dead_letter
from leanmq_topology.messages.envelope import Envelope, Once, Outgoing
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.topology import model
from leanmq_topology.topology.model import FanoutRoute, OnExpire, Overflow, Queue, Target
from tests.support.factories import make_topology, write_topology
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, open_carrier

WINDOW_MS = 600_000
LIMIT = 3
QUEUES = (
    Queue(name="plain"),
    Queue(name="other"),
    Queue(name="small", max_length=LIMIT),
    Queue(name="forgetful", max_length=LIMIT, on_expire=OnExpire.DISCARD),
    Queue(name="dropping", max_length=LIMIT, overflow=Overflow.DROP_OLDEST),
    Queue(name="burying", max_length=LIMIT, overflow=Overflow.DEAD_LETTER),
    Queue(name="walled", max_length=LIMIT, dead_letter=model.DeadLetter(max_length=1)),
    Queue(
        name="crypt",
        max_length=LIMIT,
        overflow=Overflow.DEAD_LETTER,
        dead_letter=model.DeadLetter(max_length=1),
    ),
)
ROUTES = (FanoutRoute(name="both", to=(Target(queue="other"), Target(queue="plain"))),)


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        yield Stage(
            make_topology(namespace, *QUEUES, routes=ROUTES), RedisBroker(namespace), carry, admin, server.url
        )
    admin.close()


def by_id(message_id: str, queue: str | None = None) -> tuple[Once, ...]:
    return (Once(b"id:" + message_id.encode(), WINDOW_MS, queue),)


def with_data(outgoing: Outgoing, data: bytes) -> Outgoing:
    old = outgoing.envelope
    envelope = Envelope(old.id, old.type, data, old.headers)
    return Outgoing(outgoing.target, outgoing.digest, outgoing.queues, envelope, once=outgoing.once)


def send(stage: Stage, *sends: Outgoing, **options: Any) -> list[Any]:
    return stage.carry(stage.broker.send(stage.flush(*sends, **options)))


def once(stage: Stage, target: str, message_id: str, *queues: str, **options: Any) -> list[Any]:
    """Send one message that names its id."""
    return send(stage, stage.outgoing(target, message_id, *queues, once=by_id(message_id), **options))


def ids(stage: Stage, queue: str) -> list[str]:
    """What lies in the queue, in flight or not, oldest first."""
    return [flat[1].decode() for _, flat in stage.raw("XRANGE", stage.keys.queue(queue), "-", "+")]


def dead(stage: Stage, queue: str) -> list[DeadLetter]:
    return [decode_dead_letter(flat) for _, flat in stage.raw("XRANGE", stage.keys.dead(queue), "-", "+")]


def counted(stage: Stage, queue: str) -> dict[str, int]:
    """The counters that are not zero."""
    return {name: count for name, count in (stage.look(queue).counters or {}).items() if count}


def markers(stage: Stage) -> list[bytes]:
    found: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, keys = stage.raw("SCAN", cursor, "MATCH", stage.keys.marker("*", "*"), "COUNT", 1000)
        found += keys
        if cursor == b"0":
            return found


def fill_memory(stage: Stage) -> None:
    stage.raw("CONFIG", "SET", "maxmemory", 1)


def free_memory(stage: Stage) -> None:
    stage.raw("CONFIG", "SET", "maxmemory", 0)


# -- duplicates -----------------------------------------------------------------------------------------


def test_the_same_id_again_yields_the_first_and_is_counted(stage: Stage):
    assert once(stage, "plain", "m") == [Stored("m", 1)]
    assert once(stage, "plain", "m") == [Duplicate("m", differs=False)]
    assert ids(stage, "plain") == ["m"]
    assert counted(stage, "plain") == {"sent": 1, "duplicates": 1}


def test_a_duplicate_within_one_flush_is_noticed_too(stage: Stage):
    sends = [stage.outgoing("plain", "m", once=by_id("m")) for _ in range(3)]
    assert send(stage, *sends) == [Stored("m", 1), Duplicate("m", False), Duplicate("m", False)]
    assert ids(stage, "plain") == ["m"]


def test_a_duplicate_with_other_data_is_told_and_the_first_data_stays(stage: Stage):
    outgoing = stage.outgoing("plain", "m", once=by_id("m"))
    send(stage, outgoing)
    assert send(stage, with_data(outgoing, b"[]")) == [Duplicate("m", differs=True)]
    assert stage.fetch_one("plain").envelope.data == outgoing.envelope.data
    assert counted(stage, "plain") == {"sent": 1, "duplicates": 1, "conflicts": 1}


def test_another_id_of_the_same_identity_yields_the_first_id(stage: Stage):
    same = (Once(b'key:"A-1"', WINDOW_MS, "plain"),)
    assert send(stage, stage.outgoing("plain", "m1", once=same)) == [Stored("m1", 1)]
    assert send(stage, stage.outgoing("plain", "m2", once=same)) == [Duplicate("m1", False)]


def test_a_message_is_remembered_for_its_window_and_no_longer(stage: Stage):
    once(stage, "plain", "m")
    [marker] = markers(stage)
    assert WINDOW_MS - 60_000 < stage.raw("PTTL", marker) <= WINDOW_MS
    stage.raw("DEL", marker)
    assert once(stage, "plain", "m") == [Stored("m", 1)]


def test_an_id_is_known_where_it_was_sent_to_and_nowhere_else(stage: Stage):
    assert once(stage, "plain", "m") == [Stored("m", 1)]
    assert once(stage, "other", "m") == [Stored("m", 1)]
    assert once(stage, "both", "m", "other", "plain") == [Stored("m", 2)]
    assert once(stage, "both", "m", "other", "plain") == [Duplicate("m", False)]
    assert ids(stage, "plain") == ids(stage, "other") == ["m", "m"]


def test_a_queue_that_had_it_gets_no_copy_and_the_other_targets_do(stage: Stage):
    send(stage, stage.outgoing("plain", "m1", once=by_id("x", "plain")))
    again = stage.outgoing("both", "m2", "other", "plain", once=by_id("x", "plain"))
    assert send(stage, again) == [Stored("m2", 1)]
    assert (ids(stage, "other"), ids(stage, "plain")) == (["m2"], ["m1"])
    assert counted(stage, "plain") == {"sent": 1, "duplicates": 1}
    assert counted(stage, "other") == {"sent": 1}


def test_a_copy_known_with_other_data_is_told(stage: Stage):
    send(stage, stage.outgoing("plain", "m1", once=by_id("x", "plain")))
    again = stage.outgoing("both", "m2", "other", "plain", once=by_id("x", "plain"))
    assert send(stage, with_data(again, b"[]")) == [Stored("m2", 1, differs=True)]


def test_a_send_whose_every_copy_is_known_is_a_duplicate(stage: Stage):
    both = by_id("x", "other") + by_id("x", "plain")
    send(stage, stage.outgoing("both", "m1", "other", "plain", once=both))
    again = stage.outgoing("both", "m2", "other", "plain", once=both)
    assert send(stage, again) == [Duplicate("m1", False)]


def test_a_delayed_message_is_remembered_from_its_send(stage: Stage):
    once(stage, "plain", "m", delay_ms=60_000)
    assert once(stage, "plain", "m") == [Duplicate("m", False)]
    assert stage.look("plain").delayed == 1


def test_what_was_purged_may_be_sent_again(stage: Stage):
    once(stage, "plain", "m")
    stage.carry(stage.broker.purge("plain", "p1", keep_ms=60_000))
    assert once(stage, "plain", "m") == [Stored("m", 1)]
    assert once(stage, "plain", "m") == [Duplicate("m", False)]
    assert ids(stage, "plain") == ["m"]


def test_a_refused_send_is_not_remembered(stage: Stage):
    stage.send("small", "a", "b", "c")
    assert once(stage, "small", "m") == [Full("small", LIMIT)]
    delivered = stage.fetch("small")[0]
    stage.carry(stage.broker.ack("small", [delivered.entry_id]))
    assert once(stage, "small", "m") == [Stored("m", 1)]


def test_a_duplicate_needs_no_room(stage: Stage):
    once(stage, "small", "m")
    stage.send("small", "a", "b")
    assert once(stage, "small", "m") == [Duplicate("m", False)]


def test_a_copy_that_is_known_needs_no_room_either(stage: Stage):
    send(stage, stage.outgoing("small", "m1", once=by_id("x", "small")))
    stage.send("small", "a", "b")
    again = stage.outgoing("both", "m2", "small", "plain", once=by_id("x", "small"))
    assert send(stage, again) == [Stored("m2", 1)]
    assert ids(stage, "plain") == ["m2"]


def test_a_withheld_flush_remembers_and_counts_nothing(stage: Stage):
    once(stage, "plain", "old")
    sends = [stage.outgoing("plain", name, once=by_id(name)) for name in ("old", "new")]
    sends += [stage.outgoing("small", f"s{n}") for n in range(LIMIT + 1)]
    assert set(send(stage, *sends, all_or_none=True)) == {Full("small", LIMIT)}
    assert counted(stage, "plain") == {"sent": 1}
    assert len(markers(stage)) == 1
    assert once(stage, "plain", "new") == [Stored("new", 1)]


def test_a_flush_sent_twice_counts_its_duplicates_once(stage: Stage):
    once(stage, "plain", "m")
    flush = stage.flush(stage.outgoing("plain", "m", once=by_id("m")))
    assert stage.carry(stage.broker.send(flush)) == stage.carry(stage.broker.send(flush))
    assert counted(stage, "plain") == {"sent": 1, "duplicates": 1}


def test_a_full_server_leaves_neither_a_message_nor_a_marker(stage: Stage):
    fill_memory(stage)
    try:
        with pytest.raises(BrokerFullError):
            once(stage, "both", "m", "other", "plain")
    finally:
        free_memory(stage)
    assert not markers(stage)
    assert not ids(stage, "other") + ids(stage, "plain")
    assert once(stage, "both", "m", "other", "plain") == [Stored("m", 2)]


def test_a_duplicate_writes_when_its_sender_waits_for_replicas(stage: Stage):
    once(stage, "plain", "m")
    [marker] = markers(stage)
    stage.raw("PEXPIRE", marker, 60_000)
    once(stage, "plain", "m")
    assert stage.raw("PTTL", marker) <= 60_000
    flush = msgspec.structs.replace(
        stage.flush(stage.outgoing("plain", "m", once=by_id("m"))), confirmed=True
    )
    stage.carry(stage.broker.send(flush))
    assert stage.raw("PTTL", marker) > 60_000

    producer = stage.keys.producer("p")
    stage.raw("PEXPIRE", producer, 60_000)
    stage.carry(stage.broker.send(flush))
    assert stage.raw("PTTL", producer) > 60_000


# -- room: expired messages first -----------------------------------------------------------------------


def expire_head(stage: Stage, queue: str, *names: str) -> None:
    """Put messages into a queue whose time is over already."""
    for name in names:
        fields = ("id", name, "type", "t", "data", "{}", "headers", "", "attempt", "0", "expires", "5")
        stage.raw("XADD", stage.keys.queue(queue), "*", *fields)


def test_an_expired_head_makes_room_before_a_send_is_refused(stage: Stage):
    expire_head(stage, "small", "e1", "e2")
    stage.send("small", "a")
    assert stage.send("small", "b", "c", "d") == [Stored("b", 1), Stored("c", 1), Full("small", LIMIT)]
    assert ids(stage, "small") == ["a", "b", "c"]
    assert [(one.envelope.id, one.reason, one.failure.type) for one in dead(stage, "small")] == [
        ("e1", DeadReason.EXPIRED, "Expired"),
        ("e2", DeadReason.EXPIRED, "Expired"),
    ]
    assert counted(stage, "small") == {"sent": 3, "dead_lettered": 2, "expired": 2}


def test_a_head_whose_time_is_not_over_makes_no_room(stage: Stage):
    stage.send("small", "a", "b", "c", ttl_ms=WINDOW_MS)
    assert stage.send("small", "d") == [Full("small", LIMIT)]
    assert (ids(stage, "small"), dead(stage, "small")) == (["a", "b", "c"], [])


def test_no_more_is_swept_than_is_needed(stage: Stage):
    expire_head(stage, "small", "e1", "e2", "e3")
    assert stage.send("small", "a") == [Stored("a", 1)]
    assert ids(stage, "small") == ["e2", "e3", "a"]


def test_expired_messages_are_forgotten_where_the_queue_says_so(stage: Stage):
    expire_head(stage, "forgetful", "e1", "e2", "e3")
    assert stage.send("forgetful", "a") == [Stored("a", 1)]
    assert not dead(stage, "forgetful")
    assert counted(stage, "forgetful") == {"sent": 1, "expired": 1, "discarded": 1}


def test_what_a_worker_holds_is_not_swept(stage: Stage):
    expire_head(stage, "small", "e1", "e2", "e3")
    held = stage.fetch("small", count=2)
    assert stage.send("small", "a", "b") == [Stored("a", 1), Full("small", LIMIT)]
    assert ids(stage, "small") == ["e1", "e2", "a"]
    assert stage.carry(stage.broker.ack("small", [one.entry_id for one in held])) == 2


def test_sweeping_ends_at_the_first_message_that_is_not_expired(stage: Stage):
    stage.send("small", "a")
    expire_head(stage, "small", "e1", "e2")
    assert stage.send("small", "b") == [Full("small", LIMIT)]
    assert ids(stage, "small") == ["a", "e1", "e2"]


def test_nothing_is_swept_into_a_full_dead_letter_queue(stage: Stage):
    expire_head(stage, "walled", "e1", "e2", "e3")
    assert stage.send("walled", "a", "b") == [Stored("a", 1), Full("walled", LIMIT)]
    assert ids(stage, "walled") == ["e2", "e3", "a"]
    assert stage.look("walled").delayed == 0
    assert len(dead(stage, "walled")) == 1


def test_a_refused_flush_sweeps_even_when_the_server_is_full(stage: Stage):
    expire_head(stage, "small", "e1")
    stage.send("small", "a", "b")
    sends = [stage.outgoing("small", name) for name in ("c", "d")]
    fill_memory(stage)
    try:
        assert send(stage, *sends, all_or_none=True) == [Full("small", LIMIT)] * 2
    finally:
        free_memory(stage)
    assert ids(stage, "small") == ["a", "b"]
    assert [one.envelope.id for one in dead(stage, "small")] == ["e1"]


def test_a_full_server_takes_no_new_message_for_an_expired_one(stage: Stage):
    for queue in ("small", "forgetful", "dropping"):
        expire_head(stage, queue, "e1", "e2", "e3")
    fill_memory(stage)
    try:
        for queue in ("small", "forgetful", "dropping"):
            with pytest.raises(BrokerFullError):
                stage.send(queue, "a")
    finally:
        free_memory(stage)
    for queue in ("small", "forgetful", "dropping"):
        assert ids(stage, queue) == ["e1", "e2", "e3"]
        assert not dead(stage, queue)


# -- room: overflow -------------------------------------------------------------------------------------


def test_the_oldest_makes_room_and_is_counted(stage: Stage):
    stage.send("dropping", "a", "b", "c")
    assert stage.send("dropping", "d", "e") == [Stored("d", 1), Stored("e", 1)]
    assert ids(stage, "dropping") == ["c", "d", "e"]
    assert counted(stage, "dropping") == {"sent": 5, "dropped": 2}


def test_an_expired_message_is_swept_rather_than_dropped(stage: Stage):
    expire_head(stage, "dropping", "e1")
    stage.send("dropping", "a", "b", "c")
    assert ids(stage, "dropping") == ["a", "b", "c"]
    assert counted(stage, "dropping") == {"sent": 3, "dead_lettered": 1, "expired": 1}


def test_what_a_worker_holds_or_is_delayed_is_not_dropped(stage: Stage):
    stage.send("dropping", "held")
    [held] = stage.fetch("dropping")
    stage.send("dropping", "later", delay_ms=60_000)
    stage.send("dropping", "ready")
    assert stage.send("dropping", "new") == [Stored("new", 1)]
    assert ids(stage, "dropping") == ["held", "new"]
    assert stage.look("dropping").delayed == 1
    assert stage.carry(stage.broker.ack("dropping", [held.entry_id])) == 1


def test_a_queue_with_nothing_to_drop_refuses(stage: Stage):
    stage.send("dropping", "a", "b")
    stage.fetch("dropping")
    stage.send("dropping", "later", delay_ms=60_000)
    assert stage.send("dropping", "new") == [Full("dropping", LIMIT)]
    assert ids(stage, "dropping") == ["a", "b"]


def test_a_flush_larger_than_the_queue_leaves_its_last_as_if_sent_one_by_one(stage: Stage):
    names = [f"m{n}" for n in range(100)]
    stage.send("dropping", "old")
    assert stage.send("dropping", *names) == [Stored(name, 1) for name in names]
    assert ids(stage, "dropping") == names[-LIMIT:]
    assert counted(stage, "dropping") == {"sent": 101, "dropped": 98}


def test_a_delayed_message_is_never_the_one_that_makes_room(stage: Stage):
    sends = [stage.outgoing("dropping", f"later{n}", delay_ms=60_000) for n in range(LIMIT)]
    assert [*send(stage, *sends), *stage.send("dropping", "new")] == [
        *(Stored(f"later{n}", 1) for n in range(LIMIT)),
        Full("dropping", LIMIT),
    ]


def test_within_one_flush_too_only_what_is_ready_makes_room(stage: Stage):
    sends = [stage.outgoing("dropping", "later", delay_ms=60_000)]
    sends += [stage.outgoing("dropping", name) for name in ("a", "b", "c")]
    assert send(stage, *sends) == [Stored(outgoing.envelope.id, 1) for outgoing in sends]
    assert ids(stage, "dropping") == ["b", "c"]
    assert stage.look("dropping").delayed == 1


def test_a_withheld_flush_drops_nothing(stage: Stage):
    stage.send("dropping", "a", "b", "c")
    sends = [stage.outgoing("dropping", "d")]
    sends += [stage.outgoing("small", f"s{n}") for n in range(LIMIT + 1)]
    assert set(send(stage, *sends, all_or_none=True)) == {Full("small", LIMIT)}
    assert ids(stage, "dropping") == ["a", "b", "c"]


def test_a_publish_that_one_queue_refuses_drops_nothing_in_another(stage: Stage):
    stage.send("dropping", "a", "b", "c")
    stage.send("small", "a", "b", "c")
    publish = stage.outgoing("both", "m", "dropping", "small")
    assert send(stage, publish) == [Full("small", LIMIT)]
    assert ids(stage, "dropping") == ["a", "b", "c"]


def test_a_lowered_limit_drops_one_for_each_new_message_and_no_more(stage: Stage):
    stage.send("plain", "a", "b", "c", "d", "e")
    lowered = Queue(name="plain", max_length=2, overflow=Overflow.DROP_OLDEST)
    changed = {**stage.topology.queues, "plain": lowered}
    write_topology(stage.admin, replace(stage.topology, queues=changed), generation=2)
    digest = stage.raw("HGET", stage.keys.topology, "@plain").decode()
    assert stage.send("plain", "f", digest=digest) == [Stored("f", 1)]
    assert ids(stage, "plain") == ["b", "c", "d", "e", "f"]


def test_one_script_reads_a_bounded_part_of_what_it_drops(stage: Stage):
    """What does not fit is refused; a younger message never goes before an older one."""
    wide = Queue(name="dropping", max_length=40, overflow=Overflow.DROP_OLDEST)
    changed = {**stage.topology.queues, "dropping": wide}
    write_topology(stage.admin, replace(stage.topology, queues=changed), generation=2)
    digest = stage.raw("HGET", stage.keys.topology, "@dropping").decode()
    body = b'"' + b"x" * 300_000 + b'"'
    for n in range(40):
        send(stage, with_data(stage.outgoing("dropping", f"old{n}", digest=digest), body))
    names = [f"new{n}" for n in range(40)]
    results = stage.send("dropping", *names, digest=digest)
    stored = [result.id for result in results if isinstance(result, Stored)]
    assert 0 < len(stored) < 40
    assert stored == names[: len(stored)]
    assert ids(stage, "dropping") == [f"old{n}" for n in range(len(stored), 40)] + stored


def test_what_a_full_queue_cannot_take_is_dead_lettered_as_it_is(stage: Stage):
    stage.send("burying", "a", "b", "c")
    outgoing = stage.outgoing("burying", "over")
    assert send(stage, outgoing) == [Stored("over", 1)]
    assert ids(stage, "burying") == ["a", "b", "c"]
    [letter] = dead(stage, "burying")
    assert (letter.envelope, letter.reason) == (outgoing.envelope, DeadReason.OVERFLOW)
    assert str(LIMIT) in letter.failure.message
    assert counted(stage, "burying") == {"sent": 4, "dead_lettered": 1, "overflowed": 1}


def test_a_publish_dead_letters_only_the_copy_that_does_not_fit(stage: Stage):
    stage.send("burying", "a", "b", "c")
    assert send(stage, stage.outgoing("both", "m", "burying", "plain")) == [Stored("m", 2)]
    assert ids(stage, "plain") == ["m"]
    assert [letter.envelope.id for letter in dead(stage, "burying")] == ["m"]


def test_a_full_dead_letter_queue_takes_no_overflow(stage: Stage):
    stage.send("crypt", "a", "b", "c")
    assert stage.send("crypt", "d", "e") == [Stored("d", 1), Full("crypt", LIMIT)]
    assert [letter.envelope.id for letter in dead(stage, "crypt")] == ["d"]
    assert ids(stage, "crypt") == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["dead", "crashes"])
@pytest.mark.parametrize("queue", ["small", "dropping", "burying"])
def test_a_foreign_key_in_the_way_is_met_before_anything_is_written(stage: Stage, queue: str, kind: str):
    expire_head(stage, queue, "e1", "e2", "e3")
    stage.raw("SET", getattr(stage.keys, kind)(queue), "not ours")
    with pytest.raises(BrokerError):
        send(stage, stage.outgoing("both", "m", "plain", queue))
    assert ids(stage, queue) == ["e1", "e2", "e3"]
    assert ids(stage, "plain") == []


def test_a_full_server_dead_letters_no_overflow(stage: Stage):
    stage.send("burying", "a", "b", "c")
    fill_memory(stage)
    try:
        with pytest.raises(BrokerFullError):
            stage.send("burying", "over")
    finally:
        free_memory(stage)
    assert not dead(stage, "burying")
