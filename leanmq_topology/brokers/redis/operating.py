"""What an operator does to a queue, as values: replay, discard, purge and its undoing, pause, resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from leanmq_topology.brokers.protocol import NoRoom, Purge, Replayed, Revival, Undone
from leanmq_topology.brokers.redis.calls import Call, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.messages.codec import encode_headers

MOST_MOVED: Final = 1000
"""Messages a call moves or forgets, so that no script holds the server for long."""

_PURGED_KINDS: Final = ("q", "z", "b", "c")
"""Keys that hold the messages of a queue, and what is known of them."""


def replay(
    keys: Keys, queue: str, revivals: Sequence[Revival], source: str | None = None
) -> Call[Replayed | NoRoom]:
    """Back to the queue: all that are still dead, or none."""
    _check_bound(revivals)
    origin = source or queue
    places = (keys.queue(queue), keys.meta(queue), keys.dead(origin), keys.delayed(queue), keys.meta(origin))
    words = [word for item in revivals for word in (item.entry_id, encode_headers(item.headers))]

    def read(reply: Any) -> Replayed | NoRoom:
        if reply[0] == b"full":
            return NoRoom(queue, max_length=reply[1], room=reply[2])
        if reply[0] == b"missing":
            raise _not_applied(keys, queue, leaving=reply[1] == 1)
        return Replayed(tuple(flag == 1 for flag in reply[1]))

    return Call("replay", load_script("replay"), places, tuple(words), read)


def discard_dead_letters(keys: Keys, queue: str, entry_ids: Sequence[str]) -> Call[list[bool]]:
    """Forget dead letters."""
    _check_bound(entry_ids)
    return Call(
        "discard_dead_letters",
        load_script("discard_dead_letters"),
        (keys.meta(queue), keys.dead(queue)),
        tuple(entry_ids),
        lambda reply: [flag == 1 for flag in reply],
    )


def purge(keys: Keys, queue: str, purge_id: str, *, keep_ms: int) -> Call[Purge]:
    """Everything out, at once."""
    _check_purge_id(purge_id)
    places = (*_live_places(keys, queue), *_trash_places(keys, queue, purge_id))

    def read(reply: Any) -> Purge:
        if reply is None:
            raise _not_applied(keys, queue)
        ready, in_flight, delayed = reply
        return Purge(queue, purge_id, keep_ms=keep_ms, ready=ready, in_flight=in_flight, delayed=delayed)

    return Call("purge", load_script("purge"), places, (GROUP, queue, purge_id, keep_ms), read)


def purge_dead_letters(keys: Keys, queue: str, purge_id: str, *, keep_ms: int) -> Call[Purge]:
    """All dead letters out, at once."""
    _check_purge_id(purge_id)
    places = (keys.purges(queue), keys.meta(queue), keys.dead(queue), keys.trash(queue, purge_id, "d"))

    def read(reply: Any) -> Purge:
        if reply is None:
            raise _not_applied(keys, queue)
        return Purge(queue, purge_id, keep_ms=keep_ms, dead=reply)

    script = load_script("purge_dead_letters")
    return Call("purge_dead_letters", script, places, (purge_id, keep_ms), read)


def list_purges(keys: Keys, queue: str) -> Call[list[Purge]]:
    """What can still be undone, oldest first."""

    def read(reply: Any) -> list[Purge]:
        found = [_read_purge(queue, purge_id.decode(), record) for purge_id, record in reply]
        return sorted(found, key=lambda purge: (purge.at_ms, purge.purge_id))

    return Call("list_purges", load_script("list_purges"), (keys.purges(queue), keys.meta(queue)), (), read)


def undo_purge(keys: Keys, purge: Purge, *, count: int) -> Call[Undone | None]:
    """One bounded step of bringing back what this purge took."""
    queue, purge_id = purge.queue, purge.purge_id
    if purge.of_dead_letters:
        return Call(
            "undo_purge_dead_letters",
            load_script("undo_purge_dead_letters"),
            (
                *(keys.purges(queue), keys.dead(queue), keys.trash(queue, purge_id, "d")),
                keys.meta(queue),
            ),
            (purge_id, count),
            lambda reply: _read_undone(keys, queue, reply),
        )
    return Call(
        "undo_purge",
        load_script("undo_purge"),
        (*_live_places(keys, queue), *_trash_places(keys, queue, purge_id)),
        (GROUP, queue, purge_id, count),
        lambda reply: _read_undone(keys, queue, reply),
    )


def pause(keys: Keys, queues: Sequence[str]) -> Call[list[str]]:
    """Workers stop reading these queues; those that rest are told."""
    return _set_paused("pause", keys, queues, "paused")


def resume(keys: Keys, queues: Sequence[str]) -> Call[list[str]]:
    """Workers read these queues again."""
    return _set_paused("resume", keys, queues, "active")


def _set_paused(name: str, keys: Keys, queues: Sequence[str], state: str) -> Call[list[str]]:
    return Call(
        name,
        load_script("set_paused"),
        (keys.due, *map(keys.meta, queues)),
        (state,),
        lambda reply: [before.decode() for before in reply],
    )


def _live_places(keys: Keys, queue: str) -> tuple[str, ...]:
    live = (keys.queue(queue), keys.delayed(queue), keys.bodies(queue), keys.crashes(queue))
    return (keys.purges(queue), keys.due, keys.meta(queue), *live)


def _trash_places(keys: Keys, queue: str, purge_id: str) -> tuple[str, ...]:
    return tuple(keys.trash(queue, purge_id, kind) for kind in _PURGED_KINDS)


def _read_purge(queue: str, purge_id: str, record: bytes) -> Purge:
    which, at_ms, keep_ms, ready, in_flight, delayed = msgspec.json.decode(record)
    times = {"at_ms": int(at_ms), "keep_ms": int(keep_ms)}
    if which == "dead":
        return Purge(queue, purge_id, dead=ready, **times)
    return Purge(queue, purge_id, ready=ready, in_flight=in_flight, delayed=delayed, **times)


def _read_undone(keys: Keys, queue: str, reply: Any) -> Undone | None:
    if reply[0] == b"missing":
        raise _not_applied(keys, queue)
    return None if reply[0] == b"unknown" else Undone(restored=reply[0], left=reply[1])


def _not_applied(keys: Keys, queue: str, *, leaving: bool = False) -> TopologyNotAppliedError:
    return TopologyNotAppliedError([f"queues.{queue}"], namespace=keys.namespace, leaving=leaving)


def _check_bound(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MOST_MOVED:
        raise ValueError(f"one call moves 1 to {MOST_MOVED} messages, not {len(items)}")


def _check_purge_id(purge_id: str) -> None:
    """The record of purges tells purge ids and entry ids apart by their looks."""
    if not (purge_id.isascii() and purge_id.isalnum() and purge_id != "upto"):
        raise ValueError(f"a purge id is made of letters and digits, unlike {purge_id!r}")
