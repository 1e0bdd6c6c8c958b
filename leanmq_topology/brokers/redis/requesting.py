"""Inboxes and replies, as values."""

from __future__ import annotations

from typing import Any

from leanmq_topology.brokers.protocol import Arrived, Reply
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.codec import decode_failure, encode_failure


def open_inbox(keys: Keys, inbox: str, *, lifetime_ms: int) -> Call[None]:
    """Make an empty stream that expires."""
    return Call(
        "open_inbox", load_script("open_inbox"), (keys.inbox(inbox),), (lifetime_ms,), lambda reply: None
    )


def read_inbox(keys: Keys, inbox: str, after: str, *, count: int, block_ms: int) -> Call[list[Arrived]]:
    """A bare XREAD: reading it again after a lost answer finds the same."""
    block: tuple[Word, ...] = ("BLOCK", block_ms) if block_ms else ()
    return Call(
        "read_inbox",
        "XREAD",
        (),
        ("COUNT", count, *block, "STREAMS", keys.inbox(inbox), after),
        lambda reply: _read_replies(inbox, reply),
        block_ms=block_ms,
    )


def keep_inbox(keys: Keys, inbox: str, *, lifetime_ms: int, read_to: str) -> Call[bool]:
    """Another lifetime, less what was read."""
    return Call("keep_inbox", load_script("keep_inbox"), (keys.inbox(inbox),), (lifetime_ms, read_to), bool)


def close_inbox(keys: Keys, inbox: str) -> Call[bool]:
    """UNLINK it."""
    return Call("close_inbox", "UNLINK", (keys.inbox(inbox),), (), bool)


def reply_words(answer: Reply | None) -> tuple[Word, Word, Word, Word]:
    """Id, type, data and error of a reply, all empty for none."""
    if answer is None:
        return "", "", "", ""
    error = encode_failure(answer.failure) if answer.failure else b""
    return answer.request_id, answer.type, answer.data, error


def _read_replies(inbox: str, answer: Any) -> list[Arrived]:
    found = []
    for _, entries in answer or ():
        for place, flat in entries:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            error = fields.get(b"error")
            arrived = Reply(
                inbox,
                fields.get(b"id", b"").decode(errors="replace"),
                fields.get(b"type", b"").decode(errors="replace"),
                fields.get(b"data", b""),
                decode_failure(error) if error else None,
            )
            found.append(Arrived(place.decode(), arrived))
    return found
