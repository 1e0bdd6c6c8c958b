"""Replies on their way: an inbox for each client that asks, and what is put into it.

A reply travels with the acknowledgement of its request (`Settler.ack_with_outputs`). Whatever else takes a
request out of its queue tells its client so in the same step.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.brokers.protocol.sending import Flush, SendResult
from leanmq_topology.messages.outcome import Failure


class Reply(Struct, frozen=True):
    """The answer to one request: data, or why there is none."""

    inbox: str
    request_id: str
    """The id of the message that asked."""
    type: str = ""
    data: bytes = b""
    failure: Failure | None = None


class Arrived(Struct, frozen=True):
    """A reply in an inbox, and where it lies."""

    place: str
    reply: Reply


class Correspondent(Protocol):
    """An inbox lives for a time and is renewed by its client; nobody else makes one."""

    def attempt(self, flush: Flush) -> Operation[list[SendResult] | None]:
        """Send by a single command, so that a read which blocks can be written right behind it.

        None, or an error: that would not do; `Sender.send` with the same flush will.
        """
        ...

    def open_inbox(self, inbox: str, *, lifetime_ms: int) -> Operation[None]:
        """Make an empty inbox."""
        ...

    def read_inbox(self, inbox: str, after: str, *, count: int, block_ms: int) -> Operation[list[Arrived]]:
        """Replies behind a place (`0` is the beginning); waits up to `block_ms` for the first one.

        Blocks, so it needs a connection of its own. An inbox that is gone has no replies.
        """
        ...

    def keep_inbox(self, inbox: str, *, lifetime_ms: int, read_to: str) -> Operation[bool]:
        """Renew an inbox, and drop what was read. False: it is gone, and is not made again."""
        ...

    def close_inbox(self, inbox: str) -> Operation[bool]:
        """Delete an inbox with all that lies in it."""
        ...
