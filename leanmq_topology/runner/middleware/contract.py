"""A message is checked against its schema once more when it arrives: other programs write to queues too.

What fails goes to the dead-letter queue, whole and with the reason; it is never acknowledged away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.contracts.schemas import MessageSchema, compile_schema
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.outcome import DeadReason, Failure, MoveToDeadLetters, Outcome
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Gate
from leanmq_topology.topology.model import MessageType, Queue


def check_contract(queue: Queue, types: Mapping[str, MessageType]) -> Gate:
    """A gate that decodes the data and holds it against what the queue accepts; schemas are compiled now."""
    names = queue.accepts or tuple(types)
    schemas = {name: compile_schema(types[name].schema) for name in names if name in types}
    closed = bool(queue.accepts)

    def admit(message: Incoming) -> Outcome | None:
        envelope = message.delivered.envelope
        try:
            message.data = data = decode_data(envelope.data)
        except InvalidMessageError as failure:
            return _refuse(DeadReason.UNDECODABLE, f"at {failure.path or '/'}: {failure.reason}")
        schema = schemas.get(envelope.type)
        if schema is None:
            return _judge_undeclared(envelope.type, data, queue, closed=closed)
        return None if schema.is_valid(data) else _explain(schema, envelope.type, data)

    return admit


def _judge_undeclared(kind: str, data: Any, queue: Queue, *, closed: bool) -> Outcome | None:
    """A type without a schema here: refused where the queue names what it accepts, else any JSON object."""
    if closed:
        known = ", ".join(queue.accepts)
        return _refuse(
            DeadReason.INVALID, f"queue {queue.name!r} accepts {known}, not {kind or 'an untyped message'}"
        )
    if not isinstance(data, dict):
        return _refuse(DeadReason.INVALID, "data must be a JSON object")
    return None


def _explain(schema: MessageSchema, kind: str, data: Any) -> MoveToDeadLetters:
    violation = schema.find_violation(data)
    detail = f"at {violation.path or '/'}: {violation.reason}" if violation else "breaks its schema"
    return _refuse(DeadReason.INVALID, f"{kind} {detail}")


def _refuse(reason: DeadReason, text: str) -> MoveToDeadLetters:
    return MoveToDeadLetters(reason, Failure(InvalidMessageError.__name__, text))
