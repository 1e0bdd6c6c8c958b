"""What was applied to a namespace, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from leanmq_topology.brokers.protocol import BlockingConnection, Inspector
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.plan.revision import PastRevision


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> Inspector: ...
    @property
    def connection(self) -> BlockingConnection: ...


@dataclass(frozen=True, slots=True)
class History:
    generation: int
    """Of the namespace now."""
    revisions: list[PastRevision]
    """The latest, newest first. Those applied before there was a history are not among them."""


def read_history(link: Link, namespace: str, *, count: int) -> History:
    """Look back on at most `count` revisions.

    Raises `TopologyNotAppliedError` where nothing was ever applied.
    """
    record = link.connection.execute(link.broker.read_record())
    if record.owner is None:
        raise TopologyNotAppliedError([], namespace=namespace)
    return History(record.generation, link.connection.execute(link.broker.read_history(count=count)))
