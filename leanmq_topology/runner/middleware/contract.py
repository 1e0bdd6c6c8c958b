"""What a queue does not accept is dead-lettered before its handler sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leanmq_topology.contracts.schemas import MISFIT
from leanmq_topology.messages.acceptance import Acceptance
from leanmq_topology.messages.outcome import Outcome
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Gate, Sieve
from leanmq_topology.topology.model import MessageType, Queue


def check_contract(queue: Queue, types: Mapping[str, MessageType]) -> Gate:
    """A gate that decodes the data and holds it against what the queue accepts; schemas are compiled now."""
    acceptance = Acceptance(queue, types)
    judge, schemas = acceptance.judge, acceptance.schemas

    def admit(message: Incoming) -> Outcome | None:
        envelope = message.delivered.envelope
        schema = schemas.get(envelope.type)
        if schema is not None and (data := schema.decode_fitting(envelope.data)) is not MISFIT:
            message.data = data
            return None
        message.data, outcome = judge(envelope)  # looked at once more, for the reason
        return outcome

    return admit


def check_all_contracts(queue: Queue, types: Mapping[str, MessageType]) -> Sieve:
    """Lets messages through that are all of one type, and as our own clients write them."""
    schemas = Acceptance(queue, types).schemas

    def admit(messages: Sequence[Incoming]) -> bool:
        envelopes = [message.delivered.envelope for message in messages]
        schema = schemas.get(envelopes[0].type)
        raws = [envelope.data for envelope in envelopes if envelope.type == envelopes[0].type]
        if schema is None or len(raws) < len(messages) or (data := schema.decode_all_fitting(raws)) is None:
            return False
        for message, its_data in zip(messages, data, strict=True):
            message.data = its_data
        return True

    return admit
