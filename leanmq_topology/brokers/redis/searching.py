"""Looking for one message, wherever it is now. Nothing is touched."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leanmq_topology.brokers.protocol import (
    DeadEntry,
    MessagePlace,
    SearchedStretch,
    Shelf,
    WaitingEntry,
)
from leanmq_topology.brokers.redis.browsing import entry_ms, read_dead_entry, read_delayed, read_envelope
from leanmq_topology.brokers.redis.calls import Call, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys

MOST_SEARCHED: Final = 500
"""Messages that one call looks at, 4 MiB at most: 0.4 ms of small ones."""


def search(
    keys: Keys, queue: str, shelf: Shelf, message_id: str, *, after: str, purge_id: str | None
) -> Call[SearchedStretch]:
    """A bounded look at one shelf."""
    if shelf is Shelf.DELAYED:
        return _search_delayed(keys, queue, message_id, after, purge_id)
    places: tuple[str, ...]
    if purge_id:
        places = keys.trash(queue, purge_id, _KINDS[shelf]), keys.meta(queue), keys.purges(queue)
    else:
        kept = {Shelf.QUEUE: keys.queue, Shelf.DEAD: keys.dead, Shelf.ACKED: keys.acked}
        places = kept[shelf](queue), keys.meta(queue)

    def read(reply: Any) -> SearchedStretch:
        now_ms, cursor, looked_at, rows = reply
        found = [_read_row(queue, shelf, now_ms, *row) for row in rows]
        return SearchedStretch(cursor.decode(), looked_at, found)

    group = GROUP if shelf is Shelf.QUEUE else ""
    words = (group, after, MOST_SEARCHED, message_id, _as_stored(message_id))
    return Call("search_entries", load_script("search_entries"), places, words, read)


_KINDS: Final = {Shelf.QUEUE: "q", Shelf.DEAD: "d"}
"""What a purge takes."""


def _search_delayed(
    keys: Keys, queue: str, message_id: str, after: str, purge_id: str | None
) -> Call[SearchedStretch]:
    places = (
        (keys.trash(queue, purge_id, "z"), keys.trash(queue, purge_id, "b"))
        if purge_id
        else (keys.delayed(queue), keys.bodies(queue))
    )

    def read(reply: Any) -> SearchedStretch:
        passed, looked_at, rows = reply
        found = [read_delayed(queue, *row) for row in rows]
        return SearchedStretch("" if passed < 0 else str(passed), looked_at, found)

    words = (after or 0, MOST_SEARCHED, message_id, _as_stored(message_id))
    return Call("search_delayed", load_script("search_delayed"), (*places, keys.meta(queue)), words, read)


def _as_stored(message_id: str) -> bytes:
    """An id as it stands in the headers of another message."""
    return msgspec.json.encode(message_id)


def _read_row(
    queue: str,
    shelf: Shelf,
    now_ms: int,
    entry_id: bytes,
    flat: list[bytes],
    consumer: bytes,
    idle_ms: int,
    deliveries: int,
) -> WaitingEntry | DeadEntry:
    if shelf is Shelf.DEAD:
        return read_dead_entry(queue, (entry_id, flat))
    place = MessagePlace.ACKED if shelf is Shelf.ACKED else MessagePlace.READY
    since_ms = entry_ms(entry_id)
    if consumer:
        place, since_ms = MessagePlace.IN_FLIGHT, now_ms - idle_ms
    envelope = read_envelope(flat)
    return WaitingEntry(queue, place, entry_id.decode(), envelope, since_ms, consumer.decode(), deliveries)
