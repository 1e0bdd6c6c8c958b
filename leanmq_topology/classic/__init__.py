"""LeanMQ, drop-in: the classic names over the blocking client, with no delivery rule of their own.

exceptions   what is raised, and how the rest of the package's errors become that
place        from `redis_host=` and `prefix=` to a server and a namespace
line         the connection, opened by the first call; errors are translated here
queues       `Queue`: a main queue, a dead-letter queue, the subscribers of a route
transaction  `Transaction`
leanmq       `LeanMQ`
webhook      `LeanMQWebhook`, `WebhookService`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanmq_topology.classic.leanmq import LeanMQ
    from leanmq_topology.classic.queues import Queue, QueueInfo

_HOME_OF = {
    "LeanMQ": "leanmq",
    "Queue": "queues",
    "QueueInfo": "queues",
}

__all__ = ["LeanMQ", "Queue", "QueueInfo"]


def __getattr__(name: str) -> Any:
    """Imported when first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
