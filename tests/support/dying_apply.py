"""An apply that dies after some steps: `python -m tests.support.dying_apply URL NAMESPACE STEPS`.

The connection is wrapped; after so many operations the process sends itself SIGKILL, so nothing is tidied up.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.brokers.protocol import BlockingConnection, Operation
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target, Topology
from tests.support.factories import make_topology

T = TypeVar("T")


def make_wide_topology(namespace: str) -> Topology:
    """Enough queues for several chunks."""
    queues = [Queue(name=f"q{number:03}", accepts=("m",)) for number in range(450)]
    route = FanoutRoute(name="all", accepts=("m",), to=(Target(queue="q000"), Target(queue="q449")))
    return make_topology(namespace, *queues, routes=(route,), messages=(MessageType(name="m"),))


@dataclass
class DyingConnection:
    """Carries out `left` operations; the next one is the death of this process."""

    connection: BlockingConnection
    left: int

    def execute(self, operation: Operation[T]) -> T:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return self.connection.execute(operation)

    def close(self) -> None:
        self.connection.close()


@dataclass
class WrappedLink:
    """A link whose connection somebody stands in front of."""

    broker: RedisBroker
    connection: BlockingConnection


def main(url: str, namespace: str, steps: str) -> None:
    with open_blocking(url, namespace=namespace, folder=Path()) as link:
        wrapped = WrappedLink(link.broker, DyingConnection(link.connection, int(steps)))
        apply_changes(wrapped, make_wide_topology(namespace), who="the dying one")


if __name__ == "__main__":
    main(*sys.argv[1:])
