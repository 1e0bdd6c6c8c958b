"""Sending, as values: one flush is one call of `lua/send.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from leanmq_topology.brokers.protocol import Flush, Full, SendResult, Stale, Stored
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.codec import encode_headers
from leanmq_topology.messages.envelope import Outgoing

MARKER_LIFE_MS: Final = 10 * 60 * 1000
"""How long the server remembers a producer's last flush; longer than any sender goes on retrying."""


def send(keys: Keys, flush: Flush) -> Call[list[SendResult]]:
    """The whole flush in one step; results in the order of its sends."""
    addresses: dict[tuple[str, str], int] = {}
    queues: dict[str, int] = {}
    words: list[Word] = []
    for outgoing in flush.sends:
        address = addresses.setdefault((outgoing.target, outgoing.digest), len(addresses) + 1)
        words += (address, len(outgoing.queues))
        words += [queues.setdefault(queue, len(queues) + 1) for queue in outgoing.queues]
        words += _message_words(outgoing)
    return Call(
        "send",
        load_script("send"),
        (
            keys.topology,
            keys.producer(flush.producer),
            keys.due,
            *(keys.meta(name) for name, _ in addresses),
            *(key for queue in queues for key in _queue_keys(keys, queue)),
        ),
        (
            flush.sequence,
            MARKER_LIFE_MS,
            int(flush.all_or_none),
            len(addresses),
            len(queues),
            *(word for address in addresses for word in address),
            *queues,
            *words,
        ),
        lambda reply: _read_results(flush.sends, reply),
    )


def _queue_keys(keys: Keys, queue: str) -> tuple[str, str, str, str]:
    return keys.queue(queue), keys.meta(queue), keys.delayed(queue), keys.bodies(queue)


def _message_words(outgoing: Outgoing) -> tuple[Word, ...]:
    envelope = outgoing.envelope
    return (
        envelope.id,
        envelope.type,
        envelope.data,
        encode_headers(envelope.headers),
        "" if outgoing.ttl_ms is None else outgoing.ttl_ms,
        "" if outgoing.delay_ms is None else outgoing.delay_ms,
    )


def _read_results(sends: Sequence[Outgoing], reply: Any) -> list[SendResult]:
    return [_read_result(outgoing, row) for outgoing, row in zip(sends, reply, strict=True)]


def _read_result(outgoing: Outgoing, row: list[Any]) -> SendResult:
    if row[0] == b"stored":
        return Stored(outgoing.envelope.id, row[1])
    if row[0] == b"full":
        return Full(row[1].decode(), row[2])
    return Stale(outgoing.target, row[1].decode() or None)
