"""What an operator does to queues, on every server and over both colours of connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import (
    DeadEntry,
    Dying,
    MessagePlace,
    NoRoom,
    Purge,
    Replayed,
    Revival,
    Undone,
)
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import BrokerFullError, TopologyNotAppliedError
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import Queue
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, open_carrier

BOOM = Failure("ValueError", "boom")
DAY_MS = 24 * 3600 * 1000
QUEUES = (
    Queue(name="plain"),
    Queue(name="brief", ttl_ms=60_000),
    Queue(name="slow", delay_ms=60_000),
    Queue(name="small", max_length=2),
)


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        yield Stage(make_topology(namespace, *QUEUES), RedisBroker(namespace), carry, admin, server.url)
    admin.close()


def die(stage: Stage, queue: str, *ids: str, **options: Any) -> list[DeadEntry]:
    """Send these, fail them for good, and return them as they lie in the dead-letter queue."""
    stage.send(queue, *ids, **options)
    dying = [Dying(delivered, DeadReason.FAILED, BOOM) for delivered in stage.fetch(queue)]
    stage.carry(stage.broker.dead_letter(queue, "me", dying))
    return dead_letters(stage, queue)


def dead_letters(stage: Stage, queue: str) -> list[DeadEntry]:
    return stage.carry(stage.broker.read_dead_letters(queue, after="", count=100))


def replay(stage: Stage, *dead: DeadEntry, **headers: str) -> Replayed | NoRoom:
    revivals = [Revival(entry.entry_id, headers) for entry in dead]
    return stage.carry(stage.broker.replay(dead[0].queue, revivals))


def purge(stage: Stage, queue: str, purge_id: str = "one", *, keep_ms: int = DAY_MS) -> Purge:
    return stage.carry(stage.broker.purge(queue, purge_id, keep_ms=keep_ms))


def undo(stage: Stage, gone: Purge, *, count: int = 100) -> Undone | None:
    return stage.carry(stage.broker.undo_purge(gone, count=count))


def ids(deliveries: list[Delivered]) -> list[str]:
    return [delivered.envelope.id for delivered in deliveries]


# -- replay ----------------------------------------------------------------------------------------------


def test_a_replayed_message_is_as_it_was_sent_and_has_never_failed(stage: Stage):
    sent = stage.outgoing("plain", "m1")
    dead = die(stage, "plain", "m1")
    assert dead[0].letter.envelope.attempt == 1
    assert replay(stage, *dead, leanmqreplayed="1") == Replayed((True,))
    again = stage.fetch_one("plain")
    assert (again.envelope.id, again.envelope.type, again.envelope.data) == ("m1", "t", sent.envelope.data)
    assert (again.attempt, again.redelivered) == (1, False)
    assert again.envelope.headers == {"leanmqreplayed": "1"}
    assert not dead_letters(stage, "plain")


def test_a_replay_keeps_the_order_of_deaths_and_is_counted(stage: Stage):
    dead = die(stage, "plain", "a", "b", "c")
    replay(stage, *dead)
    assert ids(stage.fetch("plain")) == ["a", "b", "c"]
    assert stage.raw("HGET", stage.keys.meta("plain"), "replayed") == b"3"


def test_what_is_no_longer_dead_is_told_apart_and_does_not_hold_up_the_others(stage: Stage):
    first, second, third = die(stage, "plain", "a", "b", "c")
    stage.carry(stage.broker.discard_dead_letters("plain", [second.entry_id]))
    assert replay(stage, first, second, third) == Replayed((True, False, True))
    assert ids(stage.fetch("plain")) == ["a", "c"]


def test_a_replay_that_is_repeated_moves_nothing_twice(stage: Stage):
    dead = die(stage, "plain", "a", "b")
    replay(stage, *dead)
    assert replay(stage, *dead) == Replayed((False, False))
    assert len(stage.fetch("plain")) == 2


def test_a_queue_without_room_for_all_of_a_batch_takes_none(stage: Stage):
    dead = die(stage, "small", "a", "b")
    stage.send("small", "new")
    assert replay(stage, *dead) == NoRoom("small", max_length=2, room=1)
    assert len(dead_letters(stage, "small")) == 2
    assert replay(stage, dead[0]) == Replayed((True,))
    assert replay(stage, dead[1]) == NoRoom("small", max_length=2, room=0)


def test_the_lifetime_of_a_replayed_message_is_the_queues_own_from_now_on(stage: Stage):
    dead = [*die(stage, "brief", "a", ttl_ms=1_000), *die(stage, "plain", "b", ttl_ms=1_000)]
    before = stage.server_ms()
    for entry in dead:
        replay(stage, entry)
    after = stage.server_ms()
    expires_ms = stage.fetch_one("brief").envelope.expires_ms
    assert expires_ms is not None
    assert before + 60_000 <= expires_ms <= after + 60_000
    assert stage.fetch_one("plain").envelope.expires_ms is None


def test_a_replayed_message_does_not_wait_for_the_delay_of_its_queue(stage: Stage):
    stage.send("slow", "a", delay_ms=0)
    [delivered] = stage.fetch("slow")
    stage.carry(stage.broker.dead_letter("slow", "me", [Dying(delivered, DeadReason.FAILED, BOOM)]))
    replay(stage, *dead_letters(stage, "slow"))
    assert ids(stage.fetch("slow")) == ["a"]


@pytest.mark.parametrize("state", ["draining", "retired"])
def test_nothing_is_replayed_to_a_queue_on_its_way_out(stage: Stage, state: str):
    dead = die(stage, "plain", "a")
    stage.raw("HSET", stage.keys.meta("plain"), "state", state)
    with pytest.raises(TopologyNotAppliedError, match="is being removed"):
        replay(stage, *dead)
    assert len(dead_letters(stage, "plain")) == 1


def test_a_server_over_its_memory_limit_refuses_a_replay_and_still_discards_and_purges(
    stage: Stage, request: pytest.FixtureRequest
):
    first, second = die(stage, "plain", "a", "b")
    stage.send("plain", "c")
    request.addfinalizer(lambda: stage.raw("CONFIG", "SET", "maxmemory", "0"))
    stage.raw("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BrokerFullError):
        replay(stage, first, second)
    assert len(dead_letters(stage, "plain")) == 2
    assert stage.carry(stage.broker.discard_dead_letters("plain", [first.entry_id])) == [True]
    gone = purge(stage, "plain")
    assert gone.messages == 1
    stage.raw("CONFIG", "SET", "maxmemory", "0")
    assert undo(stage, gone) == Undone(1, 0)


# -- discard ---------------------------------------------------------------------------------------------


def test_discarded_dead_letters_are_gone_and_each_is_answered_for(stage: Stage):
    first, second, third = die(stage, "plain", "a", "b", "c")
    entries = [first.entry_id, "1-1", third.entry_id]
    assert stage.carry(stage.broker.discard_dead_letters("plain", entries)) == [True, False, True]
    assert dead_letters(stage, "plain") == [second]
    assert stage.raw("HGET", stage.keys.meta("plain"), "dead_discarded") == b"2"


@pytest.mark.parametrize("count", [0, 1001])
def test_a_call_moves_or_discards_no_more_than_its_bound(stage: Stage, count: int):
    with pytest.raises(ValueError, match="1 to 1000"):
        stage.broker.discard_dead_letters("plain", ["1-1"] * count)
    with pytest.raises(ValueError, match="1 to 1000"):
        stage.broker.replay("plain", [Revival("1-1", {})] * count)


# -- purge -----------------------------------------------------------------------------------------------


def fill(stage: Stage) -> list[Delivered]:
    """Two in flight, three ready, one delayed. Returns those in flight."""
    stage.send("plain", "f1", "f2")
    flying = stage.fetch("plain")
    stage.send("plain", "r1", "r2", "r3")
    stage.send("plain", "d1", delay_ms=60_000)
    return flying


def test_a_purge_takes_everything_and_says_how_much(stage: Stage):
    fill(stage)
    gone = purge(stage, "plain")
    assert (gone.ready, gone.in_flight, gone.delayed, gone.messages) == (3, 2, 1, 6)
    state = stage.look("plain")
    assert (state.ready, state.in_flight, state.delayed, state.problem) == (0, 0, 0, None)
    stage.make_due("plain")
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 0


def test_a_purged_queue_takes_and_hands_out_new_messages(stage: Stage):
    fill(stage)
    purge(stage, "plain")
    stage.send("plain", "new")
    assert ids(stage.fetch("plain")) == ["new"]


def test_no_entry_id_comes_twice_after_a_purge(stage: Stage):
    """The server's clock may stand still or step back: ids go on from the last one all the same."""
    stage.raw("XADD", stage.keys.queue("plain"), "9999999999999-5", "id", "x")
    purge(stage, "plain", keep_ms=0)
    stage.send("plain", "new")
    assert stage.fetch_one("plain").entry_id == "9999999999999-6"


def test_a_purge_that_is_repeated_takes_nothing_more(stage: Stage):
    fill(stage)
    first = purge(stage, "plain")
    stage.send("plain", "new")
    assert purge(stage, "plain") == first
    assert ids(stage.fetch("plain")) == ["new"]


def test_the_purge_of_an_empty_queue_leaves_no_trace(stage: Stage):
    assert purge(stage, "plain").messages == 0
    assert not stage.carry(stage.broker.list_purges("plain"))
    assert not stage.raw("EXISTS", stage.keys.purges("plain"))


def test_a_queue_that_is_not_applied_cannot_be_purged(stage: Stage):
    for verb in (stage.broker.purge, stage.broker.purge_dead_letters):
        with pytest.raises(TopologyNotAppliedError):
            stage.carry(verb("unknown", "one", keep_ms=DAY_MS))


def test_the_trash_of_a_purge_goes_by_itself(stage: Stage):
    fill(stage)
    purge(stage, "plain")
    trash = [stage.keys.trash("plain", "one", kind) for kind in "qzb"]
    for key in (*trash, stage.keys.purges("plain")):
        assert DAY_MS - 60_000 < stage.raw("PTTL", key) <= DAY_MS


def test_a_permanent_purge_leaves_nothing(stage: Stage):
    fill(stage)
    gone = purge(stage, "plain", keep_ms=0)
    assert gone.messages == 6
    assert undo(stage, gone) is None
    assert not stage.raw("KEYS", f"{stage.keys.purges('plain')}*".replace("{", "?").replace("}", "?"))


def test_workers_that_hold_purged_messages_are_told_on_everything_but_success(stage: Stage):
    first, second = fill(stage)
    purge(stage, "plain")
    assert stage.carry(stage.broker.extend("plain", "me", [first])) == [False]
    assert stage.carry(stage.broker.discard("plain", "me", [second])) == [False]
    assert stage.carry(stage.broker.ack("plain", [first.entry_id])) == 0


@pytest.mark.parametrize("keep_ms", [DAY_MS, 0], ids=["reversible", "permanent"])
def test_a_reader_that_waits_goes_on_waiting_through_a_purge_and_its_undoing(stage: Stage, keep_ms: int):
    stage.send("plain", "held")
    stage.fetch("plain")
    reader = BlockingRedisConnection.open(parse_address(stage.url))
    came: list[Any] = []

    def read() -> None:
        while not came:  # an empty answer means: read again
            came.extend(reader.execute(stage.broker.fetch(["plain"], "reader", count=10, block_ms=10_000)))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        wait_until_blocked(stage, reader.connection_id)
        gone = purge(stage, "plain", keep_ms=keep_ms)
        if keep_ms:
            assert undo(stage, gone) == Undone(1, 0)
        stage.send("plain", "new")
    finally:
        thread.join(10)
        reader.close()
    assert ids(came) == ["new"]


def wait_until_blocked(stage: Stage, connection_id: int) -> None:
    while True:
        rows = stage.raw("CLIENT", "LIST", "ID", connection_id)
        flags = next(word for word in rows.split() if word.startswith(b"flags="))
        if b"b" in flags:
            return


# -- undoing a purge -------------------------------------------------------------------------------------


def test_a_purge_is_undone_as_if_it_had_not_been(stage: Stage):
    before = fill(stage)
    gone = purge(stage, "plain")
    assert undo(stage, gone) == Undone(6, 0)
    state = stage.look("plain")
    assert (state.ready, state.in_flight, state.delayed) == (3, 2, 1)
    assert stage.carry(stage.broker.ack("plain", [before[0].entry_id])) == 1
    assert ids(stage.fetch("plain")) == ["r1", "r2", "r3"]
    stage.make_due("plain")
    stage.carry(stage.broker.maintain(["plain"]))
    assert ids(stage.fetch("plain")) == ["d1"]


def test_what_comes_back_does_not_expire_as_trash(stage: Stage):
    fill(stage)
    undo(stage, purge(stage, "plain"))
    for key in (stage.keys.queue("plain"), stage.keys.delayed("plain"), stage.keys.bodies("plain")):
        assert stage.raw("PTTL", key) == -1
    assert not stage.raw("EXISTS", stage.keys.purges("plain"))


def test_work_acknowledged_since_the_purge_does_not_come_back(stage: Stage):
    first, _ = fill(stage)
    gone = purge(stage, "plain")
    assert stage.carry(stage.broker.ack("plain", [first.entry_id])) == 0
    assert undo(stage, gone) == Undone(5, 0)
    state = stage.look("plain")
    assert (state.ready, state.in_flight) == (3, 1)


def test_work_acknowledged_since_stays_away_where_messages_are_added_again(stage: Stage):
    first, second = fill(stage)
    gone = purge(stage, "plain")
    stage.carry(stage.broker.ack("plain", [first.entry_id]))
    stage.send("plain", "new")
    assert undo(stage, gone) == Undone(5, 0)
    assert ids(stage.fetch("plain")) == ["new", second.envelope.id, "r1", "r2", "r3"]


def test_a_purge_is_undone_in_bounded_parts_behind_what_came_since(stage: Stage):
    fill(stage)
    gone = purge(stage, "plain")
    stage.send("plain", "new")
    assert undo(stage, gone, count=2) == Undone(2, 4)
    assert undo(stage, gone, count=2) == Undone(2, 2)
    assert undo(stage, gone, count=2) == Undone(2, 0)
    assert undo(stage, gone, count=2) is None
    found = stage.fetch("plain")
    assert ids(found) == ["new", "f1", "f2", "r1", "r2", "r3"]
    assert [delivered.attempt for delivered in found] == [1, 2, 2, 1, 1, 1]
    assert stage.look("plain").delayed == 1
    assert stage.raw("ZSCORE", stage.keys.due, "plain") is not None


def test_ids_go_on_after_a_purge_was_undone(stage: Stage):
    stage.send("plain", "old")
    gone = purge(stage, "plain")
    stage.raw("XADD", stage.keys.queue("plain"), "9999999999999-5", "id", "x")
    stage.raw("XDEL", stage.keys.queue("plain"), "9999999999999-5")
    assert undo(stage, gone) == Undone(1, 0)
    stage.send("plain", "new")
    assert [delivered.entry_id for delivered in stage.fetch("plain")][1] == "9999999999999-6"


def test_each_of_several_purges_can_be_undone(stage: Stage):
    stage.send("plain", "a")
    first = purge(stage, "plain", "one")
    stage.send("plain", "b")
    purge(stage, "plain", "two")
    listed = stage.carry(stage.broker.list_purges("plain"))
    assert [found.purge_id for found in listed] == ["one", "two"]
    assert listed[0].at_ms > 0
    assert undo(stage, first) == Undone(1, 0)
    assert undo(stage, listed[1]) == Undone(1, 0)
    assert ids(stage.fetch("plain")) == ["a", "b"]
    assert not stage.carry(stage.broker.list_purges("plain"))


def test_what_is_older_than_a_day_is_gone(stage: Stage):
    stage.send("plain", "a")
    gone = purge(stage, "plain", keep_ms=1)
    while stage.raw("EXISTS", stage.keys.trash("plain", "one", "q")):
        pass
    assert undo(stage, gone) is None
    assert not stage.carry(stage.broker.list_purges("plain"))


def test_dead_letters_are_purged_apart_and_come_back_as_they_were(stage: Stage):
    before = die(stage, "plain", "a", "b")
    stage.send("plain", "ready")
    gone = stage.carry(stage.broker.purge_dead_letters("plain", "one", keep_ms=DAY_MS))
    assert (gone.dead, gone.messages) == (2, 2)
    assert not dead_letters(stage, "plain")
    assert stage.look("plain").ready == 1
    [listed] = stage.carry(stage.broker.list_purges("plain"))
    assert (listed.dead, listed.of_dead_letters) == (2, True)
    assert undo(stage, listed) == Undone(2, 0)
    assert dead_letters(stage, "plain") == before
    assert stage.raw("PTTL", stage.keys.dead("plain")) == -1


def test_dead_letters_come_back_behind_those_that_died_since(stage: Stage):
    die(stage, "plain", "a", "b")
    gone = stage.carry(stage.broker.purge_dead_letters("plain", "one", keep_ms=DAY_MS))
    die(stage, "plain", "c")
    assert undo(stage, gone, count=1) == Undone(1, 1)
    assert undo(stage, gone, count=1) == Undone(1, 0)
    assert [entry.letter.envelope.id for entry in dead_letters(stage, "plain")] == ["c", "a", "b"]


# -- pause and resume ------------------------------------------------------------------------------------


def test_a_paused_queue_takes_messages_and_says_that_it_is_paused(stage: Stage):
    assert stage.carry(stage.broker.pause(["plain", "brief"])) == ["active", "active"]
    assert stage.carry(stage.broker.pause(["plain"])) == ["paused"]
    assert stage.look("plain").state == "paused"
    stage.send("plain", "a")
    assert stage.look("plain").ready == 1
    assert stage.carry(stage.broker.resume(["plain"])) == ["paused"]
    assert (stage.look("plain").state, stage.look("brief").state) == ("active", "paused")


def test_a_queue_on_its_way_out_is_neither_paused_nor_resumed(stage: Stage):
    stage.raw("HSET", stage.keys.meta("plain"), "state", "draining")
    assert stage.carry(stage.broker.pause(["plain", "unknown"])) == ["draining", ""]
    assert stage.look("plain").state == "draining"
    assert not stage.raw("EXISTS", stage.keys.meta("unknown"))


# -- peek ------------------------------------------------------------------------------------------------


def test_a_peek_shows_where_each_message_stands_and_changes_nothing(stage: Stage):
    first, _ = fill(stage)
    found = stage.carry(stage.broker.peek("plain", count=2))
    shown = [(entry.place, entry.envelope.id) for entry in found if entry.envelope]
    assert shown == [
        (MessagePlace.IN_FLIGHT, "f1"),
        (MessagePlace.IN_FLIGHT, "f2"),
        (MessagePlace.READY, "r1"),
        (MessagePlace.READY, "r2"),
        (MessagePlace.DELAYED, "d1"),
    ]
    assert (found[0].consumer, found[0].delivery_count, found[0].entry_id) == ("me", 1, first.entry_id)
    assert found[4].since_ms > stage.server_ms()
    state = stage.look("plain")
    assert (state.ready, state.in_flight, state.delayed) == (3, 2, 1)
    assert [entry.delivery_count for entry in stage.carry(stage.broker.peek("plain", count=2))[:2]] == [1, 1]


def test_a_peek_shows_what_is_not_ours_to_read(stage: Stage):
    stage.raw("XADD", stage.keys.queue("plain"), "*", "foreign", "entry")
    [entry] = stage.carry(stage.broker.peek("plain", count=10))
    assert (entry.place, entry.envelope) == (MessagePlace.READY, None)


def test_a_queue_that_is_not_applied_cannot_be_peeked_at(stage: Stage):
    with pytest.raises(TopologyNotAppliedError):
        stage.carry(stage.broker.peek("unknown", count=10))
