"""What any live worker does for a namespace now and then, on every server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.protocol import Damage, Part, QueueHealth, Stretch
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.topology.model import Queue
from tests.support.factories import make_topology, write_topology
from tests.support.lease_times import move_leases
from tests.support.servers import Server
from tests.support.stage import Stage

PLAIN = Queue(name="plain")
QUEUES = (PLAIN, Queue(name="other"), *(Queue(name=f"q{n:03d}") for n in range(100)))
HOUR_MS = 3_600_000


@pytest.fixture
def stage(server: Server, namespace: str) -> Iterator[Stage]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    topology = make_topology(namespace, *QUEUES)
    yield Stage(topology, RedisBroker(namespace), connection.execute, connection, server.url)
    connection.close()


def counter(stage: Stage, name: str, queue: str = "plain") -> int:
    counters = stage.look(queue).counters
    assert counters is not None
    return counters[name]


def claim_all(stage: Stage, consumer: str = "me") -> list[Any]:
    found: list[Any] = []
    cursor = "0-0"
    while True:
        claim = stage.broker.claim(PLAIN, consumer, cursor=cursor, count=100)
        cursor, part = stage.carry(claim)
        found += part
        if cursor == "0-0":
            return found


def search(stage: Stage, verb: Any, queue: str = "plain") -> tuple[int, int]:
    """To the end; returns how much was found, and in how many stretches."""
    found, stretches, cursor = 0, 0, ""
    while True:
        stretch: Stretch = stage.carry(verb(queue, cursor=cursor))
        found, stretches, cursor = found + stretch.found, stretches + 1, stretch.cursor
        if not cursor:
            return found, stretches


# -- promotion ------------------------------------------------------------------------------------------


def test_who_names_no_queue_learns_which_ones_are_due(stage: Stage):
    stage.send("plain", "soon", delay_ms=60_000)
    stage.send("other", "later", delay_ms=120_000)
    stage.make_due("plain")
    seen = stage.carry(stage.broker.maintain([]))
    assert (seen.promoted, seen.waiting, seen.generation, seen.epoch) == (0, ("plain",), 1, "e")
    seen = stage.carry(stage.broker.maintain(seen.waiting))
    assert (seen.promoted, seen.waiting) == (1, ())
    assert seen.next_due_ms is not None
    assert 0 < seen.next_due_ms - seen.now_ms <= 120_000


def test_queues_that_are_due_share_a_call(stage: Stage):
    stage.send("plain", *(f"p{n}" for n in range(200)), delay_ms=60_000)
    stage.send("other", *(f"o{n}" for n in range(5)), delay_ms=60_000)
    for queue in ("plain", "other"):
        stage.make_due(queue)
    assert stage.carry(stage.broker.maintain(["plain", "other"])).promoted == 55
    assert (stage.look("plain").ready, stage.look("other").ready) == (50, 5)


def test_many_queues_that_are_due_are_all_reached(stage: Stage):
    queues = [queue.name for queue in QUEUES]
    for queue in queues:
        stage.send(queue, "m", delay_ms=60_000)
        stage.make_due(queue)
    moved, waiting = 0, ()
    for _ in range(20):
        seen = stage.carry(stage.broker.maintain(waiting))
        moved, waiting = moved + seen.promoted, seen.waiting
        assert len(waiting) <= 64
    assert moved == len(queues)


def test_a_call_moves_a_bounded_number_of_bytes(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(10)), delay_ms=60_000)
    for member in stage.raw("HKEYS", stage.keys.bodies("plain")):
        stage.raw("HSET", stage.keys.bodies("plain"), member, b"x" * 1024 * 1024)
    stage.make_due("plain")
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 5
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 5


def test_while_one_worker_moves_messages_the_others_leave_it_to_that_one(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(250)), delay_ms=60_000)
    stage.make_due("plain")
    first = stage.carry(stage.broker.maintain(["plain"], "one"))
    assert first.promoted == 100
    left_alone = stage.carry(stage.broker.maintain(["plain"], "two"))
    assert left_alone.promoted == 0
    assert left_alone.next_due_ms is not None
    assert 0 < left_alone.next_due_ms - left_alone.now_ms <= 250
    assert stage.carry(stage.broker.maintain(["plain"], "one")).promoted == 100


def test_another_worker_takes_over_a_tick_after_the_first_fell_silent(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(150)), delay_ms=60_000)
    stage.make_due("plain")
    stage.carry(stage.broker.maintain(["plain"], "one"))
    stage.raw("HINCRBY", stage.keys.upkeep, "ran_ms", -251)
    assert stage.carry(stage.broker.maintain(["plain"], "two")).promoted == 50


def test_a_mark_from_before_the_clock_went_back_holds_nobody_up(stage: Stage):
    stage.send("plain", "m", delay_ms=60_000)
    stage.make_due("plain")
    stage.raw("HSET", stage.keys.upkeep, "worker", "one", "ran_ms", stage.server_ms() + HOUR_MS)
    assert stage.carry(stage.broker.maintain(["plain"], "two")).promoted == 1


@pytest.mark.parametrize("kind", ["queue", "delayed", "bodies", "meta", "dead"])
def test_a_queue_whose_keys_are_not_ours_holds_up_no_other(stage: Stage, kind: str):
    for queue in ("plain", "other"):
        stage.send(queue, "m", delay_ms=60_000)
        stage.make_due(queue)
    key = getattr(stage.keys, kind)("plain")
    stage.raw("SET", key, "somebody else's")
    seen = stage.carry(stage.broker.maintain(["plain", "other"]))
    assert (seen.promoted, seen.waiting) == (1, ())
    assert seen.next_due_ms is not None
    assert seen.next_due_ms - seen.now_ms == 1000
    assert stage.raw("GET", key) == b"somebody else's"


def test_a_delayed_message_whose_body_was_deleted_is_counted_as_vanished(stage: Stage):
    stage.send("plain", "a", "b", delay_ms=60_000)
    stage.raw("HDEL", stage.keys.bodies("plain"), "a")
    stage.make_due("plain")
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 2
    assert [delivered.envelope.id for delivered in stage.fetch("plain")] == ["b"]
    assert counter(stage, "vanished") == 1


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x01", b"\x91\xa1x", b""], ids=["broken", "number", "short", "empty"]
)
def test_a_body_that_somebody_else_wrote_is_handed_out_as_undecodable(stage: Stage, body: bytes):
    stage.send("plain", "m", delay_ms=60_000)
    stage.raw("HSET", stage.keys.bodies("plain"), "m", body)
    stage.make_due("plain")
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 1
    [found] = stage.fetch("plain")
    assert isinstance(found, Undecodable)


# -- orphans --------------------------------------------------------------------------------------------


def test_what_a_deleted_consumer_held_is_found_and_handed_out_again(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(6)))
    stage.fetch("plain", consumer="mine", count=1)
    stage.fetch("plain", consumer="deleted", count=3)
    stage.fetch("plain", consumer="mine", count=1)
    stage.raw("XGROUP", "DELCONSUMER", stage.keys.queue("plain"), "g", "deleted")
    assert search(stage, stage.broker.rescue) == (3, 1)
    assert stage.carry(stage.broker.survey(["plain"], "mine")) == [
        QueueHealth("plain", None, False, 5, 2, 3, 3)
    ]
    found = claim_all(stage)
    assert [item.envelope.id for item in found] == ["m1", "m2", "m3"]
    assert {(item.attempt, item.redelivered) for item in found} == {(2, True)}
    assert stage.look("plain").ready == 1
    assert counter(stage, "rescued") == 3
    assert search(stage, stage.broker.rescue) == (0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_exactly_what_nobody_holds_is_rescued(stage: Stage, seed: int):
    dice = random.Random(seed)
    stage.send("plain", *(f"m{n}" for n in range(1500 if seed == 0 else 60)))
    orphans = set()
    while dice.random() < 0.999 and (
        batch := stage.fetch("plain", count=dice.randint(1, 200 if seed == 0 else 9))
    ):
        for delivered in batch:
            match dice.choice(["acked", "held", "orphan"]):
                case "acked":
                    stage.carry(stage.broker.ack("plain", [delivered.entry_id]))
                case "orphan":
                    stage.raw("XACK", stage.keys.queue("plain"), "g", delivered.entry_id)
                    orphans.add(delivered.envelope.id)
    held = stage.look("plain").in_flight
    found, stretches = search(stage, stage.broker.rescue)
    assert found == len(orphans)
    assert (stretches > 1) is (seed == 0)
    assert stage.look("plain").in_flight == held + found
    assert {item.envelope.id for item in claim_all(stage)} == orphans


def test_rescue_on_a_queue_that_is_not_there_says_so_and_makes_nothing(stage: Stage):
    stage.raw("DEL", stage.keys.queue("plain"))
    with pytest.raises(TopologyNotAppliedError):
        stage.carry(stage.broker.rescue("plain"))
    assert stage.raw("EXISTS", stage.keys.queue("plain")) == 0


# -- lost indexes and groups ----------------------------------------------------------------------------


def test_delayed_messages_whose_index_was_deleted_are_due_now(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(1200)), delay_ms=HOUR_MS)
    stage.raw("DEL", stage.keys.delayed("plain"), stage.keys.due)
    found, stretches = search(stage, stage.broker.rescue_delayed)
    assert (found, stretches > 1) == (1200, True)
    assert stage.carry(stage.broker.maintain(["plain"])).promoted == 100
    assert search(stage, stage.broker.rescue_delayed) == (0, 1)


def test_a_queue_that_dropped_out_of_the_due_index_comes_back_with_its_times(stage: Stage):
    stage.send("plain", "m", delay_ms=HOUR_MS)
    [_, when] = stage.raw("ZRANGE", stage.keys.delayed("plain"), 0, 0, "WITHSCORES")
    stage.raw("DEL", stage.keys.due)
    assert search(stage, stage.broker.rescue_delayed) == (0, 1)
    assert stage.raw("ZSCORE", stage.keys.due, "plain") == when


def test_looking_for_lost_delays_writes_nothing_where_there_are_none(stage: Stage):
    stage.send("plain", "m", delay_ms=HOUR_MS)
    before = stage.raw("DUMP", stage.keys.delayed("plain")), stage.raw("DUMP", stage.keys.due)
    assert search(stage, stage.broker.rescue_delayed) == (0, 1)
    assert search(stage, stage.broker.rescue_delayed, "other") == (0, 1)
    assert (stage.raw("DUMP", stage.keys.delayed("plain")), stage.raw("DUMP", stage.keys.due)) == before


def test_a_destroyed_group_is_made_again_and_hands_out_exactly_the_unfinished_work(stage: Stage):
    stage.send("plain", "done", "held", "ready")
    done, held = stage.fetch("plain", count=2)
    stage.carry(stage.broker.ack("plain", [done.entry_id]))
    stage.raw("XGROUP", "DESTROY", stage.keys.queue("plain"), "g")
    assert stage.carry(stage.broker.survey(["plain"], "me"))[0].damage is Damage.GROUP_GONE
    assert stage.carry(stage.broker.rescue_group("plain")) == 2
    assert stage.carry(stage.broker.rescue_group("plain")) is None
    assert [item.envelope.id for item in stage.fetch("plain")] == ["held", "ready"]
    assert stage.carry(stage.broker.ack("plain", [held.entry_id])) == 1


def test_a_group_is_made_only_where_the_queue_is_applied_and_its_stream_is_there(stage: Stage):
    for queue in ("plain", "other"):
        stage.raw("XGROUP", "DESTROY", stage.keys.queue(queue), "g")
    stage.raw("DEL", stage.keys.queue("plain"))
    stage.raw("HDEL", stage.keys.topology, "queues.other")
    assert stage.carry(stage.broker.rescue_group("plain")) is None
    assert stage.carry(stage.broker.rescue_group("other")) is None
    assert stage.raw("EXISTS", stage.keys.queue("plain")) == 0
    assert stage.raw("XINFO", "GROUPS", stage.keys.queue("other")) == []


# -- the server's clock ---------------------------------------------------------------------------------


def test_leases_from_before_the_clock_went_back_can_lapse_again(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(700)))
    delivered = stage.fetch("plain", consumer="dead", count=700)
    assert move_leases(stage, "plain", HOUR_MS) == 700
    assert search(stage, stage.broker.repair_clock) == (700, 2)
    rows = stage.raw("XPENDING", stage.keys.queue("plain"), "g", "-", "+", 1000)
    assert [(row[0].decode(), row[1], row[3]) for row in rows] == [
        (item.entry_id, b"dead", 1) for item in delivered
    ]
    assert move_leases(stage, "plain", -40_000) == 700
    assert len(claim_all(stage)) == 700


def test_repairing_clocks_shortens_no_lease_that_runs(stage: Stage):
    stage.send("plain", "m")
    stage.fetch("plain")
    move_leases(stage, "plain", -10_000)
    assert search(stage, stage.broker.repair_clock) == (0, 1)
    [[_, _, idle_ms, _]] = stage.raw("XPENDING", stage.keys.queue("plain"), "g", "-", "+", 1)
    assert idle_ms >= 10_000


# -- names of workers that are gone ---------------------------------------------------------------------


def test_names_that_hold_nothing_are_forgotten_after_a_while_and_no_others(stage: Stage):
    stage.send("plain", "m")
    stage.fetch("plain", consumer="holds")
    for number in range(1200):
        stage.raw("XGROUP", "CREATECONSUMER", stage.keys.queue("plain"), "g", f"gone{number}")
    assert stage.carry(stage.broker.reap(["plain", "other"], idle_ms=HOUR_MS)) == 0
    assert stage.carry(stage.broker.reap(["plain", "other"], idle_ms=-1)) == 1000
    assert stage.carry(stage.broker.reap(["plain", "other"], idle_ms=-1)) == 200
    assert stage.carry(stage.broker.list_consumers(["plain"])) == ["holds"]
    assert stage.look("plain").in_flight == 1


def test_a_queue_is_checked_by_one_worker_at_a_time(stage: Stage):
    assert stage.carry(stage.broker.take_turns(["plain", "other"], good_for_ms=30_000)) == ["plain", "other"]
    assert stage.carry(stage.broker.take_turns(["plain", "q000"], good_for_ms=30_000)) == ["q000"]
    stage.raw("HINCRBY", stage.keys.upkeep, "checked:plain", -30_000)
    stage.raw("HINCRBY", stage.keys.upkeep, "checked:other", HOUR_MS)  # the clock went back since
    assert stage.carry(stage.broker.take_turns(["plain", "other"], good_for_ms=30_000)) == ["plain", "other"]
    assert 0 < stage.raw("PTTL", stage.keys.upkeep) <= 300_000


def test_only_queues_that_hold_anything_are_worth_a_search(stage: Stage):
    names = ["plain", "other", "q000", "q001", "q002"]
    assert stage.carry(stage.broker.list_filled(names)) == []
    stage.send("plain", "ready")
    stage.send("other", "delayed", delay_ms=60_000)
    stage.raw("HSET", stage.keys.bodies("q000"), "m", "what lost its place in line")
    stage.raw("SET", stage.keys.delayed("q001"), "somebody else's")
    assert stage.carry(stage.broker.list_filled(names)) == names[:4]


# -- looking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "damage"),
    [
        (("DEL", "queue"), Damage.MISSING),
        (("SET", "queue"), Damage.WRONG_TYPE),
        (("DEL", "meta"), Damage.RECORD_GONE),
        (("SET", "meta"), Damage.WRONG_TYPE),
        (("GROUP", "queue"), Damage.GROUP_GONE),
    ],
)
def test_a_look_tells_what_is_wrong_with_a_queue_and_touches_nothing(
    stage: Stage, harm: tuple[str, str], damage: Damage
):
    verb, kind = harm
    key = getattr(stage.keys, kind)("plain")
    if verb == "GROUP":
        stage.raw("XGROUP", "DESTROY", key, "g")
    else:
        stage.raw(verb, key, *(["other"] * (verb == "SET")))
    before = stage.raw("EXISTS", key), stage.raw("TYPE", key)
    found = stage.carry(stage.broker.survey(["plain", "other"], "me"))
    assert found == [QueueHealth("plain", damage), QueueHealth("other")]
    assert (stage.raw("EXISTS", key), stage.raw("TYPE", key)) == before


def test_a_look_tells_who_holds_what_and_what_is_paused(stage: Stage):
    stage.send("plain", *(f"m{n}" for n in range(6)))
    stage.fetch("plain", consumer="me", count=1)
    stage.fetch("plain", consumer="other", count=2)
    released = stage.fetch("plain", consumer="third", count=3)
    stage.carry(stage.broker.release("plain", "third", released))
    stage.carry(stage.broker.pause(["other"]))
    assert stage.carry(stage.broker.survey(["plain", "other"], "me")) == [
        QueueHealth("plain", None, False, pending=6, own=1, free=3),
        QueueHealth("other", None, paused=True),
    ]


# -- claiming -------------------------------------------------------------------------------------------


def test_of_fifty_claimers_one_gets_the_message(stage: Stage, server: Server):
    stage.send("plain", "m")
    stage.lapse("plain", stage.fetch_one("plain", consumer="dead"))
    together = Barrier(50)

    def compete(number: int, connection: BlockingRedisConnection) -> list[Any]:
        together.wait(30)
        claim = stage.broker.claim(PLAIN, f"c{number}", cursor="0-0", count=10)
        return connection.execute(claim)[1]

    with ExitStack() as resources, ThreadPoolExecutor(50) as pool:
        rivals = [BlockingRedisConnection.open(parse_address(server.url)) for _ in range(50)]
        for rival in rivals:
            resources.callback(rival.close)
        won = [part for part in pool.map(compete, range(50), rivals) if part]
    [[winner]] = won
    assert isinstance(winner, Delivered)
    assert winner.attempt == 2


@pytest.mark.parametrize("count", [4, 100])
def test_one_dead_among_five_thousand_renewed_is_found_in_one_sweep(stage: Stage, count: int):
    for start in range(0, 5000, 1000):
        stage.send("plain", *(f"m{n}" for n in range(start, start + 1000)))
    delivered = stage.fetch("plain", consumer="busy", count=5000)
    stage.lapse("plain", delivered[4321])
    cursor, calls, found = "0-0", 0, []
    while not found:
        claim = stage.broker.claim(PLAIN, "me", cursor=cursor, count=count)
        cursor, found = stage.carry(claim)
        calls += 1
        assert found or cursor != "0-0", "the sweep went past it"
    assert [item.envelope.id for item in found] == ["m4321"]
    assert calls <= 5000 / (10 * count) + 1


@pytest.mark.parametrize("part", [Part.ALL, Part.SUSPECT])
def test_one_call_takes_over_only_so_many_bytes_and_the_next_goes_on_behind_them(stage: Stage, part: Part):
    large = b'"' + b"x" * 1024 * 1024 + b'"'
    sends = [stage.outgoing("plain", f"m{n}") for n in range(10)]
    for send in sends:
        whole = replace(send, envelope=replace(send.envelope, data=large))
        stage.carry(stage.broker.send(stage.flush(whole)))
    stage.lapse("plain", *stage.fetch("plain"))
    cursor, sweeps = "0-0", []
    while not sweeps or cursor != "0-0":
        claim = stage.broker.claim(PLAIN, "me", cursor=cursor, count=100, part=part)
        cursor, found = stage.carry(claim)
        sweeps.append([item.envelope.id for item in found])
    assert list(map(len, sweeps)) == [4, 4, 2]
    assert [name for sweep in sweeps for name in sweep] == [f"m{n}" for n in range(10)]


def test_a_worker_that_claims_what_it_holds_only_learns_that_it_still_has_it(stage: Stage):
    stage.send("plain", "mine", "lost")
    mine, lost = stage.fetch("plain")
    stage.raw("XCLAIM", stage.keys.queue("plain"), "g", "me", 0, mine.entry_id, "IDLE", HOUR_MS, "JUSTID")
    stage.raw("XCLAIM", stage.keys.queue("plain"), "g", "me", 0, lost.entry_id, "IDLE", HOUR_MS, "JUSTID")
    claim = stage.broker.claim(PLAIN, "me", cursor="0-0", count=10, held=[mine.entry_id])
    _, found = stage.carry(claim)
    assert [(item.envelope.id, item.delivery_count) for item in found] == [("mine", 1), ("lost", 2)]
    assert stage.carry(stage.broker.extend("plain", "me", found)) == [True, True]


def test_what_somebody_deleted_under_a_worker_is_counted_as_vanished(stage: Stage):
    stage.send("plain", "acked", "settled", "lapsed", "renewed")
    acked, settled, lapsed, renewed = stage.fetch("plain")
    move_leases(stage, "plain", -60_000)
    gone = [item.entry_id for item in (settled, lapsed, renewed)]
    stage.raw("XDEL", stage.keys.queue("plain"), *gone)
    assert stage.carry(stage.broker.ack("plain", [acked.entry_id, settled.entry_id])) == 1
    assert counter(stage, "vanished") == 1
    still_held = stage.carry(stage.broker.extend("plain", "me", [renewed]))
    if still_held == [True]:  # a server before 7.0 keeps what is pending of a deleted entry
        move_leases(stage, "plain", -60_000)
    assert claim_all(stage) == []
    state = stage.look("plain")
    assert state.counters is not None
    assert (state.in_flight, state.counters["vanished"], state.counters["acked"]) == (0, 3, 1)


def test_a_whole_namespace_that_was_deleted_is_not_made_again_by_upkeep(stage: Stage):
    stage.send("plain", "m", delay_ms=60_000)
    keys = stage.raw("KEYS", stage.keys.topology.replace("topology", "*").replace("{", r"\{"))
    stage.raw("DEL", *keys)
    seen = stage.carry(stage.broker.maintain(["plain"], "me"))
    assert (seen.generation, seen.epoch, seen.waiting, seen.next_due_ms) == (0, "", (), None)
    assert stage.carry(stage.broker.rescue_delayed("plain")) == Stretch("", 0)
    assert stage.carry(stage.broker.repair_clock("plain")) == Stretch("", 0)
    assert stage.carry(stage.broker.rescue_group("plain")) is None
    assert stage.carry(stage.broker.reap(["plain"], idle_ms=0)) == 0
    assert stage.raw("EXISTS", *keys) == 0
    write_topology(stage.admin, stage.topology)
    stage.send("plain", "again")
    assert stage.fetch_one("plain").envelope.id == "again"
