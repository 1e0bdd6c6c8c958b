"""What the view makes of the lines that workers write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leanmq_topology.cli.live.narration import Narration


def record(message: str, **fields: Any) -> str:
    basis = {"time": "2026-11-29T23:59:00.000+00:00", "level": "info", "logger": "leanmq.runner"}
    return json.dumps({**basis, "message": message, **fields})


def test_a_record_becomes_the_line_that_run_would_have_written():
    told = Narration().tell(record("charge x retry: attempt 1", level="warning"))
    assert told is not None
    assert told[8:] == " warning: charge x retry: attempt 1"


@pytest.mark.parametrize(
    "line",
    [
        "order A-1 over 99.50",
        "",
        "{not json",
        '{"json": "of a handler"}',
        '{"time": "x", "level": "info", "logger": "leanmq.runner", "message": "no time"}',
        record("somebody else's", logger="leanmqish.app"),
    ],
)
def test_what_handlers_print_is_passed_on_as_it_is(line: str):
    assert Narration().tell(line) == line


def test_what_the_view_says_better_is_left_out():
    assert Narration().tell(record("ready, Ctrl-C to stop", event="ready")) is None


def test_the_note_follows_what_happens_to_edits():
    view = Narration()
    notes = []
    for line in (
        record("ready", event="ready"),
        record("a.py changed, loading", event="reloading"),
        record(
            "generation 2 is refused, generation 1 keeps serving\na.py:1: error",
            event="refused",
            generation=2,
        ),
        record("generation 3 serves, ready in 0.30 s", event="reloaded", generation=3),
    ):
        view.tell(line)
        notes.append((view.note, view.is_bad))
    assert notes == [
        ("serving", False),
        ("loading: a.py changed", False),
        ("generation 2 is refused, generation 1 keeps serving", True),
        ("serving generation 3", False),
    ]


def test_the_last_error_of_each_queue_is_kept():
    view = Narration()
    text = "charge order x retry: attempt 1 of 3, again in 1 s: ValueError: no money (shop.py:3)"
    view.tell(record(text, event="retry", queue="billing", error="ValueError", level="warning"))
    view.tell(record("mail order y handled", event="handled", queue="emails"))
    assert view.last_errors == {"billing": "ValueError: no money (shop.py:3)"}


def test_a_traceback_comes_along():
    told = Narration().tell(record("a mistake", level="error", traceback="Traceback …\nKeyError: 1"))
    assert told is not None
    assert told.endswith("error: a mistake\nTraceback …\nKeyError: 1")
