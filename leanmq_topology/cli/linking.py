"""From the call of a command to an open link to the server it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from leanmq_topology.cli.options import Invocation

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import BlockingLink


@contextmanager
def open_link(call: Invocation, *, client_name: str) -> Iterator[tuple[BlockingLink, str]]:
    """An open link and the namespace, by the topology of the call; closed afterwards."""
    from leanmq_topology.brokers.connect import open_blocking

    topology = call.load_topology()
    url, namespace = call.broker_url(topology), topology.broker.namespace
    with open_blocking(url, namespace=namespace, folder=topology.folder, client_name=client_name) as link:
        yield link, namespace
