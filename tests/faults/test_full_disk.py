"""The disk is full: here no file of the server may grow beyond a size, which writes meet in the same way."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.catalogue import Figures
from tests.faults.conftest import Build
from tests.support.append_log import log_length
from tests.support.arena import ALWAYS, EVERY_SECOND, Arena
from tests.support.history import Fault, Kind
from tests.support.processes import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason=f"{sys.platform} does not limit another process's files"
)
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextmanager
def full_disk(place: Arena) -> Iterator[None]:
    """What is on the disk stays; there is room for a little more, and then for nothing."""
    process = place.server.process
    assert process is not None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (log_length(place.server) + 20_000, UNLIMITED[1]))
    try:
        yield
    finally:
        if process.poll() is None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, UNLIMITED)


def ended(place: Arena) -> int:
    return sum(record.kind is Kind.END for record in place.happened())


@pytest.mark.parametrize("kind", ["valkey9", "redis62"])
def test_a_server_whose_disk_is_full_is_waited_for_and_recovers_unaided(
    arena: Build, figures: Figures, kind: str
):
    place = arena(kind, EVERY_SECOND)
    worker = place.start_worker()
    place.start_producer()
    with place.everybody_met(Fault.SERVER_STALLED):
        with full_disk(place):
            worker.wait_for("cannot write to its disk")
        freed, before = time.monotonic(), ended(place)
        wait_until(lambda: ended(place) > before + 20, "messages that are run")
        recovered_s = time.monotonic() - freed
    found = place.judge(recovery_s=None, max_deliveries=8)
    figures.report(
        "F39", server=kind, policy="everysec", sent=found.sent, lost=len(found.lost),
        run_twice=len(found.duplicates), goes_on_after_s=recovered_s,
    )  # fmt: skip
    found.assert_sound()


def test_a_server_that_ends_for_its_full_disk_loses_nothing(arena: Build, figures: Figures):
    """With `always` it may not answer what it could not write, and so it ends itself."""
    place = arena("valkey9", ALWAYS)
    worker = place.start_worker()
    place.start_producer()
    process = place.server.process
    assert process is not None
    with full_disk(place):
        process.wait(PATIENCE_SECONDS)
    worker.wait_for("lost the connection")
    with place.server_down():
        pass
    before = ended(place)
    wait_until(lambda: ended(place) > before + 20, "messages that are run")
    found = place.judge(recovery_s=None, max_deliveries=8)
    figures.report(
        "F39", server="valkey9", policy="always", sent=found.sent, lost=len(found.lost),
        run_twice=len(found.duplicates),
    )  # fmt: skip
    found.assert_sound()
