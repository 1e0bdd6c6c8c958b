"""Which topology, and which server."""

from __future__ import annotations

from pathlib import Path

from leanmq_topology.settings import read_environ
from leanmq_topology.topology.model import Topology


def read_topology(topology: Topology | str | Path) -> Topology:
    """A topology as it is, or the one in this file."""
    return topology if isinstance(topology, Topology) else Topology.load(topology)


def choose_url(topology: Topology, url: str | None) -> str:
    """The one asked for, then the topology's, then `LEANMQ_URL`, then the embedded broker."""
    return url or topology.broker.url or read_environ().get("LEANMQ_URL") or "embedded:"
