"""What takes and acknowledges messages one by one is packed ahead: what leaves must be what its words say."""

from __future__ import annotations

import pytest

from leanmq_topology.brokers.redis.calls import amend, pack_words
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.receiving import fetch
from leanmq_topology.brokers.redis.settling import ack

MOVED = "MISPLACED {elsewhere}{ns}:m:work"


@pytest.mark.parametrize("queue", ["work", "a:b", "\u00e9t\u00e9"])
@pytest.mark.parametrize("late", [0, 1])
def test_a_lone_acknowledgement_leaves_as_its_words_say(queue: str, late: int):
    keys = Keys("ns")
    for entry_id in ("1-1", "1790000000000-12345"):
        call = ack(keys, queue, [entry_id], late)
        assert call.packed == pack_words(call.words())
        assert entry_id in call.words()


def test_several_are_packed_when_they_leave():
    assert not ack(Keys("ns"), "work", ["1-1", "1-2"], 0).packed


def test_a_lone_acknowledgement_goes_where_its_queue_turned_out_to_lie():
    keys = Keys("ns")
    again = amend(ack(keys, "work", ["1-1"], 0), MOVED, keys)
    assert again is not None
    assert "{elsewhere}:q:work" in again[1]
    assert not again[0].packed
    assert b"{elsewhere}:q:work" in ack(keys, "work", ["1-1"], 0).packed


@pytest.mark.parametrize("count", [1, 50])
def test_a_read_that_does_not_wait_is_made_once_and_leaves_as_its_words_say(count: int):
    keys = Keys("ns")
    call = fetch(keys, ("work",), "me", count=count, block_ms=0)
    assert call.packed == pack_words(call.words())
    assert fetch(keys, ["work"], "me", count=count, block_ms=0) is call
    assert fetch(keys, ["work"], "you", count=count, block_ms=0).words() != call.words()
    assert not fetch(keys, ["work"], "me", count=count, block_ms=9).packed
    assert not fetch(keys, ["work", "more"], "me", count=count, block_ms=0).packed


def test_a_read_is_made_anew_once_its_queue_turned_out_to_lie_elsewhere():
    keys = Keys("ns")
    fetch(keys, ["work"], "me", count=1, block_ms=0)
    keys.learn(MOVED)
    assert b"{elsewhere}:q:work" in fetch(keys, ["work"], "me", count=1, block_ms=0).packed
