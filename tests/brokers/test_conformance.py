"""What every server and both colours of connection must do with a message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import Dying, Full, Retrying, Stale, Stored
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.inspect import COUNTERS
from leanmq_topology.errors import BrokerFullError, TopologyNotAppliedError
from leanmq_topology.messages.codec import decode_dead_letter
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import FanoutRoute, Queue, Target
from tests.support.factories import make_topology, write_topology
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, open_carrier

BOOM = Failure("ValueError", "boom")
QUEUES = (
    Queue(name="plain"),
    Queue(name="other"),
    Queue(name="brief", ttl_ms=60_000),
    Queue(name="slow", delay_ms=60_000),
    Queue(name="small", max_length=2),
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


# -- sending --------------------------------------------------------------------------------------------


def test_a_sent_message_is_handed_out_as_it_was_sent(stage: Stage):
    sent = stage.outgoing("plain", "m1")
    assert stage.carry(stage.broker.send(stage.flush(sent))) == [Stored("m1", 1)]
    delivered = stage.fetch_one("plain")
    assert delivered.envelope == sent.envelope
    assert (delivered.queue, delivered.delivery_count, delivered.attempt) == ("plain", 1, 1)


def test_messages_come_in_the_order_they_were_sent(stage: Stage):
    ids = [f"m{n}" for n in range(50)]
    stage.send("plain", *ids)
    assert [delivered.envelope.id for delivered in stage.fetch("plain")] == ids


def test_a_message_is_handed_to_one_consumer_only(stage: Stage):
    stage.send("plain", "m1")
    assert stage.fetch("plain", consumer="one")
    assert not stage.fetch("plain", consumer="two")


def test_several_queues_are_read_at_once(stage: Stage):
    stage.send("plain", "a")
    stage.send("other", "b")
    found = stage.fetch("plain", "other")
    assert {(delivered.queue, delivered.envelope.id) for delivered in found} == {
        ("plain", "a"),
        ("other", "b"),
    }


def test_a_route_stores_a_copy_in_each_queue(stage: Stage):
    result = stage.carry(stage.broker.send(stage.flush(stage.outgoing("both", "m1", "other", "plain"))))
    assert result == [Stored("m1", 2)]
    assert [stage.fetch_one(queue).envelope.id for queue in ("other", "plain")] == ["m1", "m1"]


def test_an_event_nobody_wants_succeeds_and_is_counted(stage: Stage):
    nobody = stage.outgoing("both", "m1", "plain")
    sends = [nobody.__class__("both", nobody.digest, (), nobody.envelope) for _ in range(3)]
    assert stage.carry(stage.broker.send(stage.flush(*sends))) == [Stored("m1", 0)] * 3
    assert stage.raw("HGET", stage.keys.meta("both"), "unrouted") == b"3"


def test_a_flush_sent_twice_is_stored_once_and_answered_the_same(stage: Stage):
    flush = stage.flush(stage.outgoing("plain", "m1"), stage.outgoing("both", "m2", "other", "plain"))
    first = stage.carry(stage.broker.send(flush))
    assert stage.carry(stage.broker.send(flush)) == first == [Stored("m1", 1), Stored("m2", 2)]
    assert len(stage.fetch("plain")) == 2
    assert len(stage.fetch("other")) == 1
    assert stage.look("plain").counters == {**_zeros(), "sent": 2}


def test_a_late_copy_of_an_older_flush_stores_nothing(stage: Stage):
    older = stage.flush(stage.outgoing("plain", "m1"))
    stage.carry(stage.broker.send(older))
    stage.send("plain", "m2")
    stage.carry(stage.broker.send(older))
    assert len(stage.fetch("plain")) == 2


def test_producers_do_not_disturb_each_other(stage: Stage):
    for producer in ("one", "two"):
        stage.sequence = 0
        flush = stage.flush(stage.outgoing("plain", producer), producer=producer)
        assert stage.carry(stage.broker.send(flush)) == [Stored(producer, 1)]
    assert len(stage.fetch("plain")) == 2


def test_a_full_queue_refuses_and_counts_what_is_in_flight_and_delayed(stage: Stage):
    stage.send("small", "m1")
    stage.send("small", "m2", delay_ms=60_000)
    stage.fetch("small")
    assert stage.send("small", "m3") == [Full("small", 2)]
    assert stage.look("small").ready + stage.look("small").in_flight + stage.look("small").delayed == 2


def test_a_flush_fills_a_queue_to_the_brim_and_no_further(stage: Stage):
    assert stage.send("small", "a", "b", "c") == [Stored("a", 1), Stored("b", 1), Full("small", 2)]


def test_a_route_with_one_full_queue_stores_no_copy_at_all(stage: Stage):
    stage.send("small", "a", "b")
    result = stage.carry(stage.broker.send(stage.flush(stage.outgoing("both", "m", "plain", "small"))))
    assert result == [Full("small", 2)]
    assert not stage.fetch("plain")


def test_all_or_none_stores_nothing_when_one_send_fails(stage: Stage):
    sends = [stage.outgoing("plain", "m1"), *(stage.outgoing("small", f"s{n}") for n in range(3))]
    results = stage.carry(stage.broker.send(stage.flush(*sends, all_or_none=True)))
    assert set(results) == {Full("small", 2)}
    assert not stage.fetch("plain", "small")


def test_an_address_that_changed_is_stale_and_the_others_are_stored(stage: Stage):
    sends = [stage.outgoing("plain", "m1", digest="old"), stage.outgoing("other", "m2")]
    results = stage.carry(stage.broker.send(stage.flush(*sends)))
    assert results == [Stale("plain", stage.digests["plain"]), Stored("m2", 1)]
    assert not stage.fetch("plain")


def test_an_address_that_is_not_applied_is_stale_without_a_digest(stage: Stage):
    result = stage.carry(
        stage.broker.send(stage.flush(stage.outgoing("unknown", "m1", "plain", digest="old")))
    )
    assert result == [Stale("unknown", None)]
    assert not stage.raw("EXISTS", stage.keys.queue("unknown"))
    assert not stage.fetch("plain")


@pytest.mark.parametrize("state", ["draining", "retired"])
def test_a_queue_on_its_way_out_takes_no_more(stage: Stage, state: str):
    stage.raw("HSET", stage.keys.meta("plain"), "state", state)
    assert stage.send("plain", "m1") == [Stale("plain", None, "plain")]


def test_a_queue_deleted_by_hand_is_not_made_again_by_a_send(stage: Stage):
    stage.raw("DEL", stage.keys.queue("plain"))
    assert stage.send("plain", "m1") == [Stale("plain", None)]
    assert not stage.raw("EXISTS", stage.keys.queue("plain"))


# -- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "ttl_ms", "life_ms"),
    [("plain", None, None), ("plain", 5000, 5000), ("brief", None, 60_000), ("brief", 5000, 5000),
     ("brief", 90_000, 60_000)],
)  # fmt: skip
def test_a_message_expires_by_the_servers_clock_at_the_shorter_of_two_ttls(
    stage: Stage, queue: str, ttl_ms: int | None, life_ms: int | None
):
    before = stage.server_ms()
    stage.send(queue, "m1", ttl_ms=ttl_ms)
    after = stage.server_ms()
    expires_ms = stage.fetch_one(queue).envelope.expires_ms
    if life_ms is None:
        assert expires_ms is None
    else:
        assert expires_ms is not None
        assert before + life_ms <= expires_ms <= after + life_ms


def test_a_delayed_message_waits_until_it_is_due(stage: Stage):
    sent = stage.outgoing("plain", "m1", delay_ms=60_000)
    stage.carry(stage.broker.send(stage.flush(sent)))
    upkeep = stage.carry(stage.broker.maintain(["plain"]))
    assert upkeep.promoted == 0
    assert upkeep.next_due_ms is not None
    assert 0 < upkeep.next_due_ms - upkeep.now_ms <= 60_000
    assert not stage.fetch("plain")

    stage.make_due("plain")
    upkeep = stage.carry(stage.broker.maintain(["other", "plain"]))
    assert (upkeep.promoted, upkeep.next_due_ms, upkeep.generation) == (1, None, 1)
    assert stage.fetch_one("plain").envelope == sent.envelope


def test_the_delay_of_a_queue_holds_unless_the_send_says_otherwise(stage: Stage):
    stage.send("slow", "later")
    stage.send("slow", "now", delay_ms=0)
    assert stage.fetch_one("slow").envelope.id == "now"
    assert stage.look("slow").delayed == 1


def test_promotion_is_bounded_and_goes_on_until_nothing_is_due(stage: Stage):
    ids = [f"m{n:03d}" for n in range(130)]
    stage.send("plain", *ids, delay_ms=60_000)
    stage.make_due("plain")
    first = stage.carry(stage.broker.maintain(["plain"]))
    assert first.promoted == 100
    assert first.next_due_ms is not None
    assert first.next_due_ms <= first.now_ms
    second = stage.carry(stage.broker.maintain(["plain"]))
    assert (second.promoted, second.next_due_ms) == (30, None)
    found = [*stage.fetch("plain"), *stage.fetch("plain")]
    assert {delivered.envelope.id for delivered in found} == set(ids)


def test_two_delayed_messages_with_one_id_are_both_kept(stage: Stage):
    stage.send("plain", "same", "same", delay_ms=60_000)
    stage.make_due("plain")
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 2
    assert [delivered.envelope.id for delivered in stage.fetch("plain")] == ["same", "same"]


def test_delayed_messages_of_a_queue_that_is_gone_are_kept(stage: Stage):
    stage.send("plain", "m1", delay_ms=60_000)
    stage.make_due("plain")
    stage.raw("DEL", stage.keys.queue("plain"))
    upkeep = stage.carry(stage.broker.maintain(["plain"]))
    assert (upkeep.promoted, upkeep.waiting) == (0, ())
    assert upkeep.next_due_ms is not None
    assert upkeep.next_due_ms - upkeep.now_ms == 1000  # no hot loop over what cannot move
    write_topology(stage.admin, stage.topology)
    stage.make_due("plain")
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 1


# -- settling -------------------------------------------------------------------------------------------


def test_an_acknowledged_message_leaves_nothing_behind(stage: Stage):
    stage.send("plain", "a", "b")
    entries = [delivered.entry_id for delivered in stage.fetch("plain")]
    assert stage.carry(stage.broker.ack("plain", entries)) == 2
    assert stage.carry(stage.broker.ack("plain", entries)) == 0
    state = stage.look("plain")
    assert (state.ready, state.in_flight) == (0, 0)
    assert state.counters == {**_zeros(), "sent": 2, "acked": 2}


def test_a_thousand_are_settled_in_one_step_and_no_more(stage: Stage):
    ids = [f"m{n}" for n in range(1000)]
    stage.send("plain", *ids)
    entries = [delivered.entry_id for delivered in stage.fetch("plain", count=1000)]
    assert stage.carry(stage.broker.ack("plain", entries)) == 1000
    with pytest.raises(ValueError, match="1 to 1000"):
        stage.broker.ack("plain", [*entries, "0-1"])


def test_a_retried_message_comes_back_with_its_failure_counted(stage: Stage):
    stage.send("brief", "m1")
    first = stage.fetch_one("brief")
    assert stage.carry(stage.broker.retry("brief", "me", [Retrying(first, 60_000)])) == [True]
    assert (stage.look("brief").in_flight, stage.look("brief").delayed) == (0, 1)
    stage.make_due("brief")
    stage.carry(stage.broker.maintain(["brief"]))
    again = stage.fetch_one("brief")
    assert (again.attempt, again.delivery_count, again.redelivered) == (2, 1, False)
    assert again.envelope.expires_ms == first.envelope.expires_ms
    assert again.envelope.data == first.envelope.data
    assert stage.look("brief").counters == {**_zeros(), "sent": 1, "retried": 1}


def test_a_retry_without_delay_is_due_at_once(stage: Stage):
    stage.send("plain", "m1")
    stage.carry(stage.broker.retry("plain", "me", [Retrying(stage.fetch_one("plain"), 0)]))
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 1


def test_a_dead_letter_keeps_the_message_its_reason_its_error_and_its_attempts(stage: Stage):
    sent = stage.outgoing("plain", "m1")
    stage.carry(stage.broker.send(stage.flush(sent)))
    dying = Dying(stage.fetch_one("plain"), DeadReason.FAILED, BOOM)
    assert stage.carry(stage.broker.dead_letter("plain", "me", [dying])) == [True]
    [[_, flat]] = stage.raw("XRANGE", stage.keys.dead("plain"), "-", "+")
    found = decode_dead_letter(flat)
    assert (found.reason, found.failure) == (DeadReason.FAILED, BOOM)
    assert (found.envelope.data, found.envelope.headers) == (sent.envelope.data, sent.envelope.headers)
    assert found.envelope.attempt == 1
    state = stage.look("plain")
    assert (state.ready, state.in_flight, state.dead) == (0, 0, 1)
    assert state.counters == {**_zeros(), "sent": 1, "dead_lettered": 1}


def test_a_hand_out_that_never_started_is_no_attempt_of_a_dead_letter(stage: Stage):
    stage.send("plain", "a", "b")
    one, other = stage.fetch("plain")
    dying = [
        Dying(one, DeadReason.EXPIRED, Failure("Expired", "")),
        Dying(other, DeadReason.FAILED, BOOM, started=False),
    ]
    stage.carry(stage.broker.dead_letter("plain", "me", dying))
    rows = stage.raw("XRANGE", stage.keys.dead("plain"), "-", "+")
    assert [decode_dead_letter(flat).envelope.attempt for _, flat in rows] == [0, 0]
    assert stage.look("plain").counters == {**_zeros(), "sent": 2, "dead_lettered": 2, "expired": 1}


def test_a_foreign_entry_is_handed_out_as_undecodable_and_dies_unchanged(stage: Stage):
    stage.raw("XADD", stage.keys.queue("plain"), "*", "payload", b"\xff\x00", "reason", "mine")
    [found] = stage.fetch("plain")
    assert isinstance(found, Undecodable)
    dying = Dying(found, DeadReason.UNDECODABLE, Failure("Undecodable", found.reason))
    assert stage.carry(stage.broker.dead_letter("plain", "me", [dying])) == [True]
    [[_, flat]] = stage.raw("XRANGE", stage.keys.dead("plain"), "-", "+")
    assert flat[:4] == [b"payload", b"\xff\x00", b"reason", b"mine"]
    assert flat[4:6] == [b"reason", b"undecodable"]


def test_a_discarded_message_is_forgotten_and_counted_apart(stage: Stage):
    stage.send("plain", "m1")
    assert stage.carry(stage.broker.discard("plain", "me", [stage.fetch_one("plain")])) == [True]
    state = stage.look("plain")
    assert (state.ready, state.in_flight, state.dead) == (0, 0, 0)
    assert state.counters == {**_zeros(), "sent": 1, "discarded": 1}


@pytest.mark.parametrize("verb", ["retry", "dead_letter", "discard", "release", "extend"])
def test_a_former_owner_changes_nothing_and_others_in_the_batch_are_settled(stage: Stage, verb: str):
    stage.send("plain", "lost", "kept")
    lost, kept = stage.fetch("plain")
    stage.lapse("plain", lost)
    stage.carry(stage.broker.claim(QUEUES[0], "thief", cursor="0-0", count=10))
    items: list[Any] = {
        "retry": [Retrying(lost, 1), Retrying(kept, 1)],
        "dead_letter": [Dying(one, DeadReason.FAILED, BOOM) for one in (lost, kept)],
    }.get(verb, [lost, kept])
    assert stage.carry(getattr(stage.broker, verb)("plain", "me", items)) == [False, True]
    [[entry_id, owner, _, count]] = stage.raw(
        "XPENDING", stage.keys.queue("plain"), "g", lost.entry_id, lost.entry_id, 1
    )
    assert (entry_id.decode(), owner, count) == (lost.entry_id, b"thief", 2)


def test_a_settlement_is_refused_to_who_gave_the_message_back_however_often_it_was_handed_out(stage: Stage):
    """The hand-out that was given back is not counted, so the next one has the same number."""
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    assert stage.carry(stage.broker.release("plain", "me", [first])) == [True]
    _, [second] = stage.carry(stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10))
    assert isinstance(second, Delivered)
    assert second.delivery_count == first.delivery_count
    assert stage.carry(stage.broker.retry("plain", "me", [Retrying(first, 1)])) == [False]
    assert stage.carry(stage.broker.retry("plain", "other", [Retrying(second, 1)])) == [True]


def test_a_settlement_is_refused_to_the_same_owner_after_a_redelivery(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    _, [second] = stage.carry(stage.broker.claim(QUEUES[0], "me", cursor="0-0", count=10))
    assert stage.carry(stage.broker.retry("plain", "me", [Retrying(first, 1)])) == [False]
    assert isinstance(second, Delivered)
    assert stage.carry(stage.broker.retry("plain", "me", [Retrying(second, 1)])) == [True]


def test_a_late_acknowledgement_is_taken_because_the_work_is_done(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    stage.carry(stage.broker.claim(QUEUES[0], "thief", cursor="0-0", count=10))
    assert stage.carry(stage.broker.ack("plain", [first.entry_id])) == 1


# -- leases ---------------------------------------------------------------------------------------------


def test_a_lapsed_lease_is_claimed_and_counts_as_a_redelivery(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    assert stage.carry(stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10)) == ("0-0", [])
    stage.lapse("plain", first)
    cursor, [again] = stage.carry(stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10))
    assert cursor == "0-0"
    assert isinstance(again, Delivered)
    assert again.envelope == first.envelope
    assert (again.delivery_count, again.attempt, again.redelivered) == (2, 2, True)


def test_an_extended_lease_is_not_claimed(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    words = ("IDLE", 10**9, "JUSTID")
    stage.raw("XCLAIM", stage.keys.queue("plain"), "g", "me", 0, first.entry_id, *words)
    assert stage.carry(stage.broker.extend("plain", "me", [first])) == [True]
    assert stage.carry(stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10))[1] == []
    assert stage.carry(stage.broker.ack("plain", [first.entry_id])) == 1


def test_a_released_message_is_claimable_at_once_and_the_hand_out_did_not_count(stage: Stage):
    stage.send("plain", "m1")
    assert stage.carry(stage.broker.release("plain", "me", [stage.fetch_one("plain")])) == [True]
    _, [again] = stage.carry(stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10))
    assert (again.delivery_count, again.redelivered) == (1, False)  # type: ignore[union-attr]


def test_the_kept_cursor_finds_what_lies_behind_many_live_leases(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(60)))
    deliveries = stage.fetch("plain")
    stage.lapse("plain", deliveries[-1])
    cursor, found = "0-0", []
    for _ in range(13):
        cursor, some = stage.carry(stage.broker.claim(QUEUES[0], "other", cursor=cursor, count=5))
        found += some
    assert [delivered.envelope.id for delivered in found] == ["m59"]  # type: ignore[union-attr]


def test_the_lease_is_the_queues_own_not_the_claimers(stage: Stage):
    stage.send("plain", "m1")
    stage.fetch_one("plain")
    hasty = Queue(name="plain", visibility_timeout_ms=1)
    assert stage.carry(stage.broker.claim(hasty, "other", cursor="0-0", count=10))[1] == []


def test_a_pending_entry_that_was_deleted_is_cleared_away(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    stage.raw("XDEL", stage.keys.queue("plain"), first.entry_id)
    assert stage.carry(stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10))[1] == []
    assert stage.raw("XPENDING", stage.keys.queue("plain"), "g")[0] == 0


# -- what is missing ------------------------------------------------------------------------------------


def test_reading_a_queue_that_is_not_applied_names_it(stage: Stage):
    with pytest.raises(TopologyNotAppliedError) as caught:
        stage.fetch("plain", "nowhere")
    assert caught.value.missing == ("queues.nowhere",)
    with pytest.raises(TopologyNotAppliedError):
        stage.carry(stage.broker.claim(Queue(name="nowhere"), "me", cursor="0-0", count=1))


def test_a_group_made_again_hands_out_exactly_what_was_not_acknowledged(stage: Stage):
    stage.send("plain", "done", "open")
    done, _ = stage.fetch("plain")
    stage.carry(stage.broker.ack("plain", [done.entry_id]))
    stage.raw("DEL", "nothing")
    stage.raw("XGROUP", "DESTROY", stage.keys.queue("plain"), "g")
    with pytest.raises(TopologyNotAppliedError):
        stage.fetch("plain")
    stage.raw("XGROUP", "CREATE", stage.keys.queue("plain"), "g", "0")
    assert stage.fetch_one("plain").envelope.id == "open"


def test_a_server_that_forgot_its_scripts_is_taught_again(stage: Stage):
    stage.send("plain", "m1")
    stage.raw("SCRIPT", "FLUSH")
    stage.send("plain", "m2")
    stage.raw("SCRIPT", "FLUSH")
    entries = [delivered.entry_id for delivered in stage.fetch("plain")]
    assert stage.carry(stage.broker.ack("plain", entries)) == 2


# -- a full server --------------------------------------------------------------------------------------


@pytest.fixture
def full(stage: Stage) -> Iterator[Stage]:
    """A stage whose server is put over its memory limit by the test, and freed afterwards."""
    yield stage
    stage.raw("CONFIG", "SET", "maxmemory", 0)


def test_a_full_server_refuses_sends_whole_and_still_drains(full: Stage):
    full.send("plain", "ack", "retry", "die", "discard", "release")
    full.send("other", "delayed", delay_ms=60_000)
    full.make_due("other")
    full.carry(full.broker.inspect_queues(["plain"]))  # scripts are known before memory runs out
    full.raw("CONFIG", "SET", "maxmemory", 1)

    flush = full.flush(full.outgoing("both", "new", "other", "plain"))
    for _ in range(2):
        with pytest.raises(BrokerFullError):
            full.carry(full.broker.send(flush))

    ack, retry, die, discard, release = full.fetch("plain")
    assert full.carry(full.broker.ack("plain", [ack.entry_id])) == 1
    assert full.carry(full.broker.retry("plain", "me", [Retrying(retry, 60_000)])) == [True]
    assert full.carry(full.broker.dead_letter("plain", "me", [Dying(die, DeadReason.FAILED, BOOM)])) == [True]
    assert full.carry(full.broker.discard("plain", "me", [discard])) == [True]
    assert full.carry(full.broker.extend("plain", "me", [release])) == [True]
    assert full.carry(full.broker.release("plain", "me", [release])) == [True]
    assert full.carry(full.broker.maintain(["other"])).promoted == 1

    full.raw("CONFIG", "SET", "maxmemory", 0)
    assert full.carry(full.broker.send(flush)) == [Stored("new", 2)]
    assert {delivered.envelope.id for delivered in full.fetch("other")} == {"delayed", "new"}


def _zeros() -> dict[str, int]:
    return dict.fromkeys(COUNTERS, 0)
