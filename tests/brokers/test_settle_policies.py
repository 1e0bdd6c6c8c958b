"""What becomes of deliveries that are settled, lapse, crash or expire: on every server, in both colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import (
    Dying,
    Flush,
    Full,
    OutputsSent,
    Reply,
    Retrying,
    Stale,
    Stored,
    Swept,
)
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import BrokerError
from leanmq_topology.messages.codec import DeadLetter, decode_dead_letter, decode_fields
from leanmq_topology.messages.envelope import Delivered, Envelope, Outgoing, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology import model
from leanmq_topology.topology.model import KeepAcked, OnExpire, Queue
from leanmq_topology.upkeep.recovery import recover_own
from leanmq_topology.upkeep.steps import carry_out
from tests.support.factories import make_topology, write_topology
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, count_calls, open_carrier

BOOM = Failure("ValueError", "boom")
MINUTE_MS = 60 * 1000
DAY_MS = 24 * 60 * MINUTE_MS
QUEUES = (
    Queue(name="plain", max_deliveries=3, max_crashes=2),
    Queue(name="counted", keep_acked=KeepAcked(count=3)),
    Queue(name="dated", keep_acked=KeepAcked(duration_ms=DAY_MS)),
    Queue(name="narrow", max_deliveries=1, dead_letter=model.DeadLetter(max_length=1)),
    Queue(name="mortal", dead_letter=model.DeadLetter(ttl_ms=DAY_MS)),
    Queue(name="forgetful", on_expire=OnExpire.DISCARD),
    Queue(name="tight", max_length=2, dead_letter=model.DeadLetter(max_length=1)),
)
BY_NAME = {queue.name: queue for queue in QUEUES}


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        yield Stage(make_topology(namespace, *QUEUES), RedisBroker(namespace), carry, admin, server.url)
    admin.close()


def claim(stage: Stage, queue: str, consumer: str = "other") -> list[Any]:
    found = stage.carry(stage.broker.claim(BY_NAME[queue], consumer, cursor="0-0", count=100))
    assert found[0] == "0-0"
    return found[1]


def ack(stage: Stage, queue: str, *deliveries: Any) -> int:
    return stage.carry(stage.broker.ack(queue, [delivered.entry_id for delivered in deliveries]))


def die(stage: Stage, queue: str, *deliveries: Any, reason: DeadReason = DeadReason.FAILED) -> list[bool]:
    dying = [Dying(delivered, reason, BOOM) for delivered in deliveries]
    return stage.carry(stage.broker.dead_letter(queue, "me", dying))


def dead_letters(stage: Stage, queue: str) -> list[DeadLetter]:
    rows = stage.raw("XRANGE", stage.keys.dead(queue), "-", "+")
    return [decode_dead_letter(flat) for _, flat in rows]


def kept(stage: Stage, queue: str) -> list[str]:
    rows = stage.raw("XRANGE", stage.keys.acked(queue), "-", "+")
    return [decode_fields(flat).id for _, flat in rows]


def move_parked(stage: Stage, queue: str) -> None:
    """Have the move to the dead letters tried again, without waiting for its turn."""
    stage.raw("ZADD", stage.keys.due, 0, queue)
    stage.carry(stage.broker.maintain([queue]))


# -- the history of acknowledged messages ---------------------------------------------------------------


def test_an_acknowledged_message_goes_to_the_history_as_it_was(stage: Stage):
    sent = stage.outgoing("dated", "m1")
    stage.carry(stage.broker.send(stage.flush(sent)))
    assert ack(stage, "dated", stage.fetch_one("dated")) == 1
    [[_, flat]] = stage.raw("XRANGE", stage.keys.acked("dated"), "-", "+")
    assert decode_fields(flat) == sent.envelope
    state = stage.look("dated")
    assert (state.ready, state.in_flight, state.kept) == (0, 0, 1)
    assert state.counters is not None
    assert state.counters["acked"] == 1


def test_a_queue_that_keeps_nothing_makes_no_history(stage: Stage):
    stage.send("plain", "m1")
    ack(stage, "plain", stage.fetch_one("plain"))
    assert not stage.raw("EXISTS", stage.keys.acked("plain"))
    assert stage.look("plain").kept == 0


def test_an_acknowledgement_that_is_repeated_is_kept_and_counted_once(stage: Stage):
    stage.send("dated", "a", "b")
    one, other = stage.fetch("dated")
    assert ack(stage, "dated", one, one, other) == 2
    assert ack(stage, "dated", one, other) == 0
    assert kept(stage, "dated") == ["a", "b"]


def test_a_history_by_count_keeps_exactly_the_latest(stage: Stage):
    stage.send("counted", *"abcde")
    assert ack(stage, "counted", *stage.fetch("counted")) == 5
    assert kept(stage, "counted") == ["c", "d", "e"]
    stage.send("counted", "f")
    assert ack(stage, "counted", stage.fetch_one("counted")) == 1
    assert kept(stage, "counted") == ["d", "e", "f"]


def test_a_history_costs_two_commands_a_message_and_a_look_at_its_length(stage: Stage):
    made = {}
    for queue in ("plain", "counted"):
        stage.send(queue, *"abc")
        held = stage.fetch(queue)
        before = count_calls(stage)
        ack(stage, queue, *held)
        made[queue] = count_calls(stage) - before
    assert made["counted"] - made["plain"] == {"xrange": 3, "xadd": 3, "xlen": 1}


def test_a_bound_that_became_smaller_is_reached_in_bounded_steps(stage: Stage):
    for _ in range(3):
        words = [
            word for field in ("id", "type", "data", "headers", "attempt", "expires") for word in (field, "0")
        ]
        for _ in range(500):
            stage.raw("XADD", stage.keys.acked("counted"), "*", *words)
    lengths = []
    for message_id in "abc":
        stage.send("counted", message_id)
        ack(stage, "counted", stage.fetch_one("counted"))
        lengths.append(stage.look("counted").kept)
    assert lengths == [501, 3, 3]
    assert kept(stage, "counted") == ["a", "b", "c"]


@pytest.mark.parametrize("acknowledges", [True, False])
def test_a_history_by_time_forgets_what_is_older_even_when_nothing_is_acknowledged(
    stage: Stage, acknowledges: bool
):
    seconds, _ = stage.raw("TIME")
    bound = int(seconds) * 1000 - DAY_MS
    for message_id, at_ms in (("old", bound - MINUTE_MS), ("young", bound + MINUTE_MS)):
        for number in range(300):
            words = ("id", message_id, "type", "", "data", "{}", "headers", "", "attempt", "0", "expires", "")
            stage.raw("XADD", stage.keys.acked("dated"), f"{at_ms}-{number}", *words)
    if acknowledges:
        stage.send("dated", "young")
        ack(stage, "dated", stage.fetch_one("dated"))
    else:
        stage.carry(stage.broker.sweep(["dated"]))
    found = kept(stage, "dated")
    assert found.count("young") == 300 + acknowledges
    # `~` removes whole nodes of a hundred entries; what shares one with a younger entry stays with it.
    assert found.count("old") < 100


def test_a_history_that_is_no_stream_refuses_before_anything_is_done(stage: Stage):
    stage.raw("SET", stage.keys.acked("dated"), "mine")
    stage.send("dated", "m1")
    delivered = stage.fetch_one("dated")
    with pytest.raises(Exception, match="WRONGTYPE"):
        ack(stage, "dated", delivered)
    assert stage.look("dated").damage is not None
    stage.raw("DEL", stage.keys.acked("dated"))
    assert ack(stage, "dated", delivered) == 1


# -- a dead-letter queue that is full -------------------------------------------------------------------


def test_a_full_dead_letter_queue_parks_what_comes_and_never_hands_it_out_again(stage: Stage):
    stage.send("narrow", "first", "second")
    first, second = stage.fetch("narrow")
    assert die(stage, "narrow", first, second) == [True, True]
    state = stage.look("narrow")
    assert (state.dead, state.parked, state.delayed, state.ready, state.in_flight) == (1, 1, 0, 0, 0)
    assert state.counters is not None
    assert state.counters["dead_lettered"] == 2

    move_parked(stage, "narrow")
    stage.make_due("narrow")  # whatever brings it to its time, it is not a message to run
    stage.carry(stage.broker.maintain(["narrow"]))
    assert stage.fetch("narrow") == []
    assert stage.look("narrow").parked == 1


def test_a_parked_message_moves_with_its_reason_as_soon_as_there_is_room(stage: Stage):
    stage.send("narrow", "first", "second")
    first, second = stage.fetch("narrow")
    die(stage, "narrow", first)
    die(stage, "narrow", second, reason=DeadReason.REJECTED)
    stage.raw("XTRIM", stage.keys.dead("narrow"), "MAXLEN", 0)
    upkeep = stage.carry(stage.broker.maintain(["narrow"]))
    assert upkeep.next_due_ms is None or upkeep.next_due_ms <= upkeep.now_ms + 1000
    move_parked(stage, "narrow")
    [letter] = dead_letters(stage, "narrow")
    assert (letter.envelope.id, letter.reason, letter.failure) == ("second", DeadReason.REJECTED, BOOM)
    assert letter.envelope.data == second.envelope.data
    assert letter.envelope.attempt == 1
    state = stage.look("narrow")
    assert (state.parked, state.delayed, state.dead) == (0, 0, 1)
    assert state.counters is not None
    assert state.counters["dead_lettered"] == 2  # each once, however long its way


def test_a_parked_message_can_be_looked_at(stage: Stage):
    stage.send("narrow", "first", "second")
    first, second = stage.fetch("narrow")
    die(stage, "narrow", first, second)
    [parked] = stage.carry(stage.broker.peek("narrow", count=10))
    assert parked.envelope == structs.replace(second.envelope, attempt=1)


def test_a_foreign_entry_is_parked_and_moved_unchanged(stage: Stage):
    stage.send("narrow", "first")
    stage.raw("XADD", stage.keys.queue("narrow"), "*", "payload", b"\xff\x00")
    first, foreign = stage.fetch("narrow")
    die(stage, "narrow", first)
    die(stage, "narrow", foreign, reason=DeadReason.UNDECODABLE)
    stage.raw("XTRIM", stage.keys.dead("narrow"), "MAXLEN", 0)
    move_parked(stage, "narrow")
    [[_, flat]] = stage.raw("XRANGE", stage.keys.dead("narrow"), "-", "+")
    assert flat[:4] == [b"payload", b"\xff\x00", b"reason", b"undecodable"]


def test_parked_messages_take_room_of_their_queue_so_that_senders_feel_it(stage: Stage):
    stage.send("tight", "a", "b")
    die(stage, "tight", *stage.fetch("tight"))
    stage.send("tight", "c")
    assert stage.look("tight").parked == 1
    assert stage.send("tight", "d") == [Full("tight", 2)]


def test_a_claim_parks_a_message_past_its_limit_while_the_dead_letters_are_full(stage: Stage):
    stage.send("narrow", "first", "second")
    first, second = stage.fetch("narrow")
    die(stage, "narrow", first)
    stage.lapse("narrow", second)
    assert claim(stage, "narrow") == []
    state = stage.look("narrow")
    assert (state.parked, state.in_flight, state.dead) == (1, 0, 1)


def test_a_parked_message_is_tried_again_soon_whatever_else_waits_in_its_queue(stage: Stage):
    stage.send("narrow", "first", "second")
    die(stage, "narrow", *stage.fetch("narrow"))
    stage.send("narrow", "tomorrow", delay_ms=DAY_MS)
    move_parked(stage, "narrow")
    due_ms = float(stage.raw("ZSCORE", stage.keys.due, "narrow"))
    assert due_ms <= stage.server_ms() + 1000


# -- dead letters that are kept for a time --------------------------------------------------------------


def test_dead_letters_past_their_time_are_taken_out_and_counted(stage: Stage):
    words = (
        "id",
        "old",
        "type",
        "",
        "data",
        "{}",
        "headers",
        "",
        "attempt",
        "1",
        "expires",
        "",
        "reason",
        "failed",
    )
    for number in range(250):
        stage.raw("XADD", stage.keys.dead("mortal"), f"1-{number}", *words)
    stage.send("mortal", "young")
    die(stage, "mortal", stage.fetch_one("mortal"))
    removed = [stage.carry(stage.broker.sweep(["mortal"])).dead_letters for _ in range(3)]
    assert sum(removed) == 250
    assert removed[-1] == 0
    assert [letter.envelope.id for letter in dead_letters(stage, "mortal")] == ["young"]
    state = stage.look("mortal")
    assert state.counters is not None
    assert state.counters["dead_expired"] == 250


def test_dead_letters_without_a_time_stay(stage: Stage):
    stage.raw("XADD", stage.keys.dead("plain"), "1-1", "id", "old")
    assert stage.carry(stage.broker.sweep(["plain"])) == Swept(0, 0)
    assert stage.look("plain").dead == 1


# -- counting attempts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [(), ("attempt", "0", "expires", "")], ids=["left out", "written"])
def test_a_failure_is_counted_whether_or_not_the_message_says_that_it_never_failed(
    stage: Stage, left: tuple[str, ...]
):
    words = ("type", "t", "data", "{}", "headers", "", *left)
    for message_id in ("dies", "again"):
        stage.raw("XADD", stage.keys.queue("plain"), "*", "id", message_id, *words)
    dies, again = stage.fetch("plain")
    die(stage, "plain", dies)
    stage.carry(stage.broker.retry("plain", "me", [Retrying(again, 0)]))
    stage.make_due("plain")
    stage.carry(stage.broker.maintain(["plain"]))
    assert dead_letters(stage, "plain")[0].envelope == Envelope("dies", "t", b"{}", attempt=1)
    assert stage.fetch_one("plain").envelope == Envelope("again", "t", b"{}", attempt=1)


def test_a_message_past_its_limit_is_dead_lettered_by_the_claim_and_never_handed_out(stage: Stage):
    stage.send("plain", "m1")
    delivered = stage.fetch_one("plain")
    for attempt in (2, 3):
        stage.lapse("plain", delivered)
        [delivered] = claim(stage, "plain")
        assert delivered.attempt == attempt
    stage.lapse("plain", delivered)
    assert claim(stage, "plain") == []
    [letter] = dead_letters(stage, "plain")
    assert (letter.reason, letter.failure.type) == (DeadReason.FAILED, "LeaseLapsed")
    assert letter.envelope.attempt == 3
    state = stage.look("plain")
    assert (state.in_flight, state.ready) == (0, 0)
    assert state.counters is not None
    assert state.counters["dead_lettered"] == 1


def test_a_foreign_entry_past_the_limit_is_dead_lettered_as_it_was(stage: Stage):
    stage.raw("XADD", stage.keys.queue("plain"), "*", "payload", "x")
    [foreign] = stage.fetch("plain")
    for _ in range(3):
        stage.lapse("plain", foreign)
        foreign = next(iter(claim(stage, "plain")), foreign)
    [[_, flat]] = stage.raw("XRANGE", stage.keys.dead("plain"), "-", "+")
    assert flat[:4] == [b"payload", b"x", b"reason", b"failed"]


def test_failures_and_lapses_add_up_to_one_limit(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    [second] = claim(stage, "plain", "me")
    stage.carry(stage.broker.retry("plain", "me", [Retrying(second, 0)]))
    stage.carry(stage.broker.maintain(["plain"]))
    third = stage.fetch_one("plain")
    assert third.attempt == 3
    stage.lapse("plain", third)
    assert claim(stage, "plain") == []
    assert dead_letters(stage, "plain")[0].envelope.attempt == 3


def test_released_hand_outs_never_count_however_many(stage: Stage):
    stage.send("plain", "m1")
    delivered = stage.fetch_one("plain")
    for _ in range(10):
        assert stage.carry(stage.broker.release("plain", "me", [delivered])) == [True]
        [delivered] = claim(stage, "plain", "me")
        assert (delivered.attempt, delivered.delivery_count) == (1, 1)


def test_what_was_released_is_not_taken_for_its_own_by_the_one_who_gave_it_back(stage: Stage):
    stage.send("plain", "m1")
    stage.carry(stage.broker.release("plain", "me", [stage.fetch_one("plain")]))
    assert stage.fetch_own("plain") == []
    assert stage.look("plain").consumers == 1
    assert [delivered.attempt for delivered in claim(stage, "plain")] == [1]
    assert stage.look("plain").consumers == 2


def test_what_a_dead_worker_never_started_is_free_at_once_and_uncounted(stage: Stage):
    stage.send("plain", "running", "waiting", "also waiting", "of another")
    running, *_ = stage.fetch("plain", count=3)
    stage.fetch("plain", consumer="other")
    back = stage.carry(stage.broker.release_held("plain", "me", started=[running.entry_id]))
    assert (back.freed, back.started, back.more) == (2, (running,), False)
    assert [(one.envelope.id, one.attempt) for one in claim(stage, "plain")] == [
        ("waiting", 1),
        ("also waiting", 1),
    ]
    assert stage.fetch_own("plain") == [running]


def test_a_dead_worker_that_held_more_than_a_call_looks_at_is_emptied_in_parts(stage: Stage):
    for start in (0, 600):
        stage.send("plain", *(f"m{number}" for number in range(start, start + 600)))
    held = stage.fetch("plain", count=1200)
    started = [held[0].entry_id, held[-1].entry_id]
    parts = [stage.carry(stage.broker.release_held("plain", "me", started=started)) for _ in range(3)]
    assert [(part.freed, len(part.started), part.more) for part in parts] == [
        (999, 1, True),
        (199, 2, False),
        (0, 2, False),
    ]


def test_what_somebody_deleted_is_not_handed_back_for_a_dead_worker(stage: Stage):
    stage.send("plain", "deleted while it ran", "deleted while it waited", "waiting")
    running, waiting, _ = stage.fetch("plain")
    stage.raw("XDEL", stage.keys.queue("plain"), running.entry_id, waiting.entry_id)
    back = stage.carry(stage.broker.release_held("plain", "me", started=[running.entry_id]))
    assert back.freed == 1
    assert [one.entry_id for one in back.started] == [running.entry_id]
    assert [one.envelope.id for one in claim(stage, "plain")] == ["waiting"]


def test_an_answer_that_got_lost_does_not_count(stage: Stage):
    stage.send("plain", "m1")
    for _ in range(5):
        stage.fetch("plain")  # nobody read what it brought
        [delivered] = stage.fetch_own("plain")
        assert delivered.attempt == 1


def test_answers_that_got_lost_come_back_in_bounded_parts(stage: Stage):
    """One that was cut off for its size would be cut off again."""
    data = b'"' + b"x" * 1_500_000 + b'"'
    for number in range(5):
        envelope = Envelope(f"m{number}", "t", data, {})
        sending = Outgoing("plain", stage.digests["plain"], ("plain",), envelope)
        stage.carry(stage.broker.send(stage.flush(sending)))
    stage.fetch("plain")
    assert recover(stage) == [["m0", "m1", "m2"], ["m3", "m4"]]


def test_an_answer_that_got_lost_is_found_behind_however_many_the_consumer_knows(stage: Stage):
    """A part in which all are known is not the end."""
    for start in range(0, 2600, 650):
        stage.send("plain", *(f"m{number}" for number in range(start, start + 650)))
    held = stage.fetch("plain", count=2600)
    lost = [held[at].entry_id for at in (3, 2300, 2599)]
    known = [delivered.entry_id for delivered in held if delivered.entry_id not in lost]
    assert recover(stage, known) == [["m3"], ["m2300", "m2599"]]
    assert [len(part) for part in recover(stage)] == [1000, 1000, 600]


def recover(stage: Stage, known: Sequence[str] = ()) -> list[list[str]]:
    """The ids of what a consumer gets that goes through all it holds, by part."""
    parts: list[list[str]] = []
    course = recover_own(
        stage.broker,
        "plain",
        "me",
        lambda: known,
        lambda some: parts.append([one.envelope.id for one in some]),
    )
    connection: Any = SimpleNamespace(execute=stage.carry)
    carry_out(course, connection)
    return parts


def test_a_group_made_again_starts_from_the_failures_in_the_entry(stage: Stage):
    stage.send("plain", "m1")
    stage.carry(stage.broker.retry("plain", "me", [Retrying(stage.fetch_one("plain"), 0)]))
    stage.carry(stage.broker.maintain(["plain"]))
    stage.lapse("plain", stage.fetch_one("plain"))
    claim(stage, "plain")
    stage.raw("XGROUP", "DESTROY", stage.keys.queue("plain"), "g")
    write_topology(stage.admin, stage.topology)
    stage.raw("XGROUP", "CREATE", stage.keys.queue("plain"), "g", "0")
    assert stage.fetch_one("plain").attempt == 2


# -- crashes --------------------------------------------------------------------------------------------


def crash(stage: Stage, queue: str, *deliveries: Any, consumer: str = "me") -> list[bool]:
    return stage.carry(stage.broker.crash(queue, consumer, deliveries))


def test_a_message_that_crashes_its_process_too_often_is_dead_lettered_as_crashed(stage: Stage):
    stage.send("plain", "m1")
    assert crash(stage, "plain", stage.fetch_one("plain")) == [True]
    [again] = claim(stage, "plain", "me")
    assert again.attempt == 2  # the run had started, so it counts
    assert crash(stage, "plain", again) == [True]
    assert claim(stage, "plain") == []
    [letter] = dead_letters(stage, "plain")
    assert (letter.reason, letter.failure.type) == (DeadReason.CRASHED, "Crashed")
    assert letter.envelope.attempt == 2
    assert not stage.raw("EXISTS", stage.keys.crashes("plain"))


def test_a_crash_on_the_last_delivery_is_a_crash_whatever_came_before_it(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.carry(stage.broker.retry("plain", "me", [Retrying(first, 0)]))
    stage.carry(stage.broker.maintain(["plain"]))
    stage.lapse("plain", stage.fetch_one("plain"))
    [last] = claim(stage, "plain", "me")
    assert crash(stage, "plain", last) == [True]
    [letter] = dead_letters(stage, "plain")  # at once: nobody has to come and find it
    assert (letter.reason, letter.envelope.attempt) == (DeadReason.CRASHED, 3)
    assert letter.failure.message.endswith("on the last of its deliveries")
    assert not stage.raw("EXISTS", stage.keys.crashes("plain"))


def test_a_lapse_on_the_last_delivery_is_no_crash_even_after_one(stage: Stage):
    stage.send("plain", "m1")
    crash(stage, "plain", stage.fetch_one("plain"))
    [again] = claim(stage, "plain", "me")
    stage.carry(stage.broker.retry("plain", "me", [Retrying(again, 0)]))
    stage.carry(stage.broker.maintain(["plain"]))
    stage.lapse("plain", stage.fetch_one("plain"))
    assert claim(stage, "plain") == []
    assert [letter.reason for letter in dead_letters(stage, "plain")] == [DeadReason.FAILED]


def test_a_retry_carries_the_crashes_of_a_message(stage: Stage):
    stage.send("plain", "m1")
    crash(stage, "plain", stage.fetch_one("plain"))
    [again] = claim(stage, "plain", "me")
    stage.carry(stage.broker.retry("plain", "me", [Retrying(again, 0)]))
    stage.carry(stage.broker.maintain(["plain"]))
    crash(stage, "plain", stage.fetch_one("plain"))
    assert [letter.reason for letter in dead_letters(stage, "plain")] == [DeadReason.CRASHED]


def test_a_crash_of_a_former_owner_counts_nothing(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    claim(stage, "plain", "thief")
    assert crash(stage, "plain", first) == [False]
    assert not stage.raw("EXISTS", stage.keys.crashes("plain"))


@pytest.mark.parametrize("verb", ["ack", "reply", "discard", "dead_letter"])
def test_a_settled_message_leaves_no_count_of_its_crashes(stage: Stage, verb: str):
    stage.send("plain", "m1")
    crash(stage, "plain", stage.fetch_one("plain"))
    [again] = claim(stage, "plain", "me")
    if verb == "ack":
        ack(stage, "plain", again)
    elif verb == "reply":
        assert reply_to(stage, again)
    elif verb == "discard":
        stage.carry(stage.broker.discard("plain", "me", [again]))
    else:
        die(stage, "plain", again)
    assert not stage.raw("EXISTS", stage.keys.crashes("plain"))


def test_a_lowered_limit_of_crashes_holds_at_the_next_claim(stage: Stage):
    stage.send("plain", "m1")
    crash(stage, "plain", stage.fetch_one("plain"))
    stage.raw("HSET", stage.keys.meta("plain"), "max_crashes", 1)
    assert claim(stage, "plain") == []
    assert [letter.reason for letter in dead_letters(stage, "plain")] == [DeadReason.CRASHED]


# -- late settlements, and what a handler sends ---------------------------------------------------------


def test_a_late_acknowledgement_is_taken_and_counted_as_late(stage: Stage):
    stage.send("plain", "m1")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    claim(stage, "plain", "thief")
    assert stage.carry(stage.broker.ack("plain", [first.entry_id], late=1)) == 1
    assert stage.carry(stage.broker.ack("plain", [first.entry_id], late=1)) == 0  # repeated: nothing to count
    counters = stage.look("plain").counters
    assert counters is not None
    assert (counters["acked"], counters["late"]) == (1, 1)


def send_from(stage: Stage, delivered: Delivered, flush: Flush, consumer: str = "me") -> OutputsSent:
    return stage.carry(stage.broker.ack_with_outputs(consumer, delivered, flush))


def test_plain_outputs_go_the_short_way_unless_the_server_knows_better(stage: Stage):
    stage.send("dated", "m0", "m1", "m2")
    first, second, third = stage.fetch("dated")
    send_from(stage, first, stage.flush(stage.outgoing("plain", "o0")))  # the script is loaded by then
    before = count_calls(stage)
    flush = stage.flush(stage.outgoing("plain", "o1"))
    answers = [send_from(stage, second, flush) for _ in range(2)]  # the second time as after a lost answer
    made = count_calls(stage) - before
    assert answers == [OutputsSent(True, (Stored("o1", 1),))] * 2
    # Digest and queue are asked each time, the second time also whether the entry lies in the trash.
    assert (made["evalsha"], made["type"], made["hget"]) == (2, 0, 5)
    stage.raw("HSET", stage.keys.meta("plain"), "max_length", 2)
    flush = stage.flush(stage.outgoing("plain", "o2"))
    assert send_from(stage, third, flush) == OutputsSent(True, (Full("plain", 2),))
    assert (stage.look("plain").ready, stage.look("dated").in_flight) == (2, 1)


@pytest.mark.parametrize("kind", ["meta", "acked"])
def test_a_foreign_key_in_the_way_is_met_before_an_output_is_sent(stage: Stage, kind: str):
    stage.send("dated", "m1")
    delivered = stage.fetch_one("dated")
    key = getattr(stage.keys, kind)("dated")
    stage.raw("DEL", key)
    stage.raw("SET", key, "foreign")
    if kind == "acked":
        assert stage.raw("HGET", stage.keys.meta("dated"), "keep_acked_ms")
    with pytest.raises(BrokerError, match="WRONGTYPE"):
        send_from(stage, delivered, stage.flush(stage.outgoing("plain", "out")))
    assert stage.look("plain").ready == 0


# -- replies ------------------------------------------------------------------------------------------------


def reply_to(stage: Stage, delivered: Delivered, flush: Flush | None = None, inbox: str = "client") -> bool:
    """Whether it was still ours to acknowledge with a reply."""
    answer = Reply(inbox, delivered.envelope.id, "t", b"{}")
    flush = flush or stage.flush()
    return stage.carry(stage.broker.ack_with_outputs("me", delivered, flush, answer)).ours


def open_inbox(stage: Stage) -> None:
    stage.carry(stage.broker.open_inbox("client", lifetime_ms=60_000))


def read_inbox(stage: Stage) -> list[str]:
    read = stage.broker.read_inbox("client", "0", count=100, block_ms=0)
    return [arrived.reply.request_id for arrived in stage.carry(read)]


@pytest.mark.parametrize("queue", ["plain", "counted", "dated"])
def test_a_reply_leaves_in_the_step_that_acknowledges_and_is_put_in_once(stage: Stage, queue: str):
    open_inbox(stage)
    stage.send(queue, "asked", "other")
    asked, other = stage.fetch(queue)
    flush = stage.flush()
    before = count_calls(stage)
    assert reply_to(stage, asked, flush)
    assert (count_calls(stage) - before)["evalsha"] <= 2  # the second one brings the script's text
    assert reply_to(stage, asked, flush), "repeated as after a lost answer"
    assert reply_to(stage, other)
    assert read_inbox(stage) == ["asked", "other"]
    state = stage.look(queue)
    assert state.counters is not None
    assert (state.ready, state.in_flight, state.counters["acked"]) == (0, 0, 2)
    assert kept(stage, queue) == ([] if queue == "plain" else ["asked", "other"])


def test_a_reply_of_a_former_owner_is_not_put_in(stage: Stage):
    open_inbox(stage)
    stage.send("plain", "asked")
    first = stage.fetch_one("plain")
    stage.lapse("plain", first)
    claim(stage, "plain", "thief")
    assert not reply_to(stage, first)
    assert (read_inbox(stage), stage.look("plain").in_flight) == ([], 1)


def test_a_reply_to_an_inbox_that_is_gone_is_counted_as_late(stage: Stage):
    stage.send("plain", "asked")
    assert reply_to(stage, stage.fetch_one("plain"))
    state = stage.look("plain")
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["late_replies"], state.in_flight) == (1, 1, 0)


def test_a_request_that_somebody_deleted_meanwhile_is_answered_and_counted_as_vanished(stage: Stage):
    open_inbox(stage)
    stage.send("plain", "asked")
    asked = stage.fetch_one("plain")
    stage.raw("XDEL", stage.keys.queue("plain"), asked.entry_id)
    assert reply_to(stage, asked)
    counters = stage.look("plain").counters
    assert counters is not None
    assert (counters["acked"], counters["vanished"]) == (0, 1)
    assert (read_inbox(stage), stage.look("plain").in_flight) == (["asked"], 0)


def test_outputs_are_sent_with_the_acknowledgement_in_one_step(stage: Stage):
    stage.send("dated", "in")
    outputs = stage.flush(stage.outgoing("plain", "out"), stage.outgoing("mortal", "more", delay_ms=DAY_MS))
    done = send_from(stage, stage.fetch_one("dated"), outputs)
    assert done == OutputsSent(True, (Stored("out", 1), Stored("more", 1)))
    assert stage.fetch_one("plain").envelope == outputs.sends[0].envelope
    assert stage.look("mortal").delayed == 1
    state = stage.look("dated")
    assert (state.in_flight, state.ready, state.kept) == (0, 0, 1)
    assert state.counters is not None
    assert state.counters["acked"] == 1


def test_outputs_sent_twice_after_a_lost_answer_are_stored_once(stage: Stage):
    stage.send("dated", "in")
    delivered, outputs = stage.fetch_one("dated"), stage.flush(stage.outgoing("plain", "out"))
    first = send_from(stage, delivered, outputs)
    assert send_from(stage, delivered, outputs) == first
    assert stage.look("plain").ready == 1
    assert stage.look("dated").kept == 1


def test_a_former_owner_neither_sends_nor_acknowledges(stage: Stage):
    stage.send("dated", "in")
    delivered = stage.fetch_one("dated")
    stage.lapse("dated", delivered)
    [again] = claim(stage, "dated", "thief")
    assert send_from(stage, delivered, stage.flush(stage.outgoing("plain", "out"))) == OutputsSent(False)
    assert stage.look("plain").ready == 0
    assert send_from(stage, again, stage.flush(stage.outgoing("plain", "out")), "thief").ours


def test_outputs_that_find_no_room_leave_the_message_with_its_worker(stage: Stage):
    stage.send("tight", "a", "b")
    stage.send("plain", "in")
    delivered = stage.fetch_one("plain")
    outputs = stage.flush(stage.outgoing("mortal", "out"), stage.outgoing("tight", "more"))
    assert send_from(stage, delivered, outputs) == OutputsSent(True, (Full("tight", 2), Full("tight", 2)))
    assert (stage.look("plain").in_flight, stage.look("mortal").ready) == (1, 0)
    stale = stage.flush(stage.outgoing("mortal", "out", digest="old"))
    assert send_from(stage, delivered, stale).results == (Stale("mortal", stage.digests["mortal"]),)
    assert stage.look("plain").in_flight == 1
    assert ack(stage, "plain", delivered) == 1


# -- foreign entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [501, 20_000])
def test_an_entry_too_wide_for_a_script_is_dead_lettered_whole_in_one_field(stage: Stage, fields: int):
    words = [word for number in range(fields) for word in (f"f{number}", b"\xff\x00%d" % number)]
    stage.raw("XADD", stage.keys.queue("plain"), "*", *words)
    [found] = stage.fetch("plain")
    assert isinstance(found, Undecodable)
    assert die(stage, "plain", found, reason=DeadReason.UNDECODABLE) == [True]
    [[_, flat]] = stage.raw("XRANGE", stage.keys.dead("plain"), "-", "+")
    assert (flat[0], flat[2:4]) == (b"packed", [b"reason", b"undecodable"])
    unpack = "return cmsgpack.unpack(redis.call('XRANGE', KEYS[1], '-', '+')[1][2][2])"
    packed = stage.raw("EVAL", unpack, 1, stage.keys.dead("plain"))
    assert packed == [word.encode() if isinstance(word, str) else word for word in words]
    assert stage.look("plain").in_flight == 0


def test_a_wide_entry_past_its_limit_leaves_through_the_claim(stage: Stage):
    stage.raw("XADD", stage.keys.queue("narrow"), "*", *(f"w{number}" for number in range(9000)))
    [found] = stage.fetch("narrow")
    stage.lapse("narrow", found)
    assert claim(stage, "narrow") == []
    assert stage.look("narrow").dead == 1


# -- expiry ---------------------------------------------------------------------------------------------


def test_a_sweep_dead_letters_what_expired_unread_at_the_head(stage: Stage):
    stage.add_expired("plain", "a", "b")
    stage.send("plain", "fresh")
    assert stage.carry(stage.broker.sweep(["plain"])) == Swept(expired=2, dead_letters=0)
    assert stage.carry(stage.broker.sweep(["plain"])) == Swept(0, 0)
    found = [
        (letter.envelope.id, letter.reason, letter.envelope.attempt)
        for letter in dead_letters(stage, "plain")
    ]
    assert found == [("a", DeadReason.EXPIRED, 0), ("b", DeadReason.EXPIRED, 0)]
    assert stage.fetch_one("plain").envelope.id == "fresh"
    state = stage.look("plain")
    assert state.counters is not None
    assert (state.counters["expired"], state.counters["dead_lettered"]) == (2, 2)


def test_a_queue_may_discard_what_expired_and_counts_it(stage: Stage):
    stage.add_expired("forgetful", "a", "b")
    assert stage.carry(stage.broker.sweep(["plain", "forgetful"])).expired == 2
    state = stage.look("forgetful")
    assert state.counters is not None
    assert (state.counters["expired"], state.counters["discarded"], state.dead, state.ready) == (2, 2, 0, 0)


def test_a_discarded_message_counts_as_expired_only_where_it_was(stage: Stage):
    stage.send("forgetful", "a", "b")
    one, other = stage.fetch("forgetful")
    operation = stage.broker.discard("forgetful", "me", [one, other], expired=[other.entry_id])
    assert stage.carry(operation) == [True, True]
    counters = stage.look("forgetful").counters
    assert counters is not None
    assert (counters["discarded"], counters["expired"]) == (2, 1)


def test_a_sweep_is_bounded_and_shared_by_the_queues(stage: Stage):
    stage.add_expired("plain", *(f"m{number}" for number in range(150)))
    stage.add_expired("mortal", "x")
    swept = [stage.carry(stage.broker.sweep(["plain", "mortal"])).expired for _ in range(3)]
    assert swept == [100, 51, 0]


def test_a_sweep_leaves_messages_in_flight_to_whoever_runs_them(stage: Stage):
    stage.add_expired("plain", "running")
    delivered = stage.fetch_one("plain")
    stage.add_expired("plain", "unread")
    assert stage.carry(stage.broker.sweep(["plain"])).expired == 1
    assert [letter.envelope.id for letter in dead_letters(stage, "plain")] == ["unread"]
    assert ack(stage, "plain", delivered) == 1


def test_an_expired_message_is_not_claimed_but_leaves(stage: Stage):
    stage.add_expired("plain", "late")
    stage.add_expired("forgetful", "late")
    for queue in ("plain", "forgetful"):
        stage.lapse(queue, stage.fetch_one(queue))
        assert claim(stage, queue) == []
        assert stage.look(queue).in_flight == 0
    assert [letter.reason for letter in dead_letters(stage, "plain")] == [DeadReason.EXPIRED]
    assert stage.look("forgetful").dead == 0


def test_a_sweep_parks_what_finds_no_room_among_the_dead(stage: Stage):
    stage.add_expired("narrow", "a", "b")
    stage.carry(stage.broker.sweep(["narrow"]))
    assert (stage.look("narrow").dead, stage.look("narrow").parked) == (1, 1)


def test_a_sweep_passes_over_a_queue_that_is_not_there(stage: Stage):
    stage.raw("DEL", stage.keys.queue("plain"))
    stage.add_expired("mortal", "x")
    assert stage.carry(stage.broker.sweep(["plain", "mortal"])).expired == 1


# -- over the memory limit ------------------------------------------------------------------------------


@pytest.fixture
def full(stage: Stage) -> Iterator[Stage]:
    """A stage whose server is put over its memory limit by the test, and freed afterwards."""
    yield stage
    stage.raw("CONFIG", "SET", "maxmemory", 0)


def test_a_full_server_still_keeps_parks_sweeps_and_buries(full: Stage):
    full.send("dated", "kept")
    full.send("narrow", "dead", "parked")
    full.send("plain", "poison", "crashing")
    full.add_expired("mortal", "late")
    full.send("counted", "in")
    kept_one, source = full.fetch_one("dated"), full.fetch_one("counted")
    dead, parked = full.fetch("narrow")
    poison, crashing = full.fetch("plain")
    full.raw(
        "XCLAIM", full.keys.queue("plain"), "g", "gone", 0, poison.entry_id, "IDLE", 10**9, "RETRYCOUNT", 3
    )
    open_inbox(full)
    full.send("plain", "asked")
    asked = full.fetch_one("plain")
    full.raw("CONFIG", "SET", "maxmemory", 1)
    assert ack(full, "dated", kept_one) == 1
    assert reply_to(full, asked)
    assert die(full, "narrow", dead, parked) == [True, True]
    assert claim(full, "plain") == []
    assert crash(full, "plain", crashing) == [True]
    assert full.carry(full.broker.sweep(["mortal"])).expired == 1
    assert send_from(full, source, full.flush(full.outgoing("forgetful", "out"))).results == (
        Stored("out", 1),
    )
    full.raw("XTRIM", full.keys.dead("narrow"), "MAXLEN", 0)
    full.raw("CONFIG", "SET", "maxmemory", 0)
    assert [full.look(queue).dead for queue in ("plain", "mortal")] == [1, 1]
    assert read_inbox(full) == ["asked"]
    assert (full.look("narrow").parked, full.look("dated").kept) == (1, 1)
