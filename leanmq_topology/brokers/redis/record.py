"""How the applied topology lies on the server: the fields of `{ns}:topology` and of each queue's `{ns}:m:`.

`{ns}:topology` holds the `HEAD_FIELDS`, one field per resource (`queues.billing` -> JSON `{hash, generation,
by, at, commit, spec}`) and one per address a sender may name (`@billing` -> its digest), which the send
script compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from leanmq_topology.topology.model import DeadLetter, KeepAcked, OnExpire, Overflow, Queue

RECORD_FORMAT = 1
"""Of this layout. A server that holds a newer one is refused, not guessed at."""

HEAD_FIELDS = (
    "owner",
    "format",
    "generation",
    "epoch",
    "fingerprint",
    "applied_by",
    "applied_at",
    "commit",
    "fence",
)
"""`fence` counts the apply locks ever taken, also those of an apply that then wrote nothing else."""


def address_field(name: str) -> str:
    """The field of `{ns}:topology` that holds the digest of a queue or route."""
    return f"@{name}"


def is_resource_field(field: str) -> bool:
    return field.startswith(("messages.", "queues.", "routes."))


def encode_resource(entry: dict[str, Any]) -> bytes:
    return msgspec.json.encode(entry)


def decode_resource(raw: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(raw)
    return decoded


def queue_meta(queue: Queue) -> dict[str, str]:
    """What scripts read of a queue: its limits. State, counters, and the hash tag of its keys are left alone.

    A limit that is not set is the empty string.
    """
    return {
        "max_length": "" if queue.max_length is None else str(queue.max_length),
        "overflow": queue.overflow.value,
        "ttl_ms": "" if queue.ttl_ms is None else str(queue.ttl_ms),
        "on_expire": queue.on_expire.value,
        "delay_ms": str(queue.delay_ms),
        "visibility_ms": str(queue.visibility_timeout_ms),
        "max_deliveries": str(queue.max_deliveries),
        "max_crashes": str(queue.max_crashes),
        **_kept_meta(queue),
    }


def _kept_meta(queue: Queue) -> dict[str, str]:
    """How much of what is over is kept: acknowledged messages, dead letters."""
    keep, dead = queue.keep_acked, queue.dead_letter
    limits = {
        "keep_acked_ms": keep.duration_ms if keep else None,
        "keep_acked_count": keep.count if keep else None,
        "dead_ttl_ms": dead.ttl_ms,
        "dead_max_length": dead.max_length,
    }
    return {field: "" if limit is None else str(limit) for field, limit in limits.items()}


LIMITS = tuple(queue_meta(Queue(name="-")))
"""The fields of a queue's own record that say how it is kept."""


def read_meta(name: str, values: Sequence[bytes | None]) -> Queue | None:
    """The queue that a record of `LIMITS` describes; None where there is none."""
    fields = {field: (value or b"").decode() for field, value in zip(LIMITS, values, strict=True)}
    if not fields["visibility_ms"]:
        return None
    limits = {field: int(value) if value.isdecimal() else None for field, value in fields.items()}
    kept = KeepAcked(duration_ms=limits["keep_acked_ms"], count=limits["keep_acked_count"])
    return Queue(
        name=name,
        ttl_ms=limits["ttl_ms"],
        on_expire=OnExpire(fields["on_expire"] or OnExpire.DEAD_LETTER),
        delay_ms=limits["delay_ms"] or 0,
        max_deliveries=limits["max_deliveries"] or Queue(name=name).max_deliveries,
        max_crashes=limits["max_crashes"] or Queue(name=name).max_crashes,
        visibility_timeout_ms=int(fields["visibility_ms"]),
        max_length=limits["max_length"],
        overflow=Overflow(fields["overflow"] or Overflow.REJECT),
        keep_acked=kept if kept != KeepAcked() else None,
        dead_letter=DeadLetter(ttl_ms=limits["dead_ttl_ms"], max_length=limits["dead_max_length"]),
    )
