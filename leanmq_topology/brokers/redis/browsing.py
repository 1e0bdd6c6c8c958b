"""Looking at messages where they lie. Nothing is consumed, moved or counted."""

from __future__ import annotations

from typing import Any

import msgspec

from leanmq_topology.brokers.protocol import DeadEntry
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.codec import DeadLetter, UndecodableError, decode_dead_letter
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import DeadReason, Failure

MOST_ENTRIES = 1000
"""Entries a call may read: 1,000 of 1 KiB take the server about a millisecond."""


def read_dead_letters(keys: Keys, queue: str, *, after: str, count: int) -> Call[list[DeadEntry]]:
    """The oldest `count` dead letters after this entry id (`""`: from the start)."""
    if not 0 < count <= MOST_ENTRIES:
        raise ValueError(f"a call reads 1 to {MOST_ENTRIES} dead letters, not {count}")
    start = f"({after}" if after else "-"
    return Call(
        "read_dead_letters",
        "XRANGE",
        (keys.dead(queue),),
        (start, "+", "COUNT", count),
        lambda reply: [_read_entry(queue, entry) for entry in reply],
    )


def _read_entry(queue: str, entry: Any) -> DeadEntry:
    raw_id, flat = entry
    entry_id = raw_id.decode()
    return DeadEntry(queue, entry_id, int(entry_id.partition("-")[0]), _read_letter(flat))


def _read_letter(flat: list[bytes]) -> DeadLetter:
    try:
        return decode_dead_letter(flat)
    except UndecodableError as failure:
        # A foreign entry was moved as it was; what we added to it can still be read.
        error = dict(zip(flat[::2], flat[1::2], strict=False)).get(b"error", b"")
        return DeadLetter(
            Envelope("", "", b""),
            DeadReason.UNDECODABLE,
            _read_failure(error) or Failure("Undecodable", str(failure)),
        )


def _read_failure(error: bytes) -> Failure | None:
    try:
        return msgspec.json.decode(error, type=Failure)
    except msgspec.MsgspecError:
        return None
