"""The server dies, freezes or stalls under load, and comes back."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.catalogue import Figures, Number
from tests.faults.conftest import Build
from tests.support.arena import ALWAYS, EVERY_SECOND, LEASE_S, NOISE_S, Arena
from tests.support.checker import Findings
from tests.support.history import Fault

LONG = (pytest.mark.soak, pytest.mark.timeout(900))
POLICIES = {"always": ALWAYS, "everysec": EVERY_SECOND}
RESUME_S = 2.0
"""After the server is back, something must run within this."""
ORPHAN_S = 5.0
"""How long the child that rewrites the log outlives a killed Redis 6.2, and with it its open connections."""


def fight(place: Arena, kills: int, *, workers: bool) -> None:
    """Load, and a server that is killed again and again; now and then a worker too."""
    for _ in range(3):
        place.start_worker()
    place.start_producer()
    for number in range(kills):
        time.sleep(place.dice.uniform(0.8, 2.0))  # the pace of the nemesis
        with place.server_down():
            time.sleep(place.dice.uniform(0.0, 0.5))
        if workers and number % 2:
            place.kill_worker()
            place.start_worker()


@pytest.mark.parametrize("kills", [pytest.param(3, id="short"), pytest.param(25, id="long", marks=LONG)])
@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_server_that_is_killed_under_load_loses_nothing(
    arena: Build, figures: Figures, kind: str, policy: str, kills: int
):
    place = arena(kind, POLICIES[policy])
    fight(place, kills, workers=True)
    found = place.judge(recovery_s=None, max_deliveries=8, loss_window_s=0.0 if policy == "always" else 2.0)
    report(figures, "F13", found, server=kind, policy=policy, kills=kills)
    found.assert_sound()
    assert found.sent > 30 * kills
    assert max(found.resumptions_s) < RESUME_S + NOISE_S


@pytest.mark.parametrize("kills", [pytest.param(2, id="short"), pytest.param(20, id="long", marks=LONG)])
@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_kill_during_a_rewrite_of_the_log_loses_nothing(
    arena: Build, figures: Figures, kind: str, kills: int
):
    """Leases and positions are part of what is rewritten."""
    place = arena(kind, ALWAYS)
    place.start_worker()
    place.start_producer(work_ms=20)
    for _ in range(kills):
        time.sleep(place.dice.uniform(0.3, 0.8))  # the pace of the nemesis
        place.onlooker.ask("BGREWRITEAOF")
        time.sleep(place.dice.uniform(0.0, 0.05))
        with place.server_down():
            pass
    found = place.judge(recovery_s=None, max_deliveries=8)
    report(figures, "F17", found, server=kind, kills=kills)
    found.assert_sound()
    assert max(found.resumptions_s) < RESUME_S + NOISE_S + (ORPHAN_S if kind == "redis62" else 0)


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_server_with_snapshots_alone_loses_what_came_after_the_last_and_no_more(
    arena: Build, figures: Figures, kind: str
):
    place = arena(kind)  # no append-only file
    place.start_producer(count=100, wishes={"done": 1.0})
    place.producers[0].end()
    place.onlooker.ask("SAVE")
    place.start_producer(count=50, wishes={"done": 1.0})
    place.producers[1].end()
    with place.server_down():
        pass
    place.start_worker()
    found = place.judge(recovery_s=None, loss_window_s=60.0)
    figures.report("F18", server=kind, sent=found.sent, sent_after_the_snapshot=50, lost=len(found.lost))
    found.assert_sound()
    assert {slot.key for slot in found.lost} == {f"p1-{number}" for number in range(50)}


def test_a_server_that_froze_for_three_leases_loses_nothing(arena: Build, figures: Figures):
    """To a server that wakes up all leases look lapsed: messages may run twice, and none is gone."""
    place = arena()
    for _ in range(2):
        place.start_worker()
    place.start_producer(work_ms=20)
    time.sleep(0.5)  # some load
    process = place.server.process
    assert process is not None
    with place.everybody_met(Fault.SERVER_STALLED):
        process.send_signal(signal.SIGSTOP)
        time.sleep(3 * LEASE_S)
        process.send_signal(signal.SIGCONT)
    time.sleep(0.5)  # some more
    found = place.judge(max_deliveries=8)
    report(figures, "F34", found)
    found.assert_sound()


@pytest.mark.parametrize("scope", ["ALL", "WRITE"])
def test_a_paused_server_loses_nothing(arena: Build, figures: Figures, scope: str):
    place = arena()
    for _ in range(2):
        place.start_worker()
    place.start_producer(work_ms=20)
    time.sleep(0.5)  # some load
    with place.everybody_met(Fault.SERVER_STALLED):
        place.onlooker.ask("CLIENT", "PAUSE", round(2000 * LEASE_S), scope)
        time.sleep(2 * LEASE_S)
    time.sleep(0.5)  # some more
    found = place.judge(max_deliveries=8)
    report(figures, "F32", found, scope=scope)
    found.assert_sound()


def report(figures: Figures, fault: str, found: Findings, **more: Number) -> None:
    figures.report(
        fault,
        **more,
        sent=found.sent,
        unknown_and_run=len(found.recovered),
        lost=len(found.lost),
        run_twice=len(found.duplicates),
        resumed_after_s=found.resumptions_s,
    )
