"""Waiting for messages of several queues at once without taking any: one read for all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from leanmq_topology.brokers.protocol import Operation, PipelinedConnection, Receiver
from leanmq_topology.client.patience import Patience
from leanmq_topology.client.persistence import persist
from leanmq_topology.errors import BrokerError, BrokerUnavailableError

BLOCK_MS: Final = 10_000
"""So long the server waits before it says that nothing came. Waits that are shorter share one such read."""
MARGIN_SECONDS: Final = 5.0
"""If it has not said so by then, nobody is at the other end any more."""


class Doorbell:
    """`listen`, then look into the queues, then `wait`: what came after `listen` ends the wait at once.

    One thread listens and waits; any thread may `wake` it. `execute` carries operations out elsewhere than
    on the connection that waits. One that is lost is made again as `patience` says; what comes meanwhile is
    heard all the same. A wait that is over leaves its read on the server to the next one: somebody who waits
    a second at a time asks no more often than who waits for ten.
    """

    def __init__(
        self,
        broker: Receiver,
        connection: PipelinedConnection,
        execute: Callable[[Operation[Any]], Any],
        patience: Patience,
    ) -> None:
        self._broker, self._patience = broker, patience
        self._connection, self._execute = connection, execute
        self._ends: Mapping[str, str] = {}
        self._read_from: Mapping[str, str] = {}
        """The ends that the read under way was begun with: what it hears of may be handled by now."""
        self._silent_at = 0.0
        """Monotonic seconds, by which the read that was begun must have been answered."""
        self._waiting = self._woken = False

    def listen(self, queues: Sequence[str]) -> None:
        """Whatever comes in these from now on is heard by the next `wait`."""
        heard, self._ends = list(self._ends), {}
        if heard != list(queues):
            self._end_read()
        if queues:
            self._ends = self._execute(self._broker.read_ends(queues))

    def wait(self, seconds: float) -> bool:
        """True: a message came in one of the queues. False: none did in time, or `wake` was called."""
        if not self._ends or seconds < 0.001:
            return False
        ends_at = time.monotonic() + seconds
        self._woken, self._waiting = False, True
        try:
            return self._wait_until(ends_at)
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

    def _wait_until(self, ends_at: float) -> bool:
        while True:
            if not self._connection.has_begun:
                self._begin_read()
            now = time.monotonic()
            if not self._connection.can_finish(min(ends_at, self._silent_at) - now) and now < self._silent_at:
                return False
            heard = self._connection.finish(0.0 if now >= self._silent_at else MARGIN_SECONDS)
            if heard and self._read_from == self._ends:
                return True
            if self._woken or time.monotonic() >= ends_at:
                return False

    def _begin_read(self) -> None:
        again = self._broker.await_entries(self._ends, block_ms=BLOCK_MS)
        self._connection.begin([again], self._patience.longest_s or MARGIN_SECONDS)
        self._read_from = self._ends
        self._silent_at = time.monotonic() + BLOCK_MS / 1000 + MARGIN_SECONDS

    def _end_read(self) -> None:
        """It waits for messages of other queues. What its answer is does not matter."""
        if self._connection.has_begun:
            with contextlib.suppress(BrokerError):
                self._execute(self._broker.end_fetch(self._connection.connection_id))
                self._connection.finish(MARGIN_SECONDS)

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits right now."""
        return self._waiting

    def wake(self) -> None:
        """End a wait that is under way. One that is just about to begin is missed: call again."""
        if self._waiting:
            self._woken = True
            self._execute(self._broker.end_fetch(self._connection.connection_id))

    def close(self) -> None:
        """Free the connection."""
        self._connection.close()
