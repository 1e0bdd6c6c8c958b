"""The machine loses its power: of each file what was synced is left, and nothing of what was only written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.arena import ALWAYS, EVERY_SECOND, NOISE_S, TOPOLOGY, Arena, start_server
from tests.support.final_state import Onlooker
from tests.support.history import Fault, Kind
from tests.support.preloads import WatchedDisk
from tests.support.processes import wait_until

FAILURES = 3
WINDOW_S = 2.0
"""With everysec: a second between two syncs, and one that a slow one may take before writing waits for it."""


@pytest.mark.parametrize(
    ("kind", "policy", "level"),
    [
        pytest.param("valkey9", ALWAYS, "disk", id="valkey9-always-disk"),
        pytest.param("redis62", ALWAYS, "disk", id="redis62-always-disk"),
        pytest.param("valkey9", EVERY_SECOND, "memory", id="valkey9-everysec-memory"),
    ],
)
def test_a_power_failure_loses_what_its_level_says_and_no_more(
    arena: Build, figures: Figures, tmp_path: Path, kind: str, policy: tuple[str, ...], level: str
):
    disk = WatchedDisk.make(tmp_path)
    place = arena(kind, policy, disk.environ, text=declare(level))
    wait_until(lambda: disk.holds_all_of(place.server.folder), "a synced topology")
    place.start_producer(tasks=8, pause_ms=5, wishes={"done": 1.0})
    gone = 0
    for _ in range(FAILURES):
        wait_for_confirmed_sends(place, 100)
        time.sleep(place.dice.uniform(0.0, 1.0))  # anywhere between two syncs
        with place.server_down():
            gone += disk.lose_power(place.server.folder)
    place.start_worker()
    loss_window_s = 0.0 if level == "disk" else WINDOW_S + NOISE_S
    found = place.judge(recovery_s=None, max_deliveries=8, loss_window_s=loss_window_s)
    confirmed_at = {record.key: record.at for record in place.happened() if record.kind is Kind.OK}
    failures = [record for record in place.happened() if record.note == Fault.SERVER_KILLED]
    lost_at = [confirmed_at[slot.key] for slot in found.lost]
    ages_s = [min(max(0.0, one.at - at) for one in failures if at <= one.until) for at in lost_at]
    figures.report(
        "F14", server=kind, failures=FAILURES, sent=found.sent, bytes_gone=gone, **{
            f"lost_at_{level}": len(found.lost), f"sent_before_the_failure_at_{level}_s": ages_s,
        },
    )  # fmt: skip
    found.assert_sound()
    if level == "memory":
        assert found.lost, "nothing was lost: the power did not really fail"


def declare(level: str) -> str:
    """The topology of the arena, with a durability."""
    durable = TOPOLOGY.replace('url: "{url}"', f'url: "{{url}}", durability: {level}')
    assert durable != TOPOLOGY
    return durable


def wait_for_confirmed_sends(place: Arena, count: int) -> None:
    """So many more than there are now."""

    def confirmed() -> int:
        return sum(record.kind is Kind.OK for record in place.happened())

    before = confirmed()
    wait_until(lambda: confirmed() >= before + count, "confirmed sends")


def test_waitaof_of_valkey_tells_that_the_disk_has_what_it_has_not(tmp_path: Path):
    """Why `disk` is refused there unless the server writes before each answer (redis/redis#13793).

    If this fails, Valkey has been mended: give its version to the table in `brokers/redis/checks.py`.
    """
    disk = WatchedDisk.make(tmp_path)
    server = start_server("valkey9", EVERY_SECOND, disk.environ)
    onlooker = Onlooker(server.url, "any")
    wait_until(lambda: disk.holds_all_of(server.folder), "a synced start")
    told_early = 0
    for number in range(20):
        onlooker.ask("SET", f"key-{number}", "value")
        assert onlooker.ask("WAITAOF", 1, 0, 5000) == [1, 0]
        told_early += not disk.holds_all_of(server.folder)
    onlooker.close()
    server.stop()
    assert told_early > 0
