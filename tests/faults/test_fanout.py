"""An event has a copy for every queue of its route, or none."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import ALWAYS
from tests.support.history import Kind
from tests.support.processes import wait_until

TOPOLOGY = """
leanmq: 1
name: arena
broker: {{url: "{url}"}}
messages:
  task: {{schema: {{type: object, required: [key], properties: {{key: {{type: string}}}}}}}}
queues:
  work: {{accepts: [task], ttl: none, visibility_timeout: {lease_ms}ms, {limits}}}
  small: {{accepts: [task], ttl: none, visibility_timeout: {lease_ms}ms, max_length: 200}}
routes:
  all: {{type: fanout, to: {{work: {{}}, small: {{}}}}}}
handlers:
  take: {{queue: work, call: "tasks:work", concurrency: {concurrency}, prefetch: {prefetch}}}
"""


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_an_event_reaches_all_queues_or_none_while_one_fills_up_and_the_server_dies(
    arena: Build, figures: Figures, kind: str
):
    """Nobody reads the small queue: once it is full, no event may reach the other one either."""
    place = arena(kind, ALWAYS, text=TOPOLOGY, queues=("work", "small"))
    place.start_worker()
    place.start_producer(target="all", pause_ms=5, wishes={"done": 1.0})
    wait_until(lambda: place.onlooker.waiting(["small"]) > 50, "some copies")
    with place.server_down():
        pass
    wait_until(lambda: place.onlooker.waiting(["small"]) == 200, "a full queue")
    place.wait_for_record(lambda record: record.kind is Kind.FAIL, "a refused event")
    assert place.producers[0].end() == 0
    wait_until(lambda: place.onlooker.waiting(["work"]) == 0, "an empty queue")
    found = place.judge(drain=False, max_deliveries=8, recovery_s=None)
    records = place.happened()
    events = {record.key for record in records if record.kind is Kind.OK}
    run = {record.key for record in records if record.kind is Kind.END}
    kept = {slot.key for home in place.look().homes.values() for slot in home if slot.queue == "small"}
    refused = sum(record.kind is Kind.FAIL for record in records) // 2
    figures.report(
        "F53", server=kind, events=len(events), refused=refused,
        half_stored=len(run ^ kept), lost=len(found.lost),
    )  # fmt: skip
    found.assert_sound()
    assert run == kept, "each event has both copies"
    assert len(kept) == 200
