"""Inboxes and replies, as values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from leanmq_topology.brokers.protocol import Arrived, Reply
from leanmq_topology.brokers.redis.calls import Call, Word, join_words, load_script
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.codec import decode_failure, encode_failure

_FIELDS: Final = [b"id", b"type", b"data", b"error"]
"""Of a reply, as `ack_with_reply` and all others write it."""


def open_inbox(keys: Keys, inbox: str, *, lifetime_ms: int) -> Call[None]:
    """Make an empty stream that expires."""
    return Call(
        "open_inbox", load_script("open_inbox"), (keys.inbox(inbox),), (lifetime_ms,), lambda reply: None
    )


def read_inbox(keys: Keys, inbox: str, after: str, *, count: int, block_ms: int) -> Call[list[Arrived]]:
    """A bare XREAD: reading it again after a lost answer finds the same."""
    words, start, read = keys.remember(
        ("read_inbox", inbox, count, block_ms), lambda: _prepare_read(keys, inbox, count, block_ms)
    )
    place = after.encode()
    packed = b"%b$%d\r\n%b\r\n" % (start, len(place), place)
    return Call("read_inbox", "XREAD", (), (*words, after), read, block_ms=block_ms, packed=packed)


def _prepare_read(
    keys: Keys, inbox: str, count: int, block_ms: int
) -> tuple[tuple[Word, ...], bytes, Callable[[Any], list[Arrived]]]:
    """What all reads of an inbox have in common: their words but the last, also packed, and their reader."""
    block: tuple[Word, ...] = ("BLOCK", block_ms) if block_ms else ()
    words = ("COUNT", count, *block, "STREAMS", keys.inbox(inbox))
    packed = join_words(("XREAD", *words), b"*%d\r\n" % (len(words) + 2))
    return words, packed, partial(_read_replies, inbox)


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
    return [
        Arrived(place.decode(), _read_reply(inbox, flat))
        for _, entries in answer or ()
        for place, flat in entries
    ]


def _read_reply(inbox: str, flat: list[bytes]) -> Reply:
    if flat[::2] == _FIELDS:
        request_id, kind, data, error = flat[1::2]
    else:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        request_id, kind, data, error = (fields.get(name, b"") for name in _FIELDS)
    return Reply(
        inbox,
        request_id.decode(errors="replace"),
        kind.decode(errors="replace"),
        data,
        decode_failure(error) if error else None,
    )
