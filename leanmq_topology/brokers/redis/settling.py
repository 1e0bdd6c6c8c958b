"""Settling, as values: each verb one script, one atomic step for up to 1,000 deliveries of one queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from leanmq_topology.brokers.protocol import (
    Dying,
    Flush,
    HandedBack,
    OutputsSent,
    Reply,
    Retrying,
    SendResult,
)
from leanmq_topology.brokers.redis import sending
from leanmq_topology.brokers.redis.calls import Call, Script, Word, join_words, load_script
from leanmq_topology.brokers.redis.keys import GROUP, NOBODY, SUSPECTS, Keys
from leanmq_topology.brokers.redis.receiving import not_applied, read_entry
from leanmq_topology.brokers.redis.requesting import reply_words
from leanmq_topology.errors import LeanMQError
from leanmq_topology.messages.codec import encode_failure
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.message import HEADER_REPLY_TO
from leanmq_topology.messages.outcome import CRASHED, CRASHED_LAST, EXPIRED, DeadReason, Failure

MOST_SETTLED: Final = 1000
"""Deliveries a call settles, so that no script holds the server for long."""
REPLY_WORDS: Final = 8
"""Of a reply: entry, delivery count, id, type, data, error, mark and its life."""
SENT: Final = OutputsSent(True)
NOT_OURS: Final = OutputsSent(False)


def ack(keys: Keys, queue: str, entry_ids: Sequence[str], late: int) -> Call[int]:
    """Success. No ownership check: the work is done, whoever holds the lease by now."""
    _check_bound(entry_ids)
    places, before = keys.remember((ack, queue, late), lambda: _prepare_ack(keys, queue, late))
    packed = b""
    if len(entry_ids) == 1:
        entry_id = entry_ids[0].encode()
        packed = b"%b$%d\r\n%b\r\n" % (before, len(entry_id), entry_id)
    return Call("ack", load_script("ack"), places, (GROUP, late, *entry_ids), int, packed=packed)


def _prepare_ack(keys: Keys, queue: str, late: int) -> tuple[tuple[str, ...], bytes]:
    """Its keys, and all but the last word of what acknowledges one entry, packed."""
    places = _ack_places(keys, queue)
    words: tuple[Word, ...] = ("EVALSHA", load_script("ack").sha, len(places), *places, GROUP, late)
    return places, join_words(words, b"*%d\r\n" % (len(words) + 1))


def delete(keys: Keys, queue: str, entry_ids: Sequence[str], late: int) -> Call[int]:
    """Success that leaves no copy behind."""
    _check_bound(entry_ids)
    places = (keys.queue(queue), keys.meta(queue), keys.crashes(queue), keys.purges(queue))
    return Call("delete", load_script("delete"), places, (GROUP, late, *entry_ids), int)


def ack_with_outputs(
    keys: Keys, consumer: str, delivered: Delivered, flush: Flush, reply: Reply | None
) -> Call[OutputsSent]:
    """Success, what the handler sends, and its reply, in one step."""
    if reply is not None and not flush.sends:
        place = _ReplyFrame, delivered.queue, consumer, flush.producer
        frame: _ReplyFrame = keys.recall(place) or keys.remember(
            place, lambda: _ReplyFrame.make(keys, consumer, delivered.queue, flush.producer)
        )
        return frame.write(delivered, flush, reply)
    flush = msgspec.structs.replace(flush, all_or_none=True)
    sends = sending.send_along(keys, flush) if flush.sends else None
    return _ack_and_send(keys, consumer, delivered, flush, reply, sends)


class _ReplyFrame(msgspec.Struct, frozen=True):
    """What those of a worker who reply and send nothing else have in common, packed once: see `sending`."""

    keys: Keys
    consumer: str
    script: Script
    places: tuple[str, ...]
    producer: str
    read_error: Callable[[str], LeanMQError | None]
    before_inbox: bytes
    before_entry: bytes
    life: bytes

    @classmethod
    def make(cls, keys: Keys, consumer: str, queue: str, producer: str) -> Self:
        script, places, name = (
            load_script("ack_with_reply"),
            _ack_places(keys, queue),
            keys.producer(producer),
        )
        before_inbox: tuple[Word, ...] = ("EVALSHA", script.sha, len(places) + 2, *places)
        before_entry = (name, GROUP, consumer)
        count = len(before_inbox) + 1 + len(before_entry) + REPLY_WORDS
        return cls(
            *(keys, consumer, script, places, name, not_applied(keys, [queue])),
            join_words(before_inbox, b"*%d\r\n" % count),
            join_words(before_entry),
            join_words((sending.MARKER_LIFE_MS,)),
        )

    def write(self, delivered: Delivered, flush: Flush, reply: Reply) -> Call[OutputsSent]:
        """The call of a reply, also as it goes over the wire."""
        inbox = self.keys.inbox(reply.inbox)
        place, entry = inbox.encode(), delivered.entry_id.encode()
        name, kind = reply.request_id.encode(), reply.type.encode()
        count, data, mark = b"%d" % delivered.delivery_count, reply.data, sending.mark(flush)
        error = encode_failure(reply.failure) if reply.failure else b""
        packed = (
            b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
            b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b"
        ) % (
            *(self.before_inbox, len(place), place, self.before_entry, len(entry), entry, len(count), count),
            *(len(name), name, len(kind), kind, len(data), data, len(error), error),
            *(len(mark), mark, self.life),
        )
        return Call(
            "ack_with_reply",
            self.script,
            (*self.places, inbox, self.producer),
            (GROUP, self.consumer, entry, count, name, kind, data, error, mark, sending.MARKER_LIFE_MS),
            _read_replied,
            read_error=self.read_error,
            packed=packed,
        )


def _read_replied(answer: Any) -> OutputsSent:
    return SENT if answer == 1 else NOT_OURS


def _ack_and_send(
    keys: Keys,
    consumer: str,
    delivered: Delivered,
    flush: Flush,
    reply: Reply | None,
    sends: Call[list[SendResult]] | None,
) -> Call[OutputsSent]:
    """The step around what sends the flush; in its place, the one around what is sent in place of that."""
    longer = sends.otherwise if sends else None

    def read(reply: Any) -> OutputsSent:
        ours = reply[0] == 1
        return OutputsSent(ours, tuple(sends.read(reply[1])) if ours and sends else ())

    return Call(
        "ack_with_outputs",
        load_script("ack_with_outputs"),
        (
            *_ack_places(keys, delivered.queue),
            keys.inbox(reply.inbox if reply else ""),
            keys.producer(flush.producer),
            *(sends.keys if sends else ()),
        ),
        (
            *(GROUP, consumer, *_lease(delivered)),
            *reply_words(reply),
            *(sending.write_sequence(flush.sequence), sending.MARKER_LIFE_MS, int(longer is not None)),
            *(sends.arguments if sends else ()),
        ),
        read,
        read_error=not_applied(keys, [delivered.queue]),
        otherwise=longer and (lambda: _ack_and_send(keys, consumer, delivered, flush, reply, longer())),
    )


def retry(keys: Keys, queue: str, consumer: str, retrying: Sequence[Retrying]) -> Call[list[bool]]:
    """Hand out again after a delay each."""
    places = (keys.queue(queue), keys.meta(queue), keys.delayed(queue), keys.bodies(queue), keys.due)
    words: list[Word] = []
    for item in retrying:
        words += (*_lease(item.delivered), item.delay_ms)
    return _settle("settle_retry", keys, queue, places, (GROUP, consumer, queue, *words), retrying)


def dead_letter(keys: Keys, queue: str, consumer: str, dying: Sequence[Dying]) -> Call[list[bool]]:
    """Move to the dead-letter queue, reason and error beside the message."""
    words: list[Word] = []
    for item in dying:
        words += (*_lease(item.delivered), _attempts(item), item.reason, encode_failure(item.failure))
    places = keys.dead_letter_places(queue)
    return _settle("settle_dead_letter", keys, queue, places, (GROUP, consumer, queue, *words), dying)


def discard(
    keys: Keys,
    queue: str,
    consumer: str,
    deliveries: Sequence[Delivered],
    expired: Collection[str],
    reasons: Mapping[str, str],
) -> Call[list[bool]]:
    """Acknowledge and forget; who waits for a reply is told why."""
    places = (keys.queue(queue), keys.meta(queue), keys.crashes(queue))
    words: list[Word] = []
    for delivered in deliveries:
        is_expired = delivered.entry_id in expired
        told = EXPIRED if is_expired else Failure("Discard", reasons.get(delivered.entry_id, "discarded"))
        is_request = HEADER_REPLY_TO in delivered.envelope.headers
        words += (*_lease(delivered), int(is_expired), encode_failure(told) if is_request else "")
    return _settle("settle_discard", keys, queue, places, (GROUP, consumer, *words), deliveries)


def release(keys: Keys, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Call[list[bool]]:
    """Hand back what never started."""
    places = (keys.queue(queue), keys.meta(queue), keys.due)
    words = (GROUP, consumer, NOBODY, SUSPECTS, *_leases(deliveries))
    return _settle("release", keys, queue, places, words, deliveries)


def release_held(
    keys: Keys, queue: str, consumer: str, started: Collection[str], suspect: bool
) -> Call[HandedBack]:
    """Hand back what a consumer that is gone never started."""

    def read(reply: Any) -> HandedBack:
        freed, running, more = reply
        return HandedBack(freed, tuple(read_entry(queue, *row) for row in running), more == 1)

    return Call(
        "release_held",
        load_script("release_held"),
        (keys.queue(queue), keys.meta(queue), keys.due),
        (GROUP, consumer, NOBODY, SUSPECTS, MOST_SETTLED, int(suspect), *started),
        read,
        read_error=not_applied(keys, [queue]),
    )


def crash(
    keys: Keys, queue: str, consumer: str, deliveries: Sequence[Delivered | Undecodable]
) -> Call[list[bool]]:
    """Count a crash against each of what a dead process ran alone."""
    failures = map(encode_failure, (CRASHED, CRASHED_LAST))
    words = (GROUP, consumer, queue, SUSPECTS, *failures, *_leases(deliveries))
    return _settle("settle_crash", keys, queue, keys.dead_letter_places(queue), words, deliveries)


def extend(keys: Keys, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Call[list[bool]]:
    """Renew leases."""
    words = (GROUP, consumer, *_leases(deliveries))
    return _settle("extend", keys, queue, (keys.queue(queue), keys.meta(queue)), words, deliveries)


def _ack_places(keys: Keys, queue: str) -> tuple[str, ...]:
    homes = (keys.queue, keys.meta, keys.acked, keys.crashes, keys.purges)
    return keys.remember((_ack_places, queue), lambda: tuple(home(queue) for home in homes))


def _settle(
    name: str,
    keys: Keys,
    queue: str,
    places: tuple[str, ...],
    words: tuple[Word, ...],
    deliveries: Sequence[object],
) -> Call[list[bool]]:
    _check_bound(deliveries)
    return Call(name, load_script(name), places, words, _read_flags, read_error=not_applied(keys, [queue]))


def _leases(deliveries: Sequence[Delivered | Undecodable]) -> tuple[Word, ...]:
    return tuple(word for delivered in deliveries for word in _lease(delivered))


def _lease(delivered: Delivered | Undecodable) -> tuple[Word, Word]:
    """What proves that a delivery is still ours: the same entry, handed out as often as we know."""
    return delivered.entry_id, delivered.delivery_count


def _attempts(dying: Dying) -> Word:
    """Runs so far, this one included if it started; a foreign entry is left as it is."""
    if isinstance(dying.delivered, Undecodable):
        return ""
    started = dying.started and dying.reason is not DeadReason.EXPIRED
    return dying.delivered.attempt - (0 if started else 1)


def _read_flags(reply: Any) -> list[bool]:
    return [flag == 1 for flag in reply]


def _check_bound(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MOST_SETTLED:
        raise ValueError(f"one call settles 1 to {MOST_SETTLED} deliveries, not {len(items)}")
