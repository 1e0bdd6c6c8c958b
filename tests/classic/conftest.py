"""Servers that listen on TCP, as classic constructors name them, and a `LeanMQ` for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import LeanMQ
from tests.support.servers import REQUIRED, Server, start_on_tcp


@dataclass
class Place:
    """Where programs written for LeanMQ find their server."""

    port: int
    prefix: str
    server: Server

    @property
    def options(self) -> dict[str, Any]:
        """What their constructors are told."""
        return {"redis_host": "127.0.0.1", "redis_port": self.port, "prefix": self.prefix}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@pytest.fixture(scope="session", params=REQUIRED)
def tcp_server(request: pytest.FixtureRequest) -> Iterator[tuple[int, Server]]:
    running = start_on_tcp(request.param)
    yield running
    running[1].stop()


@pytest.fixture(scope="session")
def valkey_tcp() -> Iterator[tuple[int, Server]]:
    """Valkey 9 alone, for what does not depend on the server."""
    running = start_on_tcp("valkey9")
    yield running
    running[1].stop()


@pytest.fixture
def place(tcp_server: tuple[int, Server], namespace: str) -> Place:
    port, server = tcp_server
    return Place(port, f"{namespace}:", server)


@pytest.fixture
def valkey_place(valkey_tcp: tuple[int, Server], namespace: str) -> Place:
    port, server = valkey_tcp
    return Place(port, f"{namespace}:", server)


@pytest.fixture
def mq(place: Place) -> Iterator[LeanMQ]:
    with LeanMQ(**place.options) as opened:
        yield opened


Apply = Callable[[str], None]


@pytest.fixture
def apply(place: Place, tmp_path: Path, namespace: str) -> Apply:
    """Apply a topology, given as YAML below `name:`, in the namespace of `place`."""
    return lambda text: apply_topology(place, tmp_path, text)


def apply_topology(place: Place, folder: Path, text: str) -> None:
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.reconciler import apply_changes
    from leanmq_topology.topology.model import Topology

    file = folder / "topology.yaml"
    file.write_text(f"leanmq: 1\nname: {place.prefix.removesuffix(':')}\n{text}")
    topology = Topology.load(file)
    with open_blocking(place.url, namespace=topology.broker.namespace, folder=folder) as link:
        apply_changes(link, topology, who="test", approve=lambda change: True)
