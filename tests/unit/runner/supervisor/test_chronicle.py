"""What is said of a generation that takes over, and of one that is refused."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.runner.supervisor.chronicle import Chronicle
from leanmq_topology.runner.supervisor.members import Generation
from leanmq_topology.runner.supervisor.wire import Failed, Reloaded


class StandIn:
    """A supervisor that notes what is to be told to its workers."""

    def __init__(self) -> None:
        self.current: Any = SimpleNamespace(number=1)
        self.reloaded: list[Reloaded] = []

    def note_reloaded(self, reloaded: Reloaded) -> None:
        self.reloaded.append(reloaded)


@pytest.fixture
def supervisor() -> StandIn:
    return StandIn()


@pytest.fixture
def chronicle(supervisor: StandIn, caplog: pytest.LogCaptureFixture) -> Chronicle:
    caplog.set_level(logging.INFO, "leanmq.runner")
    return Chronicle(supervisor, explain=lambda failed: failed.message)  # type: ignore[arg-type]


def test_the_first_start_is_no_reload(
    chronicle: Chronicle, supervisor: StandIn, caplog: pytest.LogCaptureFixture
):
    chronicle.serving(Generation(1))
    assert (supervisor.reloaded, caplog.messages) == ([], [])


def test_a_generation_that_takes_over_is_told(
    chronicle: Chronicle, supervisor: StandIn, caplog: pytest.LogCaptureFixture
):
    chronicle.serving(Generation(2))
    assert caplog.messages[-1].startswith("generation 2 serves, ready in")
    assert supervisor.reloaded == [Reloaded(2)]


def test_a_refusal_is_told_with_its_first_mistake_for_the_status(
    chronicle: Chronicle, supervisor: StandIn, caplog: pytest.LogCaptureFixture
):
    wrong = Diagnostic("LMQ314", "it is no Python", span=Span("handlers.py", 3, 1))
    more = Diagnostic("LMQ317", "it is not there", "handlers.take.call")
    chronicle.refused(Generation(2), Failed("InvalidTopologyError", "two", diagnostics=(wrong, more)))
    assert supervisor.reloaded[-1].refused == "handlers.py:3:1: LMQ314: it is no Python (and 1 more)"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.event, record.generation, record.serving) == ("refused", 2, 1)  # type: ignore[attr-defined]
    assert record.getMessage() == "generation 2 is refused, generation 1 keeps serving\ntwo"


def test_a_refusal_before_anything_served_waits_for_the_next_save(
    chronicle: Chronicle, supervisor: StandIn, caplog: pytest.LogCaptureFixture
):
    supervisor.current = None
    chronicle.refused(Generation(1), Failed("ValueError", "no"))
    assert "waiting for the next save" in caplog.text
