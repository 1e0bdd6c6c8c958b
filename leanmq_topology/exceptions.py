"""The exceptions of LeanMQ, where its users import them from."""

from __future__ import annotations

from leanmq_topology.classic.exceptions import (
    ConnectionError,  # noqa: A004  the name LeanMQ gave it
    DeadLetterQueueNotFoundError,
    LeanMQError,
    MessageError,
    QueueError,
    QueueNotFoundError,
    TransactionError,
)

__all__ = [
    "ConnectionError",
    "DeadLetterQueueNotFoundError",
    "LeanMQError",
    "MessageError",
    "QueueError",
    "QueueNotFoundError",
    "TransactionError",
]
