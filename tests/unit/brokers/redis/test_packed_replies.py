"""A reply and the read of one are packed by hand: what leaves must be what their words say."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import Flush, Reply
from leanmq_topology.brokers.redis.calls import Call, amend, pack_words
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.requesting import read_inbox
from leanmq_topology.brokers.redis.settling import ack_with_outputs
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.outcome import Failure

DELIVERED = Delivered("work", "17-0", Envelope("m", "order", b"{}"), 1)
REPLY = Reply("inbox", "m", "order", b"{}")
FLUSH = Flush("p", 7, ())


def ack(keys: Keys, **changes: Any) -> Call[Any]:
    return ack_with_outputs(
        keys,
        changes.get("consumer", "me"),
        changes.get("delivered", DELIVERED),
        changes.get("flush", FLUSH),
        changes.get("reply", REPLY),
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "again": {"delivered": structs.replace(DELIVERED, delivery_count=12, entry_id="18-3")},
    "queue": {"delivered": structs.replace(DELIVERED, queue="w:\u00fc")},
    "consumer": {"consumer": "you"},
    "inbox": {"reply": structs.replace(REPLY, inbox="other%")},
    "failure": {"reply": Reply("inbox", "m", failure=Failure("Wrong", "\u00fc"))},
    "large": {"reply": structs.replace(REPLY, request_id="\u00e9" * 9, type="\u00e9", data=b"x" * 100_000)},
    "sequence": {"flush": structs.replace(FLUSH, sequence=10**14)},
    "producer": {"flush": structs.replace(FLUSH, producer="q")},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_reply_leaves_as_its_words_say(name: str):
    call = ack(Keys("ns"), **VARIANTS[name])
    assert call.packed
    assert pack_words(call.written()) == pack_words(call.words()) == call.packed


def test_what_was_packed_for_one_is_not_taken_for_another():
    keys = Keys("ns")
    packed = {ack(keys, **changes).packed for changes in VARIANTS.values()}
    assert len(packed) == len(VARIANTS)
    assert packed == {ack(Keys("ns"), **changes).packed for changes in VARIANTS.values()}


def test_a_reply_of_a_queue_that_lies_elsewhere_is_written_anew():
    keys = Keys("ns")
    again = amend(ack(keys), "MISPLACED {away}{ns}:m:work", keys)
    assert again is not None
    assert b"{away}:q:work" in pack_words(again[0].written())
    assert b"{away}:q:work" in ack(keys).packed


@pytest.mark.parametrize("block_ms", [0, 5000])
@pytest.mark.parametrize("after", ["0", "1700000000000-12"])
def test_a_read_of_an_inbox_leaves_as_its_words_say(after: str, block_ms: int):
    keys = Keys("ns")
    for _ in range(2):
        call = read_inbox(keys, "mine%", after, count=10, block_ms=block_ms)
        assert pack_words(call.written()) == pack_words(call.words()) == call.packed
    other = read_inbox(keys, "yours", after, count=10, block_ms=block_ms)
    assert pack_words(other.words()) == other.packed != call.packed


def test_a_reply_is_read_by_the_names_of_its_fields_whoever_wrote_it():
    call = read_inbox(Keys("ns"), "mine", "0", count=10, block_ms=0)
    whole = [b"id", b"r", b"type", b"t", b"data", b"{}", b"error", b""]
    moved = [b"data", b"{}", b"id", b"r", b"type", b"t"]
    read = call.read([[b"key", [[b"1-0", whole], [b"2-0", moved]]]])
    assert [(each.place, each.reply) for each in read] == [
        ("1-0", Reply("mine", "r", "t", b"{}")),
        ("2-0", Reply("mine", "r", "t", b"{}")),
    ]
    assert call.read(None) == []
