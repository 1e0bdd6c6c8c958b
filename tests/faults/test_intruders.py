"""Somebody else does things to the server: forgets its scripts, holds it up, deletes what is ours."""

from __future__ import annotations

import time

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import LeanMQError
from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.append_log import Content, read_content
from tests.support.arena import Arena
from tests.support.factories import make_topology
from tests.support.history import Fault, Kind
from tests.support.processes import wait_until
from tests.support.servers import Server
from tests.support.stage import Stage
from tests.support.steps import QUEUES, ROUTE, STEPS

BUSY = "local since = redis.call('TIME'); repeat local now = redis.call('TIME') until now[1] - since[1] >= 2"


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_server_that_keeps_forgetting_its_scripts_is_taught_again(
    arena: Build, figures: Figures, kind: str
):
    place = arena(kind)
    place.start_worker()
    place.start_producer()
    for _ in range(30):
        place.onlooker.ask("SCRIPT", "FLUSH")
        time.sleep(0.1)  # the pace of the nemesis
    found = place.judge()
    figures.report(
        "F25", server=kind, flushes=30, sent=found.sent, lost=len(found.lost), run_twice=len(found.duplicates)
    )
    found.assert_sound()
    assert not found.duplicates
    assert not found.recovered
    assert "error" not in place.workers[0].said.replace("RuntimeError", "").replace("error: take task", "")


def test_a_script_that_holds_the_server_up_is_waited_for(arena: Build, figures: Figures):
    place = arena()
    place.onlooker.ask("CONFIG", "SET", "lua-time-limit", 200)
    place.start_worker()
    place.start_producer()
    time.sleep(0.5)  # some load
    with place.everybody_met(Fault.SERVER_STALLED):
        place.onlooker.ask("EVAL", BUSY, 0)
    time.sleep(0.5)  # some more
    found = place.judge()
    figures.report("F33", sent=found.sent, lost=len(found.lost), run_twice=len(found.duplicates))
    found.assert_sound()
    assert all(producer.process.returncode == 0 for producer in place.producers)


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_messages_deleted_under_their_workers_harm_no_other(arena: Build, figures: Figures, kind: str):
    """What somebody deleted is gone; everything else is run, and nothing is left pending for ever."""
    place = arena(kind, prefetch=64, concurrency=2)
    place.start_producer(count=100, pause_ms=1, work_ms=20, wishes={"done": 0.5, "fail once": 0.5})
    place.producers[0].end()  # so that the first read of the worker brings as much as it may hold
    worker = place.start_worker()
    place.wait_for_record(lambda record: record.kind is Kind.END, "work under way")
    key = place.onlooker.keys.queue("work")
    with place.paused(worker):
        held = place.onlooker.ask("XPENDING", key, "g", "-", "+", 100)
        assert isinstance(held, list)
        victims = [entry for entry, *_ in held[len(held) // 2 :]]
        vanished = place.onlooker.ask("XDEL", key, *victims)
    assert isinstance(vanished, int)
    place.wait_until_drained()

    def nothing_is_pending() -> bool:
        pending = place.onlooker.ask("XPENDING", key, "g")
        assert isinstance(pending, list)
        return pending[0] == 0

    wait_until(nothing_is_pending, "an empty list of what is pending")
    found = place.judge()
    figures.report("F46", server=kind, deleted=vanished, sent=found.sent, vanished=len(found.lost))
    assert vanished > 0
    assert len(found.lost) <= vanished
    assert set(found.violations) <= {"I1", "I3"}, found.violations


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_destroyed_group_is_made_again_and_hands_out_what_was_unfinished(
    arena: Build, figures: Figures, kind: str
):
    place = arena(kind)
    for _ in range(2):
        place.start_worker()
    place.start_producer(work_ms=20)
    for _ in range(3):
        time.sleep(place.dice.uniform(0.5, 1.0))  # the pace of the nemesis
        with place.everybody_met(Fault.OWNERSHIP_LOST):
            place.onlooker.ask("XGROUP", "DESTROY", place.onlooker.keys.queue("work"), "g")
            wait_until(lambda: groups(place) == 1, "the group again")
    found = place.judge(max_deliveries=8)
    figures.report(
        "F44", server=kind, destroyed=3, sent=found.sent, lost=len(found.lost),
        run_twice=len(found.duplicates), resumed_after_s=found.resumptions_s,
    )  # fmt: skip
    found.assert_sound()


def groups(place: Arena) -> int:
    found = place.onlooker.ask("XINFO", "GROUPS", place.onlooker.keys.queue("work"))
    assert isinstance(found, list)
    return len(found)


@pytest.mark.soak
def test_what_a_deleted_consumer_held_is_rescued(arena: Build, figures: Figures):
    """Its worker lives, runs what it has, and settles it; what it had not started is found by somebody."""
    place = arena(prefetch=64, concurrency=1)
    place.start_worker()
    place.start_producer(count=100, pause_ms=1, work_ms=20, wishes={"done": 1.0})
    place.wait_for_record(lambda record: record.kind is Kind.END, "work under way")
    victim = place.living[0]
    at = time.monotonic()
    for name in consumers(place):
        place.onlooker.ask("XGROUP", "DELCONSUMER", place.onlooker.keys.queue("work"), "g", name)
    place.nemesis.fault(Fault.OWNERSHIP_LOST, at=at, until=time.monotonic())
    place.kill_worker(victim)
    place.start_worker()
    rescued_s = place.wait_until_drained(seconds=90)
    found = place.judge(recovery_s=None)
    figures.report("F45", sent=found.sent, lost=len(found.lost), drained_within_s=rescued_s)
    found.assert_sound()


def consumers(place: Arena) -> list[bytes]:
    found = place.onlooker.ask("XINFO", "CONSUMERS", place.onlooker.keys.queue("work"), "g")
    assert isinstance(found, list)
    return [dict(zip(flat[::2], flat[1::2], strict=True))[b"name"] for flat in found]


def test_a_wiped_server_is_noticed_and_work_goes_on_after_an_apply(arena: Build, figures: Figures):
    place = arena()
    worker = place.start_worker()
    place.start_producer(count=10)
    place.wait_until_drained()
    at = time.monotonic()
    place.onlooker.ask("FLUSHALL")
    worker.wait_for("not on the server any more")
    noticed_s = time.monotonic() - at
    lines = worker.said.count("\n")
    time.sleep(3)  # the length of the measurement
    logged = worker.said.count("\n") - lines
    place.apply()
    place.start_producer(count=10)
    place.wait_until_drained()
    records = place.happened()
    figures.report("F42", noticed_after_s=noticed_s, lines_a_second=logged / 3)
    assert noticed_s < 10
    assert logged <= 3
    assert {record.key for record in records if record.kind is Kind.END} >= {f"p1-{n}" for n in range(10)}


@pytest.mark.parametrize("key", ["queue", "meta", "delayed", "bodies", "dead", "due"])
@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_that_meets_a_key_of_another_type_moves_no_message_half_way(
    server: Server, namespace: str, figures: Figures, name: str, key: str
):
    """A step that does not need the key is done; one that needs it fails, or says so, before it writes."""
    topology = make_topology(namespace, *QUEUES, routes=(ROUTE,), url=server.url)
    connection = BlockingRedisConnection.open(parse_address(server.url))
    stage = Stage(topology, RedisBroker(namespace), connection.execute, connection, server.url)
    step = STEPS[name](stage)
    wrong = stage.keys.due if key == "due" else getattr(stage.keys, key)("work")
    stage.raw("SET", wrong, "not ours")
    before = read_messages(server, namespace)
    failed = False
    try:
        stage.carry(step)
    except LeanMQError:
        failed = True
    after = read_messages(server, namespace)
    connection.close()
    assert not failed or after == before
    figures.report("F47", server=server.kind, step=name, key=key, moved_half_way=0)


def read_messages(server: Server, namespace: str) -> Content:
    """Where messages lie; not who does upkeep, and when."""
    content = read_content(server.url, namespace)
    return {key: value for key, value in content.items() if key.split(":")[1] not in {"due", "upkeep"}}
