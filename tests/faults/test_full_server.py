"""The server reaches its memory limit, or its limit of clients; it is drained and recovers unaided."""

from __future__ import annotations

import time

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import Arena
from tests.support.history import Kind, Record
from tests.support.processes import wait_until


def refused(place: Arena) -> list[Record]:
    return [record for record in place.happened() if record.kind is Kind.FAIL]


def ended(place: Arena) -> int:
    return sum(record.kind is Kind.END for record in place.happened())


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_server_over_its_memory_limit_refuses_sends_and_is_drained(
    arena: Build, figures: Figures, kind: str
):
    """Retries, dead letters and promotions go on: only new messages are refused."""
    place = arena(kind)
    place.start_producer(batch=100, count=4000, pause_ms=1, work_ms=0, delays_ms=(0, 0, 500))
    wait_until(lambda: place.onlooker.waiting(["work"]) > 3000, "a backlog")
    place.onlooker.ask("CONFIG", "SET", "maxmemory", 1)
    assert place.producers[0].end(seconds=60) == 0
    place.start_producer(pause_ms=50)
    wait_until(lambda: len(refused(place)) > 20, "refused sends")
    backlog = place.onlooker.waiting(["work"])
    since = time.monotonic()
    for _ in range(2):
        place.start_worker()
    wait_until(lambda: place.onlooker.waiting(["work"]) == 0, "an empty queue", seconds=60)
    drained_s = time.monotonic() - since
    assert {record.note for record in refused(place)} == {"BrokerFullError"}
    before = ended(place)
    place.onlooker.ask("CONFIG", "SET", "maxmemory", 0)
    wait_until(lambda: ended(place) > before + 20, "new messages that are run")
    found = place.judge(recovery_s=None)
    figures.report(
        "F35", server=kind, refused=len(refused(place)), drained=backlog,
        drained_per_second=round(backlog / drained_s), lost=len(found.lost), run_twice=len(found.duplicates),
    )  # fmt: skip
    found.assert_sound()


def test_a_server_with_its_most_clients_turns_newcomers_away_and_serves_the_others(
    arena: Build, figures: Figures
):
    place = arena()
    place.start_worker()
    place.start_producer()
    clients = place.onlooker.connections()
    place.onlooker.ask("CONFIG", "SET", "maxclients", clients + 1)
    newcomer = place.start_worker(wait=False)
    assert newcomer.process.wait(30) == 5
    assert "Traceback" not in newcomer.said
    before = ended(place)
    wait_until(lambda: ended(place) > before + 20, "messages that are run")
    place.onlooker.ask("CONFIG", "SET", "maxclients", 1000)
    place.start_worker()
    found = place.judge()
    figures.report("F38", newcomer_exit=newcomer.process.returncode, sent=found.sent, lost=len(found.lost))
    found.assert_sound()


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_reader_that_is_cut_off_for_the_size_of_its_answer_gets_it_in_parts(
    arena: Build, figures: Figures, kind: str
):
    """The server handed these messages out in an answer that it then did not send."""
    place = arena(kind, prefetch=100, concurrency=4)
    place.start_producer(count=100, tasks=2, pause_ms=0, padding=200_000, wishes={"done": 1.0})
    place.producers[0].end()
    place.onlooker.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 8mb 0 0")
    worker = place.start_worker()
    found = place.judge()
    attempts = {record.attempt for record in place.happened() if record.kind is Kind.START}
    figures.report(
        "F37",
        server=kind,
        answer="19 MiB",
        limit="8 MiB",
        sent=found.sent,
        runs=found.runs,
        lost=len(found.lost),
    )
    found.assert_sound()
    assert (found.sent, found.runs, attempts) == (100, 100, {1})
    assert "lost" in worker.said, "the answer was never cut off"
