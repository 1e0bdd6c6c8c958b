"""A message is checked against its schema once more when it arrives: other programs write to queues too.

What fails goes to the dead-letter queue, whole and with the reason; it is never acknowledged away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.contracts.schemas import MessageSchema, compile_schema
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import DeadReason, Failure, MoveToDeadLetters
from leanmq_topology.topology.model import MessageType, Queue


class Acceptance:
    """What a queue takes; its schemas are compiled once."""

    def __init__(self, queue: Queue, types: Mapping[str, MessageType]) -> None:
        names = queue.accepts or tuple(types)
        self._queue = queue
        self.schemas: Mapping[str, MessageSchema] = {
            name: compile_schema(types[name].schema) for name in names if name in types
        }
        """By type: for who takes what is plain and fits, and asks `judge` only about the rest."""

    def judge(self, envelope: Envelope) -> tuple[Any, MoveToDeadLetters | None]:
        """The decoded data, and None if it may be handed on, else what becomes of the message."""
        try:
            data = decode_data(envelope.data)
        except InvalidMessageError as failure:
            return None, _refuse(DeadReason.UNDECODABLE, f"at {failure.path or '/'}: {failure.reason}")
        schema = self.schemas.get(envelope.type)
        if schema is None:
            return data, self._judge_undeclared(envelope.type, data)
        return data, None if schema.is_valid(data) else _explain(schema, envelope.type, data)

    def _judge_undeclared(self, kind: str, data: Any) -> MoveToDeadLetters | None:
        """A type without a schema: refused where the queue names what it accepts, else any JSON object."""
        if self._queue.accepts:
            known = ", ".join(self._queue.accepts)
            return _refuse(
                DeadReason.INVALID,
                f"queue {self._queue.name!r} accepts {known}, not {kind or 'an untyped message'}",
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
