"""Sending, as values: one flush is one script call, of `send_lone` or `send_plain` where they will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import groupby
from typing import Any, Final, NamedTuple, Self

import msgspec

from leanmq_topology.brokers.protocol import Duplicate, Flush, Full, SendResult, Stale, Stored
from leanmq_topology.brokers.redis.calls import Call, Script, Word, join_words, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.brokers.redis.record import address_field
from leanmq_topology.messages.codec import encode_headers
from leanmq_topology.messages.envelope import Outgoing

MARKER_LIFE_MS: Final = 10 * 60 * 1000
"""How long the server remembers a producer's last flush; longer than any sender goes on retrying."""

LONE_WORDS: Final = 6
"""Of a send on its own: type, headers, ttl, that it is one (which `send_lone` need not be told), id, data."""

IDENTITY_DIGEST: Final = 16
DATA_DIGEST: Final = 8
"""Bytes; the script takes the data's digest off the front of a marker."""


def send(keys: Keys, flush: Flush) -> Call[list[SendResult]]:
    """The whole flush in one step; results in the order of its sends."""
    if not _is_plain(flush):
        return send_fully(keys, flush)
    is_lone = len(flush.sends) == 1 and len(flush.sends[0].queues) == 1 and not flush.tells_entries
    return _send_plainly(keys, flush, "send_lone" if is_lone else "send_plain")


def send_along(keys: Keys, flush: Flush) -> Call[list[SendResult]]:
    """`send` for a script that does it beside something else: `send_plain` and `send` are embedded there."""
    return _send_plainly(keys, flush, "send_plain") if _is_plain(flush) else send_fully(keys, flush)


def mark(flush: Flush) -> bytes:
    """What the marker of a producer holds after a flush without sends: its sequence, and no answers."""
    return b"%015d:\x90" % flush.sequence


def attempt(keys: Keys, flush: Flush) -> Call[list[SendResult] | None]:
    """`send` as a bare command: neither the script's text nor another script follows it."""
    call = send(keys, flush)
    words = () if call.packed else call.words()[1:]
    return Call("attempt", "EVALSHA", (), words, partial(_read_attempted, call.read), packed=call.packed)


def _read_attempted(read: Callable[[Any], list[SendResult]], reply: Any) -> list[SendResult] | None:
    return None if reply is None else read(reply)


def send_fully(keys: Keys, flush: Flush) -> Call[list[SendResult]]:
    """What every flush can be sent by."""
    sends = flush.sends
    layout = _Layout(keys)
    for outgoing in sends:
        layout.add(outgoing)
    return Call(
        "send",
        load_script("send"),
        (keys.topology, keys.producer(flush.producer), keys.due, *layout.keys()),
        (
            write_sequence(flush.sequence),
            MARKER_LIFE_MS,
            int(flush.all_or_none),
            int(flush.confirmed),
            GROUP,
            *layout.arguments(tells_entries=flush.tells_entries),
        ),
        lambda reply: _read_results(sends, reply),
    )


def write_sequence(sequence: int) -> bytes:
    """As scripts compare it, and as a producer's marker begins: a later one is greater as text too."""
    return b"%015d" % sequence


def _is_plain(flush: Flush) -> bool:
    """Whether it is one that `send_plain` stores, as far as the sender knows."""
    first = flush.sends[0] if flush.sends else None
    if first is None or not first.plain or not first.queues or flush.confirmed:
        return False
    if len(flush.sends) == 1:
        return not first.once and not first.delay_ms
    address = (first.target, first.digest, first.queues)
    return all(
        (outgoing.target, outgoing.digest, outgoing.queues) == address
        and not outgoing.once
        and not outgoing.delay_ms
        for outgoing in flush.sends
    )


def _send_plainly(keys: Keys, flush: Flush, name: str) -> Call[list[SendResult]]:
    """By the script of this name."""
    sends = flush.sends
    first, sequence = sends[0], b"%015d" % flush.sequence
    tells_entries = flush.tells_entries and len(first.queues) == 1
    address = (first.target, first.digest, first.queues, first.envelope.type)
    shared = (name, flush.producer, tells_entries, *address)
    frame: _Frame = keys.recall(shared) or keys.remember(
        shared, lambda: _Frame.make(keys, flush, name, tells_entries=tells_entries)
    )
    words, packed = frame.write_lone(sequence, first) if len(sends) == 1 else (_plain_words(sends), b"")
    return Call(
        name,
        frame.script,
        frame.keys,
        (sequence, *frame.words, *words),
        lambda reply: _read_results(sends, reply),
        otherwise=lambda: send_fully(keys, flush),
        packed=packed,
    )


class _Frame(NamedTuple):
    """What the plain flushes of a producer to an address have in common, packed once.

    A send on its own is a score of short words, which take longer to pack than all else there is to do.
    """

    script: Script
    keys: tuple[str, ...]
    words: tuple[Word, ...]
    """After the sequence, before the sends."""
    before_sequence: bytes
    before_headers: bytes
    before_id: tuple[Word, ...]
    """After the ttl of a send on its own: that it is one, where the script takes more."""
    packed_before_id: bytes

    @classmethod
    def make(cls, keys: Keys, flush: Flush, name: str, *, tells_entries: bool) -> Self:
        first, script = flush.sends[0], load_script(name)
        places = [keys.topology, keys.producer(flush.producer)]
        words: tuple[Word, ...] = (MARKER_LIFE_MS, address_field(first.target), first.digest)
        before_id: tuple[Word, ...] = ()
        if name != "send_lone":
            places.append(keys.sent)
            words += (b"" if tells_entries else msgspec.msgpack.encode(len(first.queues)),)
            before_id = (1,)
        places += _plain_keys(keys, first.queues)
        start: tuple[Word, ...] = ("EVALSHA", script.sha, len(places), *places)
        count = len(start) + 1 + len(words) + LONE_WORDS - 1 + len(before_id)
        before_sequence = join_words(start, b"*%d\r\n" % count)
        before_headers = join_words((*words, first.envelope.type))
        packed = (before_sequence, before_headers, before_id, join_words(before_id))
        return cls(script, tuple(places), words, *packed)

    def write_lone(self, sequence: bytes, outgoing: Outgoing) -> tuple[Sequence[Word], bytes]:
        """The words of a send on its own, and its whole call as it goes over the wire."""
        envelope = outgoing.envelope
        name, data, headers = envelope.id.encode(), envelope.data, encode_headers(envelope.headers)
        ttl = b"" if outgoing.ttl_ms is None else b"%d" % outgoing.ttl_ms
        packed = b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            *(self.before_sequence, len(sequence), sequence),
            *(self.before_headers, len(headers), headers),
            *(len(ttl), ttl, self.packed_before_id, len(name), name, len(data), data),
        )
        return (envelope.type, headers, ttl, *self.before_id, name, data), packed


def _plain_words(sends: Sequence[Outgoing]) -> list[Word]:
    """The sends in order; what those in a row have in common is written once."""
    words: list[Word] = []
    for (kind, headers, ttl_ms), run in groupby(sends, _read_common):
        bodies = [word for outgoing in run for word in (outgoing.envelope.id, outgoing.envelope.data)]
        words += (kind, encode_headers(headers), _optional(ttl_ms), len(bodies) // 2, *bodies)
    return words


def _read_common(outgoing: Outgoing) -> tuple[str, Mapping[str, str], int | None]:
    envelope = outgoing.envelope
    return envelope.type, envelope.headers, outgoing.ttl_ms


class _Layout:
    """A flush as the script reads it: what sends have in common is written once, and named by its place."""

    __slots__ = (
        "_addresses",
        "_encoded",
        "_form_words",
        "_forms",
        "_headers",
        "_keys",
        "_markers",
        "_queues",
        "_send_words",
    )

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._addresses: dict[tuple[str, str], int] = {}
        self._queues: dict[str, int] = {}
        self._forms: dict[tuple[Any, ...], int] = {}
        self._markers: dict[str, int] = {}
        self._form_words: list[Word] = []
        self._send_words: list[Word] = []
        self._headers: object = None
        self._encoded = b""

    def add(self, outgoing: Outgoing) -> None:
        envelope = outgoing.envelope
        if envelope.headers is not self._headers:  # messages of one batch share theirs
            self._headers, self._encoded = envelope.headers, encode_headers(envelope.headers)
        form = (
            outgoing.target,
            outgoing.digest,
            outgoing.queues,
            envelope.type,
            self._encoded,
            outgoing.ttl_ms,
            outgoing.delay_ms,
            len(outgoing.once),
        )
        place = self._forms.get(form) or self._add_form(form)
        self._send_words += (place, envelope.id, envelope.data)
        if outgoing.once:
            self._add_markers(outgoing)

    def keys(self) -> list[str]:
        keys = self._keys
        words = [_queue_keys(keys, name)[1] for name, _ in self._addresses]
        for queue in self._queues:
            words += _queue_keys(keys, queue)
        return words + list(self._markers)

    def arguments(self, *, tells_entries: bool) -> list[Word]:
        counts = (len(self._addresses), len(self._queues), len(self._forms))
        words: list[Word] = [*counts, int(tells_entries)]
        for address in self._addresses:
            words += address
        words += self._queues
        words += self._form_words
        words += self._send_words
        return words

    def _add_form(self, form: tuple[Any, ...]) -> int:
        target, digest, queues, kind, headers, ttl_ms, delay_ms, markers = form
        address = self._addresses.setdefault((target, digest), len(self._addresses) + 1)
        self._form_words += (address, len(queues))
        for queue in queues:
            self._form_words.append(self._queues.setdefault(queue, len(self._queues) + 1))
        self._form_words += (kind, headers, _optional(ttl_ms), _optional(delay_ms), markers)
        place = self._forms[form] = len(self._forms) + 1
        return place

    def _add_markers(self, outgoing: Outgoing) -> None:
        self._send_words.append(blake2b(outgoing.envelope.data, digest_size=DATA_DIGEST).digest())
        for once in outgoing.once:
            digest = blake2b(once.identity, digest_size=IDENTITY_DIGEST).hexdigest()
            key = self._keys.marker(once.queue or outgoing.target, digest)
            marker = self._markers.setdefault(key, len(self._markers) + 1)
            copy = outgoing.queues.index(once.queue) + 1 if once.queue else 0
            self._send_words += (marker, copy, once.window_ms)


def _queue_keys(keys: Keys, queue: str) -> tuple[str, ...]:
    homes = (keys.queue, keys.meta, keys.delayed, keys.bodies, keys.dead, keys.crashes)
    return keys.remember(queue, lambda: tuple(home(queue) for home in homes))


def _plain_keys(keys: Keys, queues: tuple[str, ...]) -> tuple[str, ...]:
    return keys.remember(
        queues, lambda: tuple(key for queue in queues for key in (keys.meta(queue), keys.queue(queue)))
    )


def _optional(number: int | None) -> Word:
    return "" if number is None else number


def _read_results(sends: Sequence[Outgoing], reply: Any) -> list[SendResult]:
    if type(reply) is int:  # copies of each
        return [Stored(outgoing.envelope.id, reply) for outgoing in sends]
    return [
        Stored(outgoing.envelope.id, row) if type(row) is int else _read_result(outgoing, row)
        for outgoing, row in zip(sends, reply, strict=True)
    ]


def _read_result(outgoing: Outgoing, row: list[Any]) -> SendResult:
    match row[0]:
        case b"duplicate":
            return Duplicate(row[1].decode(), row[2] == b"1")
        case b"entry":
            return Stored(outgoing.envelope.id, 1, entry_id=row[1].decode())
        case b"partial":
            return Stored(outgoing.envelope.id, row[1], differs=True)
        case b"full":
            return Full(row[1].decode(), row[2])
        case _:
            leaving = row[3].decode() if len(row) > 3 and row[3] else None
            return Stale(row[2].decode(), row[1].decode() or None, leaving)  # its own, or what withheld it
