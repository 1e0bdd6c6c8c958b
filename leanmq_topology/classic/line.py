"""The connection of a `LeanMQ`: opened by the first call that needs it, closed once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, TypeVar

from leanmq_topology.brokers.protocol import Broker, Operation
from leanmq_topology.classic.exceptions import ConnectionError, translated  # noqa: A004  its name
from leanmq_topology.classic.place import Place
from leanmq_topology.classic.reading import in_classic_form
from leanmq_topology.client.blocking import SyncClient, connect_sync
from leanmq_topology.client.consuming.delivery import SyncDelivery
from leanmq_topology.client.pairs import undeclared_queue
from leanmq_topology.client.patience import Patience
from leanmq_topology.client.waiting import Doorbell
from leanmq_topology.messages.message import Message

T = TypeVar("T")
MOST_AT_ONCE: Final = 1000


class Line:
    """Threads share it. Every error that leaves it is a classic one."""

    def __init__(self, place: Place, patience: Patience) -> None:
        self.place, self._patience = place, patience
        self._opening = threading.Lock()
        self._opened = ExitStack()
        self._client: SyncClient | None = None
        self._closed = False

    @property
    def client(self) -> SyncClient:
        """Raises `ConnectionError` if the server cannot be reached, or after `close`."""
        return self._client or self._open()

    @property
    def broker(self) -> Broker:
        return self.client.broker

    def execute(self, operation: Operation[T], *, queue: str = "") -> T:
        """Carry out what may be repeated; `queue` is what errors are about."""
        with translated(queue):
            return self.client.execute(operation)

    def receive(self, queue: str, count: int, wait: float, *, named: str) -> list[Message]:
        """Take messages; they are ours until they are settled (`settle`) or this line is closed."""
        with translated(named):
            client = self._client or self._open()
            helds = client.hold(queue, min(count, MOST_AT_ONCE), wait)
        return [in_classic_form(held.delivered, held.data) for held in helds]

    def settle(self, queue: str, entry_ids: Sequence[str], operation: Operation[T], *, named: str) -> T:
        """Carry out what settles these: then they are not ours any more."""
        with translated(named):
            client = self._client or self._open()
            answer = client.execute(operation)
        client.forget(queue, entry_ids)
        return answer

    def take(self, queue: str, count: int, *, named: str) -> list[SyncDelivery]:
        """Take what is there now, to be settled by its own verbs."""
        with translated(named):
            return self.client.receive(queue, count=count, wait=0)

    def is_quiet(self, queue: str) -> bool:
        """Whether there is nothing to take but what came since the last `take`. Asks nobody."""
        return self.client.is_quiet(queue)

    def open_doorbell(self) -> Doorbell:
        """One more connection, which waits for messages; closed with this line."""
        with translated():
            client = self.client
            return Doorbell(client.broker, client.open_another(), client.execute, self._patience)

    def close(self) -> None:
        """Free every connection. A closed line stays closed; closing twice is harmless."""
        with self._opening:
            self._closed, self._client = True, None
            self._opened.close()

    def _open(self) -> SyncClient:
        with self._opening, translated():
            if self._closed:
                raise ConnectionError("this LeanMQ was closed", hint="make another one")
            if self._client is None:
                self._client = self._opened.enter_context(
                    connect_sync(
                        self.place.topology,
                        url=self.place.url,
                        undeclared=undeclared_queue,
                        patience=self._patience,
                    )
                )
            return self._client
