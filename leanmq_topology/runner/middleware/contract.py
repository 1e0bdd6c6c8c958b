"""What a queue does not accept is dead-lettered before its handler sees it."""

from __future__ import annotations

from collections.abc import Mapping

from leanmq_topology.messages.acceptance import Acceptance
from leanmq_topology.messages.outcome import Outcome
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Gate
from leanmq_topology.topology.model import MessageType, Queue


def check_contract(queue: Queue, types: Mapping[str, MessageType]) -> Gate:
    """A gate that decodes the data and holds it against what the queue accepts; schemas are compiled now."""
    judge = Acceptance(queue, types).judge

    def admit(message: Incoming) -> Outcome | None:
        message.data, outcome = judge(message.delivered.envelope)
        return outcome

    return admit
