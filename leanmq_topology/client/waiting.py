"""Waiting for messages of several queues at once without taking any: one read for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leanmq_topology.brokers.protocol import BlockingConnection, Operation, Receiver
from leanmq_topology.client.patience import Patience
from leanmq_topology.client.persistence import persist
from leanmq_topology.errors import BrokerUnavailableError


class Doorbell:
    """`listen`, then look into the queues, then `wait`: what came after `listen` ends the wait at once.

    One thread listens and waits; any thread may `wake` it. `execute` carries operations out elsewhere than
    on the connection that waits. One that is lost is made again as `patience` says; what comes meanwhile is
    heard all the same.
    """

    def __init__(
        self,
        broker: Receiver,
        connection: BlockingConnection,
        execute: Callable[[Operation[Any]], Any],
        patience: Patience,
    ) -> None:
        self._broker, self._patience = broker, patience
        self._connection, self._execute = connection, execute
        self._ends: Mapping[str, str] = {}
        self._waiting = False

    def listen(self, queues: Sequence[str]) -> None:
        """Whatever comes in these from now on is heard by the next `wait`."""
        self._ends = {}
        if queues:
            self._ends = persist(self._connection, self._broker.read_ends(queues), patience=self._patience)

    def wait(self, seconds: float) -> bool:
        """True: a message came in one of the queues. False: none did in time, or `wake` was called."""
        block_ms = round(seconds * 1000)
        if not self._ends or block_ms < 1:
            return False
        ends_at = time.monotonic() + seconds
        self._waiting = True
        try:
            return self._connection.execute(self._broker.await_entries(self._ends, block_ms=block_ms))
        except BrokerUnavailableError:
            more = self._patience.most_tries
            if more == 0:
                raise
            left_ms = max(round((ends_at - time.monotonic()) * 1000), 1)
            again = self._broker.await_entries(self._ends, block_ms=left_ms)
            patience = replace(self._patience, most_tries=more and more - 1)
            return persist(self._connection, again, patience=patience)
        finally:
            self._waiting = False

    @property
    def is_waiting(self) -> bool:
        """Whether the server is being asked right now."""
        return self._waiting

    def wake(self) -> None:
        """End a wait that is under way. One that is just about to begin is missed: call again."""
        if self._waiting:
            self._execute(self._broker.end_fetch(self._connection.connection_id))

    def close(self) -> None:
        """Free the connection."""
        self._connection.close()
