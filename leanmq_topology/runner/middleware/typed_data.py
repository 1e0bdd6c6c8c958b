"""Data becomes the class that its handler is annotated with, before the handler starts.

What cannot become it goes to the dead-letter queue as invalid, like what breaks its schema: another attempt
would end the same way.
"""

from __future__ import annotations

from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.outcome import MAX_FAILURE_TEXT, DeadReason, Failure, MoveToDeadLetters, Outcome
from leanmq_topology.runner.data_classes import Conversion, describe_failure
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Gate


def type_data(conversion: Conversion) -> Gate:
    """A gate behind the one that decodes and checks the data."""

    def admit(message: Incoming) -> Outcome | None:
        kind = message.delivered.envelope.type
        arm = conversion.of(kind)
        if arm is None or arm.convert is None:
            return None
        try:
            message.data = arm.convert(message.data)
        except Exception as failure:
            text = f"{kind or 'the message'} does not become {arm.name}: {describe_failure(failure)}"
            failed = Failure(InvalidMessageError.__name__, text[:MAX_FAILURE_TEXT])
            return MoveToDeadLetters(DeadReason.INVALID, failed)
        return None

    return admit
