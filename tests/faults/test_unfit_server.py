"""Somebody changes the server's settings under its workers, so that it may delete messages unseen."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import Arena
from tests.support.processes import wait_until

NOTICED_S = 30.0


def leanmq(place: Arena, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leanmq_topology.cli.main", *words],
        cwd=place.folder, text=True, capture_output=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "policy"), [("valkey9", "allkeys-lru"), ("redis62", "volatile-ttl")])
def test_a_server_that_begins_to_evict_is_noticed_said_once_and_shown(
    arena: Build, figures: Figures, kind: str, policy: str
):
    place = arena(kind)
    worker = place.start_worker()
    place.start_producer(pause_ms=100)
    place.onlooker.ask("CONFIG", "SET", "maxmemory-policy", policy)
    changed = time.monotonic()
    worker.wait_for("the server is unfit", seconds=NOTICED_S)
    noticed_s = time.monotonic() - changed
    assert f"maxmemory-policy is {policy}: a full server would delete messages unseen" in worker.said
    assert "CONFIG SET maxmemory-policy noeviction" in worker.said

    def shown() -> str:
        [told] = json.loads(leanmq(place, "status", "-o", "json").stdout)["workers"]
        return str(told["unfit"])

    wait_until(lambda: f"maxmemory-policy is {policy}" in shown(), "a heartbeat that tells it")
    assert f"! the server is unfit: maxmemory-policy is {policy}" in leanmq(place, "status").stdout
    assert f"maxmemory-policy is {policy}" in leanmq(place, "doctor").stdout
    place.onlooker.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    worker.wait_for("the server is fit again")
    wait_until(lambda: shown() == "None", "a heartbeat that tells it")
    found = place.judge()
    figures.report("F36", server=kind, policy=policy, noticed_after_s=noticed_s, lost=len(found.lost))
    found.assert_sound()
    assert worker.said.count("the server is unfit") == 1
