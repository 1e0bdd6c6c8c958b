"""The message a handler gets: one plain value, for every way of receiving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol, Self

from leanmq_topology.errors import LeanMQError
from leanmq_topology.messages.envelope import Delivered

HEADER_TIME: Final = "time"
HEADER_SCHEMA: Final = "dataschema"
HEADER_CORRELATION: Final = "correlationid"
HEADER_TOPIC: Final = "leanmqtopic"
"""The topic, where the sender named one; otherwise it is the type."""
HEADER_REPLY_TO: Final = "replyto"
"""On a request: the inbox of the client that waits for the reply."""
HEADER_ROUTE: Final = "leanmqroute"
"""On a request: the route it was sent to, which says what a reply must be like."""
RESERVED_PREFIX: Final = "leanmq"
"""Headers of ours begin so; a sender may not set them."""


class Outbox(Protocol):
    """Where a running handler puts what it sends; it leaves with the message's acknowledgement."""

    def send(self, target: str, data: Any, **options: Any) -> str:
        """Returns the id of the new message; the options are those of `Message.send`."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is handed to a handler. Times are seconds since 1970-01-01 UTC."""

    id: str
    """The stable id: the same across retries, dead-lettering and replay. Use it to notice repeated runs."""
    data: Any
    timestamp: float
    """When it was sent; the same as `sent_at`."""
    delivery_count: int = 0
    """Hand-outs of this entry, this one included."""
    _: KW_ONLY
    message_id: str
    type: str = ""
    version: int | None = None
    """Of the message's schema, as it was when the message was sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 1
    """1 for the first run."""
    redelivered: bool = False
    """True: an earlier delivery was not settled, so the handler may have run for it before."""
    sent_at: float = 0.0
    expires_at: float | None = None
    correlation_id: str | None = None
    queue: str = ""
    _outbox: Outbox | None = field(default=None, repr=False, compare=False)

    def send(
        self,
        target: str,
        data: Any,
        *,
        type: str | None = None,
        id: str | None = None,
        ttl: float | str | None = None,
        delay: float | str | None = None,
        topic: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Inside a handler: send with this message's acknowledgement, in one step; returns the new id.

        Nothing leaves before the handler succeeds, and what it sent in a run that fails, is retried or loses
        its lease is dropped: so nothing is sent twice. The options are those of the client's `send`; the
        correlation id is this message's unless another is given. It is as durable as the acknowledgement: a
        server that forgets one forgets the other, and the handler runs again.

        Raises `InvalidMessageError`, `UnknownTargetError`, `TopologyNotAppliedError`, and
        `BatchTooLargeError` for more than 1,000 copies or 4 MiB in one run. A target that is full is known
        only in the end: then the run counts as failed with `QueueFullError`, and is retried.
        """
        if self._outbox is None:
            raise LeanMQError(
                f"message {self.id} is not being handled, so nothing can be sent with it",
                hint="send with a client",
            )
        return self._outbox.send(
            target,
            data,
            type=type,
            id=id,
            ttl=ttl,
            delay=delay,
            topic=topic,
            headers=headers,
            correlation_id=correlation_id,
        )

    @classmethod
    def of(cls, delivered: Delivered, data: Any, outbox: Outbox | None = None, **more: Any) -> Self:
        """The message of a delivery; `data` is its decoded and checked body, `more` what a subclass adds."""
        envelope = delivered.envelope
        headers = envelope.headers
        sent_at = read_time(headers.get(HEADER_TIME, ""))
        return cls(
            envelope.id,
            data,
            sent_at,
            delivered.delivery_count,
            message_id=envelope.id,
            type=envelope.type,
            version=read_version(headers.get(HEADER_SCHEMA, "")),
            headers=dict(headers),  # a handler may change its own; envelopes share theirs
            attempt=delivered.attempt,
            redelivered=delivered.redelivered,
            sent_at=sent_at,
            expires_at=None if envelope.expires_ms is None else envelope.expires_ms / 1000,
            correlation_id=headers.get(HEADER_CORRELATION),
            queue=delivered.queue,
            _outbox=outbox,
            **more,
        )


def read_time(text: str) -> float:
    """Seconds since 1970 of what `HEADER_TIME` says; 0 for what says no time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def read_version(schema: str) -> int | None:
    """The version in what `HEADER_SCHEMA` says, if there is one."""
    digits = schema.rpartition("@")[2]
    return int(digits) if digits.isascii() and digits.isdecimal() else None
