"""How long the thread beside a client that consumes rests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import Upkeep
from leanmq_topology.client.consuming import housekeeper
from leanmq_topology.client.consuming.housekeeper import Housekeeper
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.watch import LOOK_SECONDS, REST_SECONDS

SEEN = Upkeep(generation=1, promoted=0, next_due_ms=None, now_ms=1, epoch="e", waiting=())


@pytest.mark.parametrize("since_the_look", [0.0, 0.4, LOOK_SECONDS - 0.01])
def test_what_wakes_it_between_two_looks_does_not_put_the_next_one_off(
    since_the_look: float, monkeypatch: pytest.MonkeyPatch
):
    nothing_to_repair = SimpleNamespace(busy=False, step=lambda: iter(()), repair_clocks=lambda: None)
    monkeypatch.setattr(housekeeper, "CheckUp", lambda broker, shelves: nothing_to_repair)
    server: Any = SimpleNamespace(
        maintain=lambda queues, consumer: "maintain", execute=lambda operation: SEEN
    )
    keeper = Housekeeper(server, server, "me", ServerClock(), Outage(), lambda shelf: 0, server)
    keeper._due_bell = server
    server.works, server.start = True, lambda: None
    keeper._heard_all = True
    watch: Any = SimpleNamespace(quiet=True, due=False, rest_seconds=REST_SECONDS - since_the_look)
    keeper._watch = watch

    assert since_the_look + keeper._tick() == pytest.approx(REST_SECONDS)
