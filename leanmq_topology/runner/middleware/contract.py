"""What a queue does not accept is dead-lettered before its handler sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leanmq_topology.contracts.payload import decode_data, decode_plainly
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.acceptance import Acceptance
from leanmq_topology.messages.outcome import Outcome
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Gate, Sieve
from leanmq_topology.topology.model import MessageType, Queue


def check_contract(queue: Queue, types: Mapping[str, MessageType]) -> Gate:
    """A gate that decodes the data and holds it against what the queue accepts; schemas are compiled now."""
    acceptance = Acceptance(queue, types)
    judge, fits = acceptance.judge, acceptance.fits

    def admit(message: Incoming) -> Outcome | None:
        envelope = message.delivered.envelope
        try:
            data = decode_data(envelope.data)
            if fits[envelope.type](data):
                message.data = data
                return None
        except (InvalidMessageError, KeyError):
            pass
        message.data, outcome = judge(envelope)  # looked at once more, for the reason
        return outcome

    return admit


def check_all_contracts(queue: Queue, types: Mapping[str, MessageType]) -> Sieve:
    """Lets messages through that are all of one type, and as our own clients write them."""
    fits = Acceptance(queue, types).fits

    def admit(messages: Sequence[Incoming]) -> bool:
        envelopes = [message.delivered.envelope for message in messages]
        kind = envelopes[0].type
        data = decode_plainly([envelope.data for envelope in envelopes if envelope.type == kind])
        if data is None or len(data) < len(messages) or kind not in fits or not all(map(fits[kind], data)):
            return False
        for message, its_data in zip(messages, data, strict=True):
            message.data = its_data
        return True

    return admit
