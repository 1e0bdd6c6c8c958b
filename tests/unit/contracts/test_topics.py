"""Topic patterns: what fits, what is refused, what another pattern covers."""

from __future__ import annotations

import time

import pytest

from leanmq_topology.contracts.topics import (
    MOST_TOPIC_LENGTH,
    compile_topics,
    covers,
    find_pattern_problem,
    find_topic_problem,
)

FITS = [
    ("user.created", "user.created"),
    ("user.*", "user.created"),
    ("*.critical", "disk.critical"),
    ("#", "a"),
    ("#", "a.b.c"),
    ("#", ""),
    ("user.#", "user"),
    ("user.#", "user.address.changed"),
    ("#.failed", "failed"),
    ("#.failed", "a.b.failed"),
    ("a.#.z", "a.z"),
    ("a.#.z", "a.b.c.z"),
    ("*.*", "a.b"),
    ("*.#.*", "a.b"),
    ("#.#", ""),
    ("a.#.b.*.#.c", "a.x.b.y.b.z.c"),
    ("#", "a..b"),
    ("a.*.b", "a..b"),
]
DOES_NOT_FIT = [
    ("user.created", "user"),
    ("user.created", "user.created.twice"),
    ("user.created", "user-created"),
    ("user.*", "user"),
    ("user.*", "user.address.changed"),
    ("user.*", "users.created"),
    ("*", ""),
    ("*", "a.b"),
    ("user.#", "users"),
    ("#.failed", "failed.a"),
    ("a.#.z", "a"),
    ("*.*", "a"),
    ("*.#.*", "a"),
    ("a.#.b.*.#.c", "a.x.b.c"),
]


@pytest.mark.parametrize(("pattern", "topic"), FITS)
def test_a_topic_fits(pattern: str, topic: str):
    assert compile_topics((pattern,))(topic)


@pytest.mark.parametrize(("pattern", "topic"), DOES_NOT_FIT)
def test_a_topic_does_not_fit(pattern: str, topic: str):
    assert not compile_topics((pattern,))(topic)


def test_one_of_several_patterns_is_enough():
    is_wanted = compile_topics(("user.*", "*.critical"))
    assert [is_wanted(topic) for topic in ("user.gone", "disk.critical", "disk.full")] == [True, True, False]


def test_a_pattern_made_to_be_slow_is_not():
    is_wanted = compile_topics((".".join(["#", "a"] * 60 + ["b"]),))
    started = time.process_time()
    assert not is_wanted(".".join("a" * 127))
    assert time.process_time() - started < 1, "backtracking would take longer than the universe lasts"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user..created", "empty word"),
        (".user", "empty word"),
        ("user.", "empty word"),
        ("", "empty word"),
        ("user.cre ated", "'cre ated'"),
        ("user.*d", "stand alone"),
        ("a.##", "stand alone"),
        ("a" * (MOST_TOPIC_LENGTH + 1), "256 characters"),
    ],
)
def test_what_is_no_pattern_is_told_why(text: str, words: str):
    assert words in (find_pattern_problem(text) or "")


@pytest.mark.parametrize("text", ["*", "#", "a.*.b_c.#.D-4", "a" * MOST_TOPIC_LENGTH])
def test_patterns_may_hold_words_stars_and_hashes(text: str):
    assert find_pattern_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user.*", "is a pattern"),
        ("#", "is a pattern"),
        ("", "joined by dots"),
        ("a..b", "joined by dots"),
        ("a b", "joined by dots"),
        ("ä", "joined by dots"),
        ("a\n", "joined by dots"),
        ("a" * (MOST_TOPIC_LENGTH + 1), "256 characters"),
    ],
)
def test_what_is_no_topic_is_told_why(text: str, words: str):
    assert words in (find_topic_problem(text) or "")


def test_a_topic_is_words_joined_by_dots():
    assert find_topic_problem("eu.orders.A-1_b") is None


@pytest.mark.parametrize(
    ("wider", "narrower"),
    [
        ("#", "a.*.#"),
        ("user.#", "user.*"),
        ("user.#", "user"),
        ("*.created", "user.created"),
        ("#.*", "*.#"),
        ("a.#.z", "a.b.*.#.z"),
    ],
)
def test_one_pattern_covers_another(wider: str, narrower: str):
    assert covers(wider, narrower)


@pytest.mark.parametrize(
    ("pattern", "other"), [("*", "#"), ("user.*", "user.#"), ("a.*", "*.a"), ("*.#", "#"), ("a", "b")]
)
def test_one_pattern_does_not_cover_another(pattern: str, other: str):
    assert not covers(pattern, other)
