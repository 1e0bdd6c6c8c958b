"""Clocks of clients are wrong by a day; only the server's counts."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import NOISE_S
from tests.support.history import Kind
from tests.support.processes import wait_until

DAY_S = 86_400
DELAY_S = 1.0


@pytest.mark.parametrize("skew_s", [-DAY_S, DAY_S])
def test_a_worker_whose_clock_is_wrong_neither_starts_what_expired_nor_drops_what_lives(
    arena: Build, figures: Figures, skew_s: int
):
    place = arena(
        limits="ttl: 4s, max_deliveries: 5, retry: {delay: 50ms}", environ={"CLOCK_SKEW_SECONDS": str(skew_s)}
    )
    place.start_producer(count=20, wishes={"done": 1.0})
    place.producers[0].end()
    sent_ms = server_ms(place.onlooker.ask("TIME"))
    wait_until(lambda: server_ms(place.onlooker.ask("TIME")) > sent_ms + 4000, "the end of their lives")
    worker = place.start_worker(module="tests.support.skewed_worker")
    wait_until(lambda: place.onlooker.waiting(["work"]) == 0, "an empty queue")
    assert not [record for record in place.happened() if record.kind is Kind.START]
    place.start_producer(count=10, wishes={"done": 1.0})
    place.start_producer(count=10, delays_ms=(round(1000 * DELAY_S),), wishes={"done": 1.0})
    found = place.judge()
    # Both clocks of these processes run on CLOCK_MONOTONIC, which nobody skewed.
    invoked = {record.key: record.at for record in place.happened() if record.kind is Kind.INVOKE}
    started = {record.key: record.at for record in place.happened() if record.kind is Kind.START}
    figures.report(
        "F41", skew_days=str(skew_s // DAY_S), expired_and_started=0, run=len(started), lost=len(found.lost)
    )
    found.assert_sound()
    assert started.keys() == {f"p{producer}-{number}" for producer in (1, 2) for number in range(10)}
    for key in started:
        waited, delay_s = started[key] - invoked[key], DELAY_S if key.startswith("p2") else 0.0
        assert delay_s <= waited < delay_s + NOISE_S, key
    assert {reason for _, reason in place.look().reasons} == {"expired"}
    assert "lapsed" not in worker.said


def server_ms(answer: object) -> int:
    assert isinstance(answer, list)
    seconds, micros = answer
    return int(seconds) * 1000 + int(micros) // 1000
