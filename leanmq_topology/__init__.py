"""Message queues as code for Redis and Valkey."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanmq_topology.classic.exceptions import (
        DeadLetterQueueNotFoundError,
        MessageError,
        QueueError,
        QueueNotFoundError,
    )
    from leanmq_topology.classic.leanmq import LeanMQ
    from leanmq_topology.classic.queues import Queue, QueueInfo
    from leanmq_topology.classic.service import WebhookService
    from leanmq_topology.classic.transaction import Transaction
    from leanmq_topology.classic.webhook import LeanMQWebhook
    from leanmq_topology.client import Client, SyncClient, connect, connect_sync
    from leanmq_topology.client.consuming.delivery import Delivery, SyncDelivery
    from leanmq_topology.errors import (
        BatchTooLargeError,
        BlockedChangeError,
        BrokerError,
        BrokerFullError,
        BrokerRefusedError,
        BrokerUnavailableError,
        ConcurrentApplyError,
        HandlerError,
        InvalidMessageError,
        InvalidTopologyError,
        LeanMQError,
        LeaseLostError,
        LifespanError,
        QueueFullError,
        RemoteError,
        RequestTimeoutError,
        SendUnconfirmedError,
        SettingError,
        StalePlanError,
        TopologyNotAppliedError,
        TransactionError,
        UnknownMessageError,
        UnknownTargetError,
    )
    from leanmq_topology.messages.message import Message
    from leanmq_topology.messages.outcome import Decline, Discard, Reject, Retry
    from leanmq_topology.runner.wrapping import Middleware, SyncMiddleware
    from leanmq_topology.topology.model import Topology

_HOMES = {
    "classic.exceptions": (
        "DeadLetterQueueNotFoundError",
        "MessageError",
        "QueueError",
        "QueueNotFoundError",
    ),
    "classic.leanmq": ("LeanMQ",),
    "classic.queues": ("Queue", "QueueInfo"),
    "classic.service": ("WebhookService",),
    "classic.transaction": ("Transaction",),
    "classic.webhook": ("LeanMQWebhook",),
    "client": ("Client", "SyncClient", "connect", "connect_sync"),
    "client.consuming.delivery": ("Delivery", "SyncDelivery"),
    "errors": (
        "BatchTooLargeError",
        "BlockedChangeError",
        "BrokerError",
        "BrokerFullError",
        "BrokerRefusedError",
        "BrokerUnavailableError",
        "ConcurrentApplyError",
        "HandlerError",
        "InvalidMessageError",
        "InvalidTopologyError",
        "LeanMQError",
        "LeaseLostError",
        "LifespanError",
        "QueueFullError",
        "RemoteError",
        "RequestTimeoutError",
        "SendUnconfirmedError",
        "SettingError",
        "StalePlanError",
        "TopologyNotAppliedError",
        "TransactionError",
        "UnknownMessageError",
        "UnknownTargetError",
    ),
    "messages.message": ("Message",),
    "messages.outcome": ("Decline", "Discard", "Reject", "Retry"),
    "runner.wrapping": ("Middleware", "SyncMiddleware"),
    "topology.model": ("Topology",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BatchTooLargeError",
    "BlockedChangeError",
    "BrokerError",
    "BrokerFullError",
    "BrokerRefusedError",
    "BrokerUnavailableError",
    "Client",
    "ConcurrentApplyError",
    "DeadLetterQueueNotFoundError",
    "Decline",
    "Delivery",
    "Discard",
    "HandlerError",
    "InvalidMessageError",
    "InvalidTopologyError",
    "LeanMQ",
    "LeanMQError",
    "LeanMQWebhook",
    "LeaseLostError",
    "LifespanError",
    "Message",
    "MessageError",
    "Middleware",
    "Queue",
    "QueueError",
    "QueueFullError",
    "QueueInfo",
    "QueueNotFoundError",
    "Reject",
    "RemoteError",
    "RequestTimeoutError",
    "Retry",
    "SendUnconfirmedError",
    "SettingError",
    "StalePlanError",
    "SyncClient",
    "SyncDelivery",
    "SyncMiddleware",
    "Topology",
    "TopologyNotAppliedError",
    "Transaction",
    "TransactionError",
    "UnknownMessageError",
    "UnknownTargetError",
    "WebhookService",
    "connect",
    "connect_sync",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # 50 ms that no other name should pay for

        return version("leanmq-topology")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
