"""Server and worker die together while an acknowledgement is carried out: it happened, or it did not."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import ALWAYS, Arena
from tests.support.checker import Home
from tests.support.history import Kind
from tests.support.processes import wait_until
from tests.support.replication import ask
from tests.support.slow_ack import ANSWERED, PLACE_VARIABLE, PLACES

BUSY_AFTER = ("--lua-time-limit", "20")
"""Milliseconds until the server tells others that a script holds it."""


def is_held_by_a_script(place: Arena) -> bool:
    try:
        ask(place.server, "PING")
    except ResponseError as refusal:
        return str(refusal).startswith("BUSY")
    return False


def count_left(place: Arena) -> int:
    """Messages that still lie in the queue."""
    return sum(place.look().homes[Home.MAIN].values())


@pytest.mark.parametrize("where", [*PLACES, ANSWERED])
@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_kill_of_server_and_worker_within_an_acknowledgement_leaves_all_of_it_or_none(
    arena: Build, figures: Figures, kind: str, where: str
):
    place = arena(kind, (*ALWAYS, *BUSY_AFTER), prefetch=1, concurrency=1, environ={PLACE_VARIABLE: where})
    doomed = place.start_worker(module="tests.support.slow_ack")
    place.start_producer(count=1, tasks=1, wishes={"done": 1.0})
    if where == ANSWERED:
        place.note_death(doomed)
    else:
        wait_until(lambda: is_held_by_a_script(place), "the script that holds the server")
    with place.server_down():
        if where != ANSWERED:
            place.kill_worker(doomed)
    left = count_left(place)
    place.start_worker()
    found = place.judge(recovery_s=None)
    figures.report(
        "F4", server=kind, killed_at=where, sent=found.sent, acknowledged=found.sent - left,
        as_before=left, torn=0 if left in {0, 1} else 1, lost=len(found.lost), runs=found.runs,
    )  # fmt: skip
    found.assert_sound()
    assert (left, found.runs) == ((0, 1) if where == ANSWERED else (1, 2))
    again = [record.redelivered for record in place.happened() if record.kind is Kind.START]
    assert again == [False, True][: found.runs]
