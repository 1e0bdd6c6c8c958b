"""Taking over what LeanMQ left, as values.

Its keys: `<prefix><q>`, `<prefix><q>:dlq`, `<key>:metadata`, `<key>:expiry` and the set `<prefix>registry`;
its groups `<q>-group` and `<q>-group-dlq`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from leanmq_topology.brokers.protocol import Moved, OldEntry
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.adoption import Move
from leanmq_topology.messages.codec import encode_failure, encode_fields

MOST_MOVED: Final = 200
"""Entries a step moves: a millisecond or two of the server's time."""
DLQ: Final = ":dlq"
_NONE: Final = (b"",) * 5


def list_old_queues(prefix: str) -> Call[list[str]]:
    """Registered main queues; dead-letter queues belong to theirs."""

    def read(reply: Any) -> list[str]:
        found = {name.decode("utf-8", "replace") for name in reply}
        mains = {name for name in found if not (name.endswith(DLQ) and name.removesuffix(DLQ) in found)}
        return sorted(name.removeprefix(prefix).removesuffix(DLQ) for name in mains)

    return Call("list_old_queues", "SMEMBERS", (f"{prefix}registry",), (), read)


def read_old(prefix: str, queue: str, *, dead: bool, count: int) -> Call[list[OldEntry]]:
    """From the front: what was moved is gone."""
    key = f"{prefix}{queue}{DLQ if dead else ''}"

    def read(reply: Any) -> list[OldEntry]:
        return [OldEntry(entry_id.decode(), tuple(flat)) for entry_id, flat in reply]

    return Call("read_old", "XRANGE", (key,), ("-", "+", "COUNT", count), read)


def move_old(keys: Keys, prefix: str, queue: str, moves: Sequence[Move]) -> Call[Moved]:
    """Waiting, kept, or dead-lettered as not one of LeanMQ's."""
    _check_bound(moves)
    old = f"{prefix}{queue}"
    places = (old, f"{old}:expiry", keys.queue(queue), keys.meta(queue), keys.acked(queue), keys.dead(queue))
    words: list[Word] = [f"{queue}-group"]
    for move in moves:
        words += (move.entry_id, int(move.keeps_history), *_values(move))
    return Call("adopt", load_script("adopt"), places, tuple(words), lambda reply: Moved(*reply))


def bury_old(keys: Keys, prefix: str, queue: str, moves: Sequence[Move]) -> Call[Moved]:
    """Dead letters stay dead letters."""
    _check_bound(moves)
    old = f"{prefix}{queue}{DLQ}"
    places = (old, f"{old}:expiry", keys.dead(queue), keys.meta(queue))
    words: list[Word] = []
    for move in moves:
        six = (b"",) * 6 if move.envelope is None else encode_fields(move.envelope)
        words += (move.entry_id, *six, move.reason, encode_failure(move.failure))
    return Call(
        "adopt_dead_letters",
        load_script("adopt_dead_letters"),
        places,
        tuple(words),
        lambda reply: Moved(dead=reply),
    )


def finish_old(prefix: str, queue: str) -> Call[bool]:
    """Its keys and its place in the registry."""
    old, dead = f"{prefix}{queue}", f"{prefix}{queue}{DLQ}"
    rest = (f"{old}:metadata", f"{old}:expiry", f"{dead}:metadata", f"{dead}:expiry")
    return Call(
        "adopt_finish",
        load_script("adopt_finish"),
        (f"{prefix}registry", old, dead, *rest),
        (old, dead),
        bool,
    )


def _values(move: Move) -> tuple[Word, ...]:
    if move.envelope is None:
        return (*_NONE, encode_failure(move.failure))
    return tuple(encode_fields(move.envelope))


def _check_bound(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MOST_MOVED:
        raise ValueError(f"one call moves 1 to {MOST_MOVED} messages, not {len(items)}")
