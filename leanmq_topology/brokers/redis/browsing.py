"""Looking at messages where they lie. Nothing is consumed, moved or counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from leanmq_topology.brokers.protocol import DeadEntry, MessagePlace, OverdueStretch, WaitingEntry
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.messages.codec import DeadLetter, UndecodableError, decode_dead_letter, decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import DeadReason, Failure

Entry = TypeVar("Entry", WaitingEntry, DeadEntry)

MOST_ENTRIES = 1000
"""Entries a call may read: 1,000 of 1 KiB take the server about a millisecond."""

MOST_COUNTED = 500
"""Ready messages that one call looks at for their expiry, 4 MiB at most: 0.3 ms of small ones."""


def count_expired(keys: Keys, queue: str, *, after: str) -> Call[OverdueStretch]:
    """How many of the next ready messages have expired, from behind this entry id on."""

    def read(reply: Any) -> OverdueStretch:
        cursor, expired, looked_at = reply
        return OverdueStretch(cursor.decode(), expired, looked_at)

    return Call(
        "count_expired",
        load_script("count_expired"),
        (keys.queue(queue), keys.meta(queue)),
        (GROUP, after, MOST_COUNTED),
        read,
    )


def read_dead_letters(keys: Keys, queue: str, *, after: str, count: int) -> Call[list[DeadEntry]]:
    """The oldest `count` dead letters after this entry id (`""`: from the start)."""
    if not 0 < count <= MOST_ENTRIES:
        raise ValueError(f"a call reads 1 to {MOST_ENTRIES} dead letters, not {count}")
    return Call(
        "read_dead_letters",
        load_script("read_dead_letters"),
        (keys.dead(queue), keys.meta(queue)),
        (after, count),
        lambda reply: [read_dead_entry(queue, entry) for entry in reply],
    )


def peek(keys: Keys, queue: str, *, count: int) -> Call[list[WaitingEntry]]:
    """In flight, ready, delayed, `count` of each at most."""
    if not 0 < count <= MOST_ENTRIES:
        raise ValueError(f"a call shows 1 to {MOST_ENTRIES} messages, not {count}")
    return Call(
        "peek",
        load_script("peek"),
        (keys.queue(queue), keys.delayed(queue), keys.bodies(queue), keys.meta(queue)),
        (GROUP, count),
        lambda reply: _read_waiting(keys, queue, reply),
    )


def follow(keys: Keys, after: Mapping[str, str], *, count: int, block_ms: int) -> Call[list[WaitingEntry]]:
    """A bare XREAD: who is served by the group is none of its business."""
    return _follow("follow", {keys.queue(name): name for name in after}, after, count, block_ms, _read_ready)


def follow_dead_letters(
    keys: Keys, after: Mapping[str, str], *, count: int, block_ms: int
) -> Call[list[DeadEntry]]:
    """The same, of the streams beside."""
    names = {keys.dead(name): name for name in after}
    return _follow("follow_dead_letters", names, after, count, block_ms, read_dead_entry)


def _follow(
    name: str,
    names: Mapping[str, str],
    after: Mapping[str, str],
    count: int,
    block_ms: int,
    read_entry: Callable[[str, Any], Entry],
) -> Call[list[Entry]]:
    """`names` are queues by the key of what is read of them."""
    if not 0 < count <= MOST_ENTRIES:
        raise ValueError(f"a call reads 1 to {MOST_ENTRIES} messages of each queue, not {count}")

    def read(reply: Any) -> list[Entry]:
        return [read_entry(names[key.decode()], entry) for key, entries in reply or () for entry in entries]

    words: tuple[Word, ...] = ("COUNT", count, "BLOCK", block_ms, "STREAMS", *names, *after.values())
    return Call(name, "XREAD", (), words, read, block_ms=block_ms)


def _read_ready(queue: str, entry: Any) -> WaitingEntry:
    raw_id, flat = entry
    return WaitingEntry(queue, MessagePlace.READY, raw_id.decode(), read_envelope(flat), entry_ms(raw_id))


def _read_waiting(keys: Keys, queue: str, reply: Any) -> list[WaitingEntry]:
    if reply is None:
        raise TopologyNotAppliedError([f"queues.{queue}"], namespace=keys.namespace)
    now_ms, flying, ready, delayed = reply

    def build(place: MessagePlace, entry_id: bytes, flat: list[bytes], *facts: Any) -> WaitingEntry:
        return WaitingEntry(queue, place, entry_id.decode(), read_envelope(flat), *facts)

    return [
        *(
            build(MessagePlace.IN_FLIGHT, entry_id, flat, now_ms - idle_ms, consumer.decode(), deliveries)
            for entry_id, flat, consumer, idle_ms, deliveries in flying
        ),
        *(build(MessagePlace.READY, entry_id, flat, entry_ms(entry_id)) for entry_id, flat in ready),
        *(read_delayed(queue, due_ms, flat) for due_ms, flat in delayed),
    ]


def read_delayed(queue: str, due_ms: int, flat: list[bytes]) -> WaitingEntry:
    """A message that waits for its time; one that is parked has none."""
    if due_ms < 0:
        return WaitingEntry(queue, MessagePlace.PARKED, "", read_envelope(flat), None)
    return WaitingEntry(queue, MessagePlace.DELAYED, "", read_envelope(flat), due_ms)


def read_envelope(flat: list[bytes]) -> Envelope | None:
    """None for an entry that is not one of ours."""
    try:
        return decode_fields(flat)
    except UndecodableError:
        return None


def entry_ms(entry_id: bytes) -> int:
    """An entry's id begins with the server's time at which it was added."""
    return int(entry_id.partition(b"-")[0])


def read_dead_entry(queue: str, entry: Any) -> DeadEntry:
    """A dead letter as a stream has it: its entry id, and its fields."""
    raw_id, flat = entry
    return DeadEntry(queue, raw_id.decode(), entry_ms(raw_id), _read_letter(flat))


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
