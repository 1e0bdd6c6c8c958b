"""One connection that threads share: each has it for an operation, and waits for it no longer than it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from leanmq_topology.brokers.protocol import BlockingConnection, Operation
from leanmq_topology.client.forked import renew_in_children
from leanmq_topology.client.patience import Patience
from leanmq_topology.client.persistence import persist_noting
from leanmq_topology.errors import BrokerUnavailableError

T = TypeVar("T")


class SharedLine:
    """`until` is monotonic seconds; None: as long as `patience` lasts, once it is this thread's turn."""

    def __init__(self, connection: BlockingConnection, patience: Patience) -> None:
        self.connection, self._patience = connection, patience
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In a forked child: another thread of the parent may have had its turn."""
        self._lock = threading.Lock()

    def execute(self, operation: Operation[T], until: float | None = None) -> T:
        """Carry out what may be repeated. Raises `BrokerUnavailableError` if that takes too long."""
        if until is not None:
            return self.execute_made(lambda: operation, until)
        with self._lock:
            return persist_noting(self.connection, operation, patience=self._patience)[0]

    def execute_made(self, make: Callable[[], Operation[T]], until: float | None = None) -> T:
        """The same for what is made once it is this thread's turn, so that turns and numbers rise together.

        Raises `BrokerUnavailableError` also if other threads keep the connection until then.
        """
        if not self._lock.acquire(timeout=-1 if until is None else _left(until)):
            raise BrokerUnavailableError("the server did not answer in time those who asked before")
        try:
            patience = self._patience if until is None else replace(self._patience, longest_s=_left(until))
            return persist_noting(self.connection, make(), patience=patience)[0]
        finally:
            self._lock.release()

    def execute_once(self, operation: Operation[T]) -> T:
        with self._lock:
            return self.connection.execute(operation)

    def execute_noting(self, operation: Operation[Any]) -> tuple[Any, bool]:
        """The answer, and whether an earlier try may have done it already, its own answer lost."""
        with self._lock:
            return persist_noting(self.connection, operation, patience=self._patience)


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.0)
