"""What a queue pair is that no topology declares: the classic interface makes them while it runs."""

from __future__ import annotations

from typing import Final

from leanmq_topology.client.sender import MOST_BYTES
from leanmq_topology.topology.model import KeepAcked, OnExpire, Queue

KEPT_ACKED: Final = 100_000
"""Acknowledged messages that such a queue keeps, the oldest out first: what LeanMQ's README promises."""


def undeclared_queue(name: str) -> Queue:
    """Its limits: an expired message is forgotten, what is acknowledged is kept, data may be 4 MiB."""
    return Queue(
        name=name,
        on_expire=OnExpire.DISCARD,
        keep_acked=KeepAcked(count=KEPT_ACKED),
        max_message_size=MOST_BYTES,
    )
