"""Many delayed messages are due at once, right after the server came back."""

from __future__ import annotations

import time

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import ALWAYS, NOISE_S
from tests.support.history import Kind

TICK_S = 0.25
BATCH = 100


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1_000, id="short"),
        pytest.param(10_000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
)
@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_messages_due_at_once_after_a_restart_are_never_early_and_hardly_late(
    arena: Build, figures: Figures, kind: str, count: int
):
    place = arena(kind, ALWAYS, prefetch=256, concurrency=64)
    place.start_worker()
    delay_s = 6.0 + count / 2000  # the start of a producer on a busy machine, and its work
    begun = time.time()
    place.start_producer(
        count=count, batch=100, tasks=1, pause_ms=0, work_ms=0,
        delays_ms=(round(delay_s * 1000),), wishes={"done": 1.0},
    )  # fmt: skip
    assert place.producers[0].end(seconds=60) == 0
    assert time.time() - begun < delay_s, "sending took so long that the first were due"
    with place.server_down():
        pass
    found = place.judge(recovery_s=None, settle_s=2.0)
    records = place.happened()
    invoked = {record.key: record.wall for record in records if record.kind is Kind.INVOKE}
    stored = {record.key: record.wall for record in records if record.kind is Kind.OK}
    started = {record.key: record.wall for record in records if record.kind is Kind.START}
    early = sum(started[key] < invoked[key] + delay_s for key in started)
    late = [started[key] - stored[key] - delay_s for key in started]
    figures.report("F52", server=kind, due=count, early=early, late_s=late)
    found.assert_sound()
    assert len(started) == count
    assert early == 0
    assert max(late) < TICK_S * count / BATCH + NOISE_S
