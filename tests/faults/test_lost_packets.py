"""Requests and answers get lost, torn, or stuck on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.calls import Call, Script
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import BrokerUnavailableError
from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.append_log import read_content
from tests.support.arena import CALM_SECONDS, NOISE_S
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology
from tests.support.history import Fault
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, open_carrier
from tests.support.steps import QUEUES, ROUTE, STEPS

LONG = (pytest.mark.soak, pytest.mark.timeout(600))
DETECTION_S = 10.0
"""A reader waits 5 s for the server, and 5 s more for an answer that is under way."""


@contextmanager
def breakable_stage(server: Server, namespace: str, colour: str) -> Iterator[tuple[Stage, ChaosProxy]]:
    """A stage whose operations go through a proxy; it is looked at past the proxy."""
    topology = make_topology(namespace, *QUEUES, routes=(ROUTE,), url=server.url)
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with ChaosProxy(server.socket_path) as proxy, open_carrier(colour, proxy.url) as carry:
        yield Stage(topology, RedisBroker(namespace), carry, admin, proxy.url), proxy
    admin.close()


def mark_of(stage: Stage, step: Call[object]) -> bytes:
    """What its request holds; the server knows the script from now on."""
    assert isinstance(step.command, Script)
    stage.raw("SCRIPT", "LOAD", step.command.text)
    return step.command.sha.encode()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_whose_answer_was_lost_may_be_repeated_and_happens_once(
    server: Server, namespace: str, figures: Figures, name: str, colour: str
):
    with breakable_stage(server, namespace, colour) as (stage, proxy):
        step = STEPS[name](stage)
        before = read_content(server.url, namespace)
        proxy.lose_answers(1, to=mark_of(stage, step))
        with pytest.raises(BrokerUnavailableError) as caught:
            stage.carry(step)
        assert caught.value.unknown
        once = read_content(server.url, namespace)
        assert once != before
        stage.carry(step)
        assert read_content(server.url, namespace) == once
    figures.report("F26", server=server.kind, step=name, happened=1)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_whose_request_was_lost_did_not_happen_and_may_be_repeated(
    server: Server, namespace: str, figures: Figures, name: str, colour: str
):
    with breakable_stage(server, namespace, colour) as (stage, proxy):
        step = STEPS[name](stage)
        before = read_content(server.url, namespace)
        proxy.lose_requests(1, to=mark_of(stage, step))
        with pytest.raises(BrokerUnavailableError):
            stage.carry(step)
        assert proxy.dropped == 1
        assert read_content(server.url, namespace) == before
        stage.carry(step)
        once = read_content(server.url, namespace)
        assert once != before
    figures.report("F27", server=server.kind, step=name, happened=1)


@pytest.mark.parametrize("colour", COLOURS)
def test_what_was_read_in_a_lost_answer_is_found_again_and_counts_as_handed_out_once(
    server: Server, namespace: str, figures: Figures, colour: str
):
    with breakable_stage(server, namespace, colour) as (stage, proxy):
        stage.send("work", "a", "b")
        proxy.lose_answers(1, to=b"XREADGROUP")
        with pytest.raises(BrokerUnavailableError):
            stage.fetch("work")
        found = stage.fetch_own("work")
        assert [(one.envelope.id, one.delivery_count) for one in found] == [("a", 1), ("b", 1)]
    figures.report("F26", server=server.kind, step="fetch", happened=1)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_answers_that_come_in_pieces_are_understood(
    server: Server, namespace: str, figures: Figures, size: int, colour: str
):
    with breakable_stage(server, namespace, colour) as (stage, proxy):
        proxy.tear_answers(size)
        stage.send("work", *map(str, range(20)))
        assert [one.envelope.id for one in stage.fetch("work")] == [str(n) for n in range(20)]
        assert stage.look("work").in_flight == 20
    figures.report("F30", server=server.kind, piece_bytes=size, errors=0)


@pytest.mark.parametrize("colour", COLOURS)
def test_an_answer_cut_at_any_byte_is_an_error_of_ours_and_the_next_call_works(
    server: Server, namespace: str, colour: str
):
    with breakable_stage(server, namespace, colour) as (stage, proxy):
        stage.send("work", "a")
        for cut in range(40):
            proxy.cut_after(cut)
            with pytest.raises(BrokerUnavailableError):
                look_often(stage)
            proxy.cut_nothing()
            assert stage.look("work").ready == 1


def look_often(stage: Stage) -> None:
    for _ in range(50):
        stage.look("work")


# -- a whole system behind a bad line --------------------------------------------------------------------


@pytest.mark.parametrize("losses", [pytest.param(25, id="short"), pytest.param(400, id="long", marks=LONG)])
def test_a_system_that_keeps_losing_requests_and_answers_loses_no_message(
    arena: Build, figures: Figures, losses: int
):
    place = arena()
    with ChaosProxy(place.server.socket_path) as proxy:
        place.connect_through(proxy.url)
        place.start_worker()
        place.start_worker()
        place.start_producer()
        with place.everybody_met(Fault.CONNECTIONS_CUT):
            for _ in range(losses):
                lose = place.dice.choice([proxy.lose_answers, proxy.lose_requests])
                lose(place.dice.randint(1, 2), to=place.dice.choice([b"EVALSHA", b"XREADGROUP"]))
                time.sleep(place.dice.uniform(0.05, 0.3))  # the pace of the nemesis
        found = place.judge()
        lost, dropped = proxy.lost, proxy.dropped
    stored_twice = place.look().ledgers["work"].sent - found.sent - len(found.recovered)
    figures.report(
        "F26", system="2 workers, 1 producer", answers_lost=lost, requests_lost=dropped, sent=found.sent,
        stored_twice=stored_twice, lost=len(found.lost), run_twice=len(found.duplicates),
    )  # fmt: skip
    found.assert_sound()
    assert stored_twice == 0
    assert lost > losses / 10
    assert dropped > losses / 10


@pytest.mark.parametrize("seconds", [pytest.param(4, id="short"), pytest.param(60, id="long", marks=LONG)])
@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_clients_that_are_killed_twice_a_second_lose_nothing(
    arena: Build, figures: Figures, kind: str, seconds: int
):
    place = arena(kind)
    for _ in range(2):
        place.start_worker()
    place.start_producer()
    with place.everybody_met(Fault.CONNECTIONS_CUT):
        for _ in range(2 * seconds):
            place.onlooker.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.5)  # the pace of the nemesis
    found = place.judge()
    figures.report(
        "F31", server=kind, kills=2 * seconds, sent=found.sent, lost=len(found.lost),
        run_twice=len(found.duplicates), connections_left=place.onlooker.connections(),
    )  # fmt: skip
    found.assert_sound()
    assert found.sent > 10 * seconds


def test_a_slow_line_keeps_its_leases_and_causes_no_storm(arena: Build, figures: Figures):
    """A fifth of a second each way, 10 KiB a second; a handler that runs longer than a lease."""
    place = arena(lease_s=5.0, prefetch=8, concurrency=4)
    with ChaosProxy(place.server.socket_path) as proxy:
        place.connect_through(proxy.url)
        proxy.slow_down(0.2, piece=2048)
        worker = place.start_worker()
        place.start_producer(count=16, tasks=4, pause_ms=1, work_ms=7000, wishes={"done": 1.0})
        found = place.judge()
    storm = [word for word in ("lost", "lapsed", "no answer") if word in worker.said]
    figures.report(
        "F29", sent=found.sent, runs=found.runs, lost=len(found.lost), leases_lost=len(found.concurrent)
    )
    found.assert_sound()
    assert (found.sent, found.runs) == (16, 16)
    assert not storm, worker.said


def test_a_line_that_goes_silent_is_noticed_in_time(arena: Build, figures: Figures):
    """Nothing closes the connections; they are just dead. New ones work."""
    place = arena()
    with ChaosProxy(place.server.socket_path) as proxy:
        place.connect_through(proxy.url)
        worker = place.start_worker()
        place.start_producer(count=5, tasks=1)
        place.wait_until_drained()
        at = time.monotonic()
        proxy.go_silent()
        with place.everybody_met(Fault.CONNECTIONS_CUT):
            place.start_producer(count=5, tasks=1)
            place.wait_until_drained(seconds=DETECTION_S + CALM_SECONDS)
        noticed = time.monotonic() - at
        found = place.judge()
    figures.report("F28", sent=found.sent, lost=len(found.lost), working_again_within_s=noticed)
    found.assert_sound()
    assert noticed < DETECTION_S + NOISE_S, "the answer took longer than a wait and its margin"
    assert "no answer" in worker.said
