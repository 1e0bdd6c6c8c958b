"""Renews the leases of all that a worker holds, in a thread and over a connection of its own.

A handler that blocks the event loop must not lose its messages to somebody who runs them a second time, so
nothing here waits for the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from leanmq_topology.brokers.protocol import BlockingConnection, Settler
from leanmq_topology.errors import LeanMQError
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.lane import Lane
from leanmq_topology.upkeep.renewal import renew, renewal_seconds
from leanmq_topology.upkeep.steps import carry_out

logger = logging.getLogger("leanmq.runner")


class LeaseKeeper:
    """`lost` is called in the loop for each message that turned out to be somebody else's."""

    def __init__(
        self,
        broker: Settler,
        connection: BlockingConnection,
        consumer: str,
        lanes: Sequence[Lane],
        lost: Callable[[Lane, Incoming], None],
    ) -> None:
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._lanes = lanes
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._due = {lane.name: time.monotonic() + renewal_seconds(lane.queue) for lane in lanes}
        self._thread = threading.Thread(target=self._run, name="leanmq-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; a renewal under way may still end."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(max(min(self._due.values()) - time.monotonic(), 0.0)):
            for lane in self._lanes:
                if time.monotonic() >= self._due[lane.name]:
                    self._due[lane.name] = time.monotonic() + self._renew_in_time(lane)
        self._connection.close()

    def _renew_in_time(self, lane: Lane) -> float:
        """Seconds until the next renewal of this lane; sooner after a failure, while the leases still run."""
        try:
            self._renew(lane)
        except LeanMQError as failure:
            logger.debug("renewing leases of %s failed: %s", lane.name, failure)
            return renewal_seconds(lane.queue) / 4
        return renewal_seconds(lane.queue)

    def _renew(self, lane: Lane) -> None:
        def lose(message: Incoming) -> None:
            if not self._stopped.is_set():
                self._loop.call_soon_threadsafe(self._lost, lane, message)

        renewal = renew(self._broker, lane.queue, self._consumer, lane.renewable(), lose)
        carry_out(renewal, self._connection)
