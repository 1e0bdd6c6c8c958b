"""A message as the package LeanMQ stored it, and what it becomes. Pure.

LeanMQ stored one field, `data`: the body, with `_metadata {id, timestamp, ttl}` in it, and in a dead letter
`_failures [{timestamp, reason}]`, in a requeued one `_requeues`. None of these belongs to the data: they
become id, expiry, headers and error of the message, and the body is again what was sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.message import HEADER_TIME
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.messages.replaying import HEADER_REPLAYED

HEADER_HISTORY: Final = "leanmqhistory"
"""JSON list of earlier failures, `{timestamp, reason}` each, as LeanMQ wrote them."""
MOST_FAILURES: Final = 8
LONGEST_REASON: Final = 500
LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999, the last moment that the `time` header can say."""
NO_FAILURE: Final = Failure("", "")


class Move(Struct, frozen=True):
    """One old entry on its way; without an envelope it is none of LeanMQ's, and dies as it is."""

    entry_id: str
    envelope: Envelope | None
    reason: DeadReason = DeadReason.MANUAL
    failure: Failure = NO_FAILURE
    keeps_history: bool = True
    """Where it was acknowledged: put it into the history; else it is only removed."""


def read_old_message(
    entry_id: str, fields: Sequence[bytes], *, dead: bool, format_time: Callable[[int], str]
) -> Move:
    """What an old entry becomes, whatever it holds: one that cannot be carried over never raises.

    `format_time` writes milliseconds as the `time` header has them.
    """
    try:
        body = json.loads(dict(zip(fields[::2], fields[1::2], strict=False))[b"data"])
        if not isinstance(body, dict):
            raise TypeError("the body is no JSON object")
        return _read_body(entry_id, body, dead, format_time)
    except (KeyError, TypeError, ValueError, InvalidMessageError) as wrong:
        return _refuse(entry_id, str(wrong))
    except RecursionError:
        return _refuse(entry_id, "it is nested too deep")


def _refuse(entry_id: str, why: str) -> Move:
    failure = Failure("Undecodable", f"not a message of LeanMQ: {why}")
    return Move(entry_id, None, DeadReason.UNDECODABLE, failure)


def _read_body(entry_id: str, body: dict[str, Any], dead: bool, format_time: Callable[[int], str]) -> Move:
    told = _as_mapping(body.pop("_metadata", None))
    failures = _as_failures(body.pop("_failures", None))
    requeues = body.pop("_requeues", None)
    stored_ms = min(int(entry_id.partition("-")[0]), LATEST_MS)
    sent_ms = max(_as_ms(told.get("timestamp")) or 0, 0) or stored_ms
    life_ms = _as_ms(told.get("ttl"))
    headers = {HEADER_TIME: format_time(sent_ms)}
    earlier = failures[:-1] if dead else failures  # the last one is why it is dead
    if earlier:
        headers[HEADER_HISTORY] = json.dumps(earlier[-MOST_FAILURES:])
    if isinstance(requeues, list) and requeues:
        headers[HEADER_REPLAYED] = str(len(requeues))
    message_id = str(told.get("id") or entry_id)
    message_id.encode()  # JSON can hold half a character, a stream cannot: raises `UnicodeEncodeError`
    envelope = Envelope(
        message_id,
        "",
        encode_data(body),
        headers,
        len(failures) if dead else 0,
        None if life_ms is None else sent_ms + life_ms,
    )
    return Move(entry_id, envelope, failure=Failure("", failures[-1]["reason"] if failures else ""))


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_failures(value: Any) -> list[dict[str, Any]]:
    return [
        {"timestamp": one.get("timestamp", 0), "reason": _as_text(one.get("reason", ""))}
        for one in (value if isinstance(value, list) else [])
        if isinstance(one, dict)
    ]


def _as_text(value: Any) -> str:
    """Words for people: half a character in them becomes a question mark."""
    return str(value)[:LONGEST_REASON].encode(errors="replace").decode()


def _as_ms(seconds: Any) -> int | None:
    """None for what is no time: also for NaN, infinities, and what lies beyond every calendar."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return round(seconds * 1000) if abs(seconds) <= LATEST_MS / 1000 else None
