"""Validate, route and send: `connect` for asyncio, `connect_sync` without an event loop."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanmq_topology.client.asynchronous import Client, connect
    from leanmq_topology.client.blocking import SyncClient, connect_sync

_HOME_OF = {
    "Client": "asynchronous",
    "connect": "asynchronous",
    "SyncClient": "blocking",
    "connect_sync": "blocking",
}

__all__ = ["Client", "SyncClient", "connect", "connect_sync"]


def __getattr__(name: str) -> Any:
    """Imported when first used: a blocking sender never pays for asyncio."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
