"""What a handler sends by a client refers to the message it handles: correlation, cause, trace."""

from __future__ import annotations

from typing import Any

from leanmq_topology.client.handling import being_handled
from leanmq_topology.runner.binding import Invoke


def follow_cause(invoke: Invoke) -> Invoke:
    """Say which message is handled, for as long as its handler and what it starts run.

    For a handler of single messages. A batch handler has several, so what it sends by a client refers to
    none; `message.send` does.
    """

    def call(offer: Any, client: Any) -> Any:
        being_handled.set(offer.delivered.envelope)
        return invoke(offer, client)

    return call
