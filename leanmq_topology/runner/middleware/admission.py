"""A message that expired, or that used up its deliveries, is never started."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leanmq_topology.messages.decision import decide_start
from leanmq_topology.messages.outcome import Outcome
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Gate, Sieve
from leanmq_topology.topology.model import Queue


def check_admission(queue: Queue, server_now_ms: Callable[[], int]) -> Gate:
    """A gate that judges by the server's clock, at the moment the handler would start.

    What it lets through, almost every message, it looks at here; the reason of the rest is `decide_start`'s.
    """
    most = queue.max_deliveries

    def admit(message: Incoming) -> Outcome | None:
        delivered = message.delivered
        envelope = delivered.envelope
        if envelope.attempt + delivered.delivery_count <= most:
            expires_ms = envelope.expires_ms
            if expires_ms is None or server_now_ms() < expires_ms:
                return None
        return decide_start(delivered, queue, server_now_ms())

    return admit


def check_all_admission(queue: Queue) -> Sieve:
    """Lets messages through that no time can keep from being started."""
    most = queue.max_deliveries

    def admit(messages: Sequence[Incoming]) -> bool:
        for message in messages:
            delivered = message.delivered
            envelope = delivered.envelope
            if envelope.expires_ms is not None or envelope.attempt + delivered.delivery_count > most:
                return False
        return True

    return admit
