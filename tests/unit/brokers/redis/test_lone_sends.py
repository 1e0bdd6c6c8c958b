"""A send on its own is packed by hand: what leaves must be what its words say."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import Flush
from leanmq_topology.brokers.redis.calls import amend, pack_words
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.sending import send
from leanmq_topology.messages.envelope import Envelope, Outgoing

LONE = Outgoing("one", "d1", ("one",), Envelope("m", "order", b"{}", {"time": "now"}), plain=True)


def flush_of(*sends: Outgoing, sequence: int = 7, tells_entries: bool = False) -> Flush:
    return Flush("p", sequence, sends, len(sends) > 1, tells_entries)


@pytest.mark.parametrize("tells_entries", [False, True])
@pytest.mark.parametrize("sequence", [1, 10**14])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ttl_ms": 1000},
        {"target": "both", "queues": ("one", "two")},
        {"envelope": Envelope("\u00e9" * 9, "", b"x" * 100_000, {})},
        {"envelope": Envelope("m", "\u00fc", b"", {"name": "\u00e4"})},
    ],
    ids=["as it is", "ttl", "copies", "large", "empty"],
)
def test_it_leaves_as_its_words_say(changes: dict[str, Any], sequence: int, tells_entries: bool):
    flush = flush_of(structs.replace(LONE, **changes), sequence=sequence, tells_entries=tells_entries)
    call = send(Keys("ns"), flush)
    assert call.packed
    assert pack_words(call.written()) == pack_words(call.words()) == call.packed


@pytest.mark.parametrize(
    "other",
    [
        {"ttl_ms": 5},
        {"digest": "d2"},
        {"target": "also", "queues": ("one",)},
        {"envelope": structs.replace(LONE.envelope, type="other")},
        {"envelope": structs.replace(LONE.envelope, headers={"time": "later"})},
    ],
    ids=["ttl", "digest", "target", "type", "headers"],
)
def test_what_was_packed_for_one_is_not_taken_for_another(other: dict[str, Any]):
    """Nor for another producer, or one that asks for entry ids."""
    keys = Keys("ns")
    first = flush_of(LONE)
    flushes = [
        flush_of(structs.replace(LONE, **other)),
        structs.replace(first, producer="q"),
        structs.replace(first, tells_entries=True),
    ]
    assert len({send(keys, flush).packed for flush in (first, first, *flushes)}) == 4
    assert all(send(keys, flush).packed == send(Keys("ns"), flush).packed for flush in flushes)


def test_sends_that_only_live_differently_long_share_what_is_packed_once():
    keys = Keys("ns")
    for ttl_ms in (None, *range(1, 100)):
        send(keys, flush_of(structs.replace(LONE, ttl_ms=ttl_ms)))
    assert len([what for what in keys._remembered if "send_lone" in cast("tuple[object, ...]", what)]) == 1


def test_several_are_packed_from_their_words():
    call = send(Keys("ns"), flush_of(LONE, LONE))
    assert call.packed == b""
    assert call.written() == call.words()


def test_one_whose_queue_lies_elsewhere_is_packed_anew():
    call = send(Keys("ns"), flush_of(LONE))
    amended = amend(call, "MISPLACED {away}{ns}:m:one", None)
    assert amended is not None
    again, words = amended
    assert again.written() == words == again.words()
    assert "{away}:q:one" in words
