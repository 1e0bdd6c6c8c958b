"""What is said to the client that waits for a reply: a value of its route, or an error that it declares.

Either travels with the acknowledgement, in its step. A failure is told by the step that takes the
message away for good: one that is retried keeps its client waiting, up to the client's own deadline.
"""

from __future__ import annotations

from typing import Any

from leanmq_topology.brokers.protocol import Reply
from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.message import HEADER_REPLY_TO, HEADER_ROUTE
from leanmq_topology.messages.outcome import Decline, Failure
from leanmq_topology.messages.routing import Contract
from leanmq_topology.runner.outbox import OutputWriter
from leanmq_topology.topology.model import Queue


def write_reply(request: Envelope, value: Any, queue: Queue, writer: OutputWriter) -> Reply:
    """The reply that carries a handler's value. Raises `InvalidMessageError` for one its route refuses."""
    contract = writer.find_reply(request.headers.get(HEADER_ROUTE, ""))
    raw = _encode(value, contract, queue)
    return Reply(request.headers[HEADER_REPLY_TO], request.id, contract.type if contract else "", raw)


def write_decline(request: Envelope, declined: Decline, queue: Queue, writer: OutputWriter) -> Reply | None:
    """The reply that carries a declared error; None where nobody waits for one, or none is declared.

    Raises `InvalidMessageError` for data that its route refuses.
    """
    inbox = request.headers.get(HEADER_REPLY_TO)
    contract = writer.find_error(request.headers.get(HEADER_ROUTE, "")) if inbox else None
    if inbox is None or contract is None:
        return None
    try:
        raw = _encode(declined.data, contract, queue)
    except InvalidMessageError as failure:
        reason = f"the handler declined with this data: {failure.reason}"
        raise InvalidMessageError(failure.path, reason, type=contract.type) from None
    return Reply(inbox, request.id, contract.type, raw, Failure(contract.type, declined.reason))


def _encode(value: Any, contract: Contract | None, queue: Queue) -> bytes:
    fitting = contract.schema.encode_fitting(value) if contract is not None else None
    if fitting is not None and len(fitting) <= queue.max_message_size:
        return fitting
    kind = contract.type if contract else None
    raw = encode_data(value)
    if len(raw) > queue.max_message_size:
        reason = (
            f"a reply of {len(raw)} bytes is more than queue {queue.name} takes ({queue.max_message_size})"
        )
        raise InvalidMessageError("", reason, type=kind)
    violation = contract.schema.find_violation(value) if contract else None
    if violation:
        raise InvalidMessageError(violation.path, violation.reason, type=kind)
    return raw
