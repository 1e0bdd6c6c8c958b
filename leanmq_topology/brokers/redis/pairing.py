"""Queue pairs that no topology declares, and what is done to messages by hand, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from leanmq_topology.brokers.protocol import Declared, Expired, Pair
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.brokers.redis.receiving import not_applied
from leanmq_topology.brokers.redis.record import queue_meta
from leanmq_topology.errors import BrokerError
from leanmq_topology.messages.codec import encode_failure
from leanmq_topology.messages.outcome import EXPIRED, DeadReason, Failure
from leanmq_topology.topology.model import Queue

MOST_HANDLED: Final = 1000
"""Messages a call buries, so that no script holds the server for long."""
MOST_LOOKED_AT: Final = 200
"""Entries a stretch of `expire` looks at: about a millisecond of the server's time, bodies included."""


def create_pair(keys: Keys, queue: Queue) -> Call[Pair | Declared]:
    """Make it unless it is there."""
    record: list[Word] = [word for pair in queue_meta(queue).items() for word in pair]
    places = (keys.topology, keys.pairs, keys.sent, keys.queue(queue.name), keys.meta(queue.name))

    def read(reply: Any) -> Pair | Declared:
        match reply:
            case [b"pair", bytes(created)]:
                return Pair(queue.name, int(created))
            case [b"declared"]:
                return Declared(queue.name)
            case [b"wrong_type", bytes(key), bytes(found)]:
                raise BrokerError(
                    f"key {key.decode()} holds a {found.decode()} that is not ours; it was left alone",
                    hint="rename or delete that key, or choose another name",
                )
        raise BrokerError(f"create_pair: unexpected answer {reply!r}")

    return Call("create_pair", load_script("create_pair"), places, (GROUP, queue.name, *record), read)


def find_pair(keys: Keys, name: str) -> Call[Pair | None]:
    """The row of a pair."""
    return Call(
        "find_pair",
        "HGET",
        (keys.pairs, name),
        (),
        lambda reply: None if reply is None else _read_row(name, reply),
    )


def list_pairs(keys: Keys) -> Call[list[Pair]]:
    """Every row, by name."""

    def read(reply: Any) -> list[Pair]:
        rows = zip(reply[::2], reply[1::2], strict=True)
        return sorted((_read_row(name.decode(), row) for name, row in rows), key=lambda pair: pair.name)

    return Call("list_pairs", "HGETALL", (keys.pairs,), (), read)


def delete_pair(keys: Keys, name: str, *, dead_letters: bool) -> Call[bool | Declared]:
    """All of it, or all but its dead letters."""
    places = (
        *(keys.topology, keys.pairs, keys.due, keys.sent),
        *(keys.queue(name), keys.meta(name), keys.acked(name), keys.delayed(name), keys.bodies(name)),
        *(keys.crashes(name), keys.purges(name), keys.dead(name)),
    )
    return Call(
        "delete_pair",
        load_script("delete_pair"),
        places,
        (name, int(dead_letters)),
        lambda reply: Declared(name) if reply[0] == b"declared" else reply[1] == 1,
    )


def bury(keys: Keys, queue: str, entry_ids: Sequence[str], failure: Failure) -> Call[int]:
    """Into the dead-letter queue, by hand."""
    _check_bound(entry_ids)
    return Call(
        "bury",
        load_script("bury"),
        keys.dead_letter_places(queue),
        (GROUP, queue, DeadReason.MANUAL, encode_failure(failure), *entry_ids),
        int,
        read_error=not_applied(keys, [queue]),
    )


def expire(keys: Keys, queue: str, cursor: str) -> Call[Expired]:
    """A stretch of what was never handed out."""
    return Call(
        "expire",
        load_script("expire"),
        keys.dead_letter_places(queue),
        (GROUP, queue, cursor, MOST_LOOKED_AT, encode_failure(EXPIRED)),
        lambda reply: Expired(reply[0].decode(), reply[1]),
    )


def forget_history(keys: Keys, queue: str) -> Call[int]:
    """All of it, at once."""
    return Call(
        "forget_history", load_script("forget_history"), (keys.acked(queue), keys.meta(queue)), (), int
    )


def _read_row(name: str, row: bytes) -> Pair:
    created, _, left = row.partition(b" ")
    return Pair(name, int(created), has_queue=left != b"dead")


def _check_bound(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MOST_HANDLED:
        raise ValueError(f"one call handles 1 to {MOST_HANDLED} messages, not {len(items)}")
