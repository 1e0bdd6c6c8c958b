"""What is said to the client that waits for a reply: a value that fits its route, or why there is none.

A value travels with the acknowledgement, in its step. A failure is told once the message has left for good:
one that is retried keeps its client waiting, up to the client's own deadline.
"""

from __future__ import annotations

from typing import Any

from leanmq_topology.brokers.protocol import Operation, Reply
from leanmq_topology.client.identity import Producer
from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.message import HEADER_REPLY_TO, HEADER_ROUTE
from leanmq_topology.messages.outcome import Dropped, Failure, MoveToDeadLetters, Outcome
from leanmq_topology.messages.routing import Contract
from leanmq_topology.runner.commits import OutputBroker
from leanmq_topology.runner.outbox import OutputWriter
from leanmq_topology.topology.model import Queue

LONGEST_TEXT = 500
"""Characters of an exception's text that leave for the client: enough to tell what is wrong."""


def is_request(envelope: Envelope) -> bool:
    """Whether somebody waits for a reply."""
    return HEADER_REPLY_TO in envelope.headers


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


def refuse(delivered: Delivered, outcome: Outcome) -> Refusal | None:
    """What to tell the client of a message that leaves without a value; None if there is nobody to tell."""
    if not isinstance(outcome, MoveToDeadLetters | Dropped) or not is_request(delivered.envelope):
        return None
    if isinstance(outcome, MoveToDeadLetters):
        return Refusal(delivered, outcome.failure)
    if outcome.expired:
        return None  # so has its client's patience
    return Refusal(delivered, Failure("Discard", outcome.reason))


class Refusal:
    """Tells a client that no value will come. Carried out by `Settlements`, as a commit is."""

    settled = False
    """Its message has left our hands before."""

    def __init__(self, delivered: Delivered, failure: Failure) -> None:
        self.delivered = delivered
        envelope = delivered.envelope
        told = Failure(failure.type, failure.message[:LONGEST_TEXT])
        self._reply = Reply(envelope.headers[HEADER_REPLY_TO], envelope.id, failure=told)

    def operation(self, broker: OutputBroker, consumer: str, producer: Producer) -> Operation[Any]:
        """Put it into the client's inbox. Twice is no harm: the second is dropped."""
        return broker.reply(self.delivered.queue, self._reply)

    def take(self, answer: Any) -> bool:
        """Told, or nobody is there any more: it is over."""
        return True


def _check(contract: Contract | None, value: Any) -> None:
    violation = contract.schema.find_violation(value) if contract else None
    if contract and violation:
        raise InvalidMessageError(violation.path, violation.reason, type=contract.type)
