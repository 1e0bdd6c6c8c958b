"""Whose a namespace is. Workers ask it too, so it stands apart from what only planning needs."""

from __future__ import annotations

from leanmq_topology.errors import BlockedChangeError


def refuse_owner(owner: str | None, name: str, namespace: str) -> None:
    """One namespace has one owning name: raises `BlockedChangeError` naming both when it is not `name`."""
    if owner is not None and owner != name:
        raise BlockedChangeError(
            ["broker.namespace"],
            f"namespace {namespace!r} belongs to topology {owner!r}, and this file is {name!r} (LMQ510)",
            hint="give this file a `broker.namespace` of its own, or apply the file that owns this one",
        )
