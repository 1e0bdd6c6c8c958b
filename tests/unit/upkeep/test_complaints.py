from __future__ import annotations

import logging

import pytest

from leanmq_topology.errors import LeanMQError
from leanmq_topology.upkeep import complaints as module
from leanmq_topology.upkeep.complaints import Complaints

LOG = logging.getLogger("leanmq.test")


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Complaints:
    seconds = iter(range(0, 1000, 50))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(seconds)))
    return Complaints(LOG)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_same_failure_is_said_again_after_a_minute_and_not_before(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
):
    for _ in range(4):  # at 0, 50, 100 and 150 s
        complaints.say("watch", LeanMQError("no memory"))
    assert said(caplog) == ["upkeep failed (watch): no memory"] * 2


def test_another_failure_or_another_part_is_said_at_once(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
):
    complaints.say("watch", LeanMQError("no memory"))
    complaints.say("watch", LeanMQError("no disk"))
    complaints.say("claims", LeanMQError("no disk"))
    assert len(said(caplog)) == 3


def test_only_a_mistake_is_told_with_its_traceback(complaints: Complaints, caplog: pytest.LogCaptureFixture):
    complaints.say("watch", LeanMQError("no memory"))
    complaints.say("watch", KeyError("x"))
    assert [record.exc_info is not None for record in caplog.records] == [False, True]
    assert said(caplog)[1] == "upkeep failed (watch): KeyError('x')"
