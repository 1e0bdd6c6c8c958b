"""Settles what a dead process held: what it never started is free at once, what it ran is under suspicion.

It is a process of its own that ends when it is done, so that the supervisor never waits for a server.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError
from leanmq_topology.runner.supervisor.members import Process, Role
from leanmq_topology.runner.supervisor.process import Main
from leanmq_topology.runner.supervisor.wire import Ready

logger = logging.getLogger("leanmq.runner")

PATIENCE_SECONDS = 8.0
PAUSE_SECONDS = 0.2


def make_coroner(dead: Process) -> Main | None:
    """For `Supervisor`."""
    ready = dead.ready
    if ready is None:
        return None
    started = [(found.queue, found.entry_id) for found in dead.board.started(ready.queues)]
    to_blame = dead.role is Role.SOLO and not dead.killed
    return lambda upward: bury(ready, started, to_blame=to_blame, overflowed=dead.board.overflowed)


def bury(ready: Ready, started: list[tuple[str, str]], *, to_blame: bool, overflowed: bool) -> int:
    """Try until the server answers, for a while; after that leases bring everything back."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with open_blocking(
                ready.url, namespace=ready.namespace, folder=Path(ready.folder), client_name="leanmq-coroner"
            ) as link:
                for queue in ready.queues:
                    _settle(link, queue, ready.worker, [entry for name, entry in started if name == queue])
            return 0
        except BrokerUnavailableError as failure:
            if time.monotonic() > deadline:
                logger.warning("what worker %s held waits for its leases: %s", ready.worker, failure,
                               extra={"event": "burial_failed"})  # fmt: skip
                return 1
            time.sleep(PAUSE_SECONDS)


def _settle(link: BlockingLink, queue: str, consumer: str, started: list[str]) -> None:
    broker, execute = link.broker, link.connection.execute
    try:
        while execute(broker.release_held(queue, consumer, started=started)).more:
            pass
    except BrokerUnavailableError:
        raise
    except LeanMQError as failure:
        logger.warning("queue %s: %s", queue, failure, extra={"event": "burial_failed", "queue": queue})
