"""What makes two messages the same."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.messages.deduplication import DEFAULT_WINDOW_MS, mark_named, read_deduplication
from leanmq_topology.messages.envelope import Once
from leanmq_topology.topology.model import Deduplication


def identity(key: str | None, data: Any, message_id: str = "m") -> bytes:
    once = read_deduplication("q", Deduplication(window_ms=5, key=key))
    assert once is not None
    return once.mark(message_id, data).identity


def test_a_queue_that_declares_nothing_marks_nothing():
    assert read_deduplication("q", None) is None


def test_a_mark_holds_the_window_and_the_queue():
    once = read_deduplication("q", Deduplication(window_ms=5))
    assert once is not None
    assert once.mark("m", {}) == Once(b"id:m", 5, "q")


def test_an_id_of_the_senders_own_is_marked_for_ten_minutes_at_its_address():
    assert mark_named("m") == Once(b"id:m", DEFAULT_WINDOW_MS)
    assert DEFAULT_WINDOW_MS == 600_000


@pytest.mark.parametrize(
    ("key", "data", "found"),
    [
        ("/order_id", {"order_id": "A-1"}, b'key:"A-1"'),
        ("/order/id", {"order": {"id": 7}}, b"key:7"),
        ("/lines/1", {"lines": ["a", "b"]}, b'key:"b"'),
        ("/a~1b", {"a/b": True}, b"key:true"),
        ("/", {"": 0}, b"key:0"),
        ("", {"b": 1, "a": 2}, b'key:{"a":2,"b":1}'),
    ],
)
def test_the_value_at_the_key_is_what_counts(key: str, data: Any, found: bytes):
    assert identity(key, data) == found


@pytest.mark.parametrize(
    "data",
    [{}, {"order_id": None}, {"order_id": {}}, {"lines": []}, [], "text", {"order_id": [1]}],
    ids=str,
)
@pytest.mark.parametrize("key", ["/order_id/x", "/lines/0", "/lines/-", "/lines/x"])
def test_where_there_is_no_value_the_id_counts(key: str, data: Any):
    assert identity(key, data) == b"id:m"


def test_a_value_never_equals_an_id_or_another_kind_of_value():
    found = {
        identity("/v", {"v": "m"}),
        identity("/v", {}, "m"),
        identity("/v", {"v": 1}),
        identity("/v", {"v": "1"}),
        identity("/v", {"v": [1]}),
    }
    assert len(found) == 5


def test_the_order_of_keys_within_a_value_does_not_matter():
    assert identity("/v", {"v": {"a": 1, "b": 2}}) == identity("/v", {"v": {"b": 2, "a": 1}})
