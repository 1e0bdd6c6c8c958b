"""What is said to the client that waits for a reply: a value that fits its route.

A value travels with the acknowledgement, in its step. A failure is told by the step that takes the
message away for good: one that is retried keeps its client waiting, up to the client's own deadline.
"""

from __future__ import annotations

from typing import Any

from leanmq_topology.brokers.protocol import Reply
from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.message import HEADER_REPLY_TO, HEADER_ROUTE
from leanmq_topology.messages.routing import Contract
from leanmq_topology.runner.outbox import OutputWriter
from leanmq_topology.topology.model import Queue


def write_reply(request: Envelope, value: Any, queue: Queue, writer: OutputWriter) -> Reply:
    """The reply that carries a handler's value. Raises `InvalidMessageError` for one its route refuses."""
    contract = writer.find_reply(request.headers.get(HEADER_ROUTE, ""))
    kind = contract.type if contract else None
    raw = encode_data(value)
    if len(raw) > queue.max_message_size:
        reason = (
            f"a reply of {len(raw)} bytes is more than queue {queue.name} takes ({queue.max_message_size})"
        )
        raise InvalidMessageError("", reason, type=kind)
    _check(contract, value)
    return Reply(request.headers[HEADER_REPLY_TO], request.id, kind or "", raw)


def _check(contract: Contract | None, value: Any) -> None:
    violation = contract.schema.find_violation(value) if contract else None
    if contract and violation:
        raise InvalidMessageError(violation.path, violation.reason, type=contract.type)
