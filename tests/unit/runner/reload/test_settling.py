"""When an edit is over. Time is a number here."""

from __future__ import annotations

from pathlib import Path

from leanmq_topology.runner.reload.settling import PATIENCE_SECONDS, QUIET_SECONDS, Settling

A, B = Path("/a.py"), Path("/b.py")


def settling(**loaded: str) -> Settling:
    made = Settling()
    made.adopt({Path(f"/{name}.py"): content for name, content in loaded.items()})
    return made


def test_nothing_changed_is_nothing_due():
    watched = settling(a="1")
    assert watched.note({A: "1"}, 0.0) == []
    assert not watched.is_restless


def test_a_change_is_due_once_it_was_quiet_for_a_while():
    watched = settling(a="1")
    assert watched.note({A: "2"}, 0.0) == []
    assert watched.is_restless
    assert watched.due_at == QUIET_SECONDS
    assert watched.note({A: "2"}, QUIET_SECONDS / 2) == []
    assert watched.note({A: "2"}, QUIET_SECONDS) == [A]
    assert not watched.is_restless


def test_a_change_is_told_once():
    watched = settling(a="1")
    watched.note({A: "2"}, 0.0)
    watched.note({A: "2"}, QUIET_SECONDS)
    assert watched.note({A: "2"}, 10.0) == []


def test_a_burst_over_several_files_is_one_change():
    watched = settling(a="1", b="1")
    assert watched.note({A: "2", B: "1"}, 0.0) == []
    assert watched.note({A: "2", B: "2"}, 0.15) == []
    assert watched.note({A: "2", B: "2"}, 0.30) == []
    assert watched.note({A: "2", B: "2"}, 0.36) == [A, B]


def test_a_storm_without_end_is_tried_after_a_second():
    watched = settling(a="0")
    step = QUIET_SECONDS / 10
    now, told = 0.0, []
    for count in range(1, 1 + int(3 * PATIENCE_SECONDS / step)):
        if watched.note({A: str(count)}, now):
            told.append(now)
        now += step
    assert len(told) == 2
    assert abs(told[0] - PATIENCE_SECONDS) < 2 * step


def test_content_that_came_back_is_no_change():
    watched = settling(a="1")
    watched.note({A: ""}, 0.0)  # deleted, as some editors do before they write anew
    assert watched.note({A: "1"}, 0.1) == []
    assert not watched.is_restless
    assert watched.note({A: "1"}, 5.0) == []


def test_the_quiet_time_starts_anew_with_each_change():
    watched = settling(a="1")
    watched.note({A: "2"}, 0.0)
    watched.note({A: "3"}, 0.19)
    assert watched.note({A: "3"}, 0.21) == []
    assert watched.note({A: "3"}, 0.40) == [A]


def test_a_place_that_is_newly_watched_is_no_change():
    watched = settling(a="1")
    assert watched.note({A: "1", B: "1"}, 0.0) == []
    assert not watched.is_restless
