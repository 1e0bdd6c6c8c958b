"""What makes two messages the same: the id, or a value in their data that the queue names. Pure.

    the queue declares `deduplication: {window}`   its messages are the same by id
    and with a `key`                               by the value there, by id where there is none (or null)
    the send names an id                           by that id, among what goes to the same name in 10 minutes

A queue's own declaration holds for whatever reaches it, by its own name or through a route, and it alone
counts where the send names that queue. A route's other queues get their copies whatever it had already.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leanmq_topology.contracts.violation import parse_pointer
from leanmq_topology.messages.envelope import Once
from leanmq_topology.topology.model import MINUTE_MS, Deduplication

DEFAULT_WINDOW_MS: Final = 10 * MINUTE_MS
"""How long an id that a send names is remembered where no queue says otherwise."""

_write_value = msgspec.json.Encoder(order="deterministic").encode


class OncePerQueue(msgspec.Struct, frozen=True):
    """One queue's declaration, ready for use."""

    queue: str
    window_ms: int
    key: tuple[str, ...] | None = None
    """The steps of its JSON Pointer; None means the message id."""

    def mark(self, message_id: str, data: Any) -> Once:
        """What makes this message a duplicate in the queue."""
        value = None if self.key is None else _find_value(data, self.key)
        identity = _identify(message_id) if value is None else b"key:" + _write_value(value)
        return Once(identity, self.window_ms, self.queue)


def read_deduplication(queue: str, declared: Deduplication | None) -> OncePerQueue | None:
    """None: the queue declares nothing."""
    if declared is None:
        return None
    return OncePerQueue(
        queue, declared.window_ms, None if declared.key is None else parse_pointer(declared.key)
    )


def mark_named(message_id: str, window_ms: int = DEFAULT_WINDOW_MS) -> Once:
    """What makes a message with an id of the sender's own a duplicate at the name it is sent to."""
    return Once(_identify(message_id), window_ms)


def _identify(message_id: str) -> bytes:
    return b"id:" + message_id.encode()


def _find_value(data: Any, steps: tuple[str, ...]) -> Any:
    """The value there; None for one that is absent."""
    for step in steps:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list | tuple) and step.isascii() and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data
