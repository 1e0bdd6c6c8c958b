"""A delivery as programs written for LeanMQ read it."""

from __future__ import annotations

from typing import Any

from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.message import (
    HEADER_CORRELATION,
    HEADER_SCHEMA,
    HEADER_TIME,
    Message,
    read_time,
    read_version,
)


def in_classic_form(delivered: Delivered, data: Any) -> Message:
    """A plain message whose `id` is where it lies; `message_id` is the stable one.

    `delivery_count` counts every delivery of the message, those before a retry too.
    """
    envelope, attempt = delivered.envelope, delivered.attempt
    headers, expires_ms = envelope.headers, envelope.expires_ms
    sent_at, schema = read_time(headers.get(HEADER_TIME, "")), headers.get(HEADER_SCHEMA)
    return Message(
        delivered.entry_id,
        data,
        sent_at,
        attempt,
        message_id=envelope.id,
        type=envelope.type,
        version=read_version(schema) if schema else None,
        headers=dict(headers),  # its own: envelopes share theirs
        attempt=attempt,
        redelivered=attempt > 1,
        sent_at=sent_at,
        expires_at=None if expires_ms is None else expires_ms / 1000,
        correlation_id=headers.get(HEADER_CORRELATION),
        queue=delivered.queue,
    )
