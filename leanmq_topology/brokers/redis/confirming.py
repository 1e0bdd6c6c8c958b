"""Confirmed sends: the flush, and right behind it the question who has it by now.

WAIT and WAITAOF cover what their own connection wrote before them, so both leave in one write. A server
that writes its disk before each answer (`appendfsync always`) has confirmed by answering. Where WAITAOF is
missing or not to be trusted otherwise, the settings are asked for each time too, because they can change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from leanmq_topology.brokers.examination import Examination
from leanmq_topology.brokers.protocol import Duplicate, Flush, SendResult, Stored, Unconfirmed
from leanmq_topology.brokers.redis.calls import Call, Refused, Word
from leanmq_topology.brokers.redis.failures import reply_code
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.sending import send_fully
from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.topology.durability import MEMORY, Durability


def send_confirmed(
    keys: Keys, flush: Flush, level: Durability, *, within_ms: int, examination: Examination
) -> Call[list[SendResult]]:
    """The flush, answered once `level` is reached or `within_ms` has passed; `Unconfirmed` for the latter."""
    sending = send_fully(keys, msgspec.structs.replace(flush, confirmed=True))
    return Call(
        "send_confirmed",
        sending.command,
        sending.keys,
        sending.arguments,
        lambda replies: _read(sending.read(replies[0]), replies[1:], level),
        block_ms=within_ms,
        followers=tuple(_questions(level, within_ms, examination)),
    )


def _questions(level: Durability, within_ms: int, examination: Examination) -> Iterator[tuple[Word, ...]]:
    if not level.disk:
        yield ("WAIT", level.replicas, within_ms)
        return
    if examination.waits_for_disk:
        yield ("WAITAOF", 1, level.replicas, within_ms)
    if examination.shows_disk_writes:
        yield ("CONFIG", "GET", "*append*")


def _read(results: list[SendResult], answers: Sequence[Any], level: Durability) -> list[SendResult]:
    refused = [answer.text for answer in answers if isinstance(answer, Refused)]
    if any(reply_code(text) == "UNBLOCKED" for text in refused):
        # It became a replica: what it has written may be thrown away, so it may as well not have been stored.
        raise BrokerUnavailableError("the server changed its role while it confirmed a send", unknown=True)
    reached = _weakest([_read_reached(answer) for answer in answers])
    if reached.covers(level):
        return results
    reason = refused[0] if refused else None
    return [
        Unconfirmed(result.id, str(reached), reason) if isinstance(result, Stored | Duplicate) else result
        for result in results
    ]


def _weakest(reached: Sequence[Durability]) -> Durability:
    """What all answers vouch for; settings say nothing of replicas."""
    return Durability(disk=all(one.disk for one in reached), replicas=max(one.replicas for one in reached))


def _read_reached(answer: Any) -> Durability:
    match answer:
        case int():
            return Durability(replicas=answer)
        case [int(disk), int(replicas)]:
            return Durability(disk >= 1, replicas)
        case list():
            settings: Mapping[Any, Any] = dict(zip(answer[::2], answer[1::2], strict=True))
            return Durability(disk=_writes_before_answering(settings))
        case _:
            return MEMORY


def _writes_before_answering(settings: Mapping[Any, Any]) -> bool:
    return (
        settings.get(b"appendonly") == b"yes"
        and settings.get(b"appendfsync") == b"always"
        and settings.get(b"no-appendfsync-on-rewrite") != b"yes"
    )
