"""`Transaction`: messages to several queues, stored together or not at all."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from leanmq_topology.classic.exceptions import (
    ConnectionError,  # noqa: A004  its name
    LeanMQError,
    MessageError,
    TransactionError,
    translated,
)
from leanmq_topology.classic.line import Line
from leanmq_topology.classic.queues import Queue
from leanmq_topology.classic.sending import write_message
from leanmq_topology.client.sender import Batch


class Transaction:
    """Sends nothing before its block ends, and nothing at all if the block raises or one message is wrong.

    Each message keeps its own lifetime, and messages to one queue keep their order.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._batches: list[Batch] = []
        self._ended = False

    def send_message(
        self,
        queue: Queue,
        data: dict[str, Any],
        message_id: str | None = None,
        ttl: float | None = None,
        *,
        ttl_seconds: float | None = None,
        type: str | None = None,
    ) -> str:
        """Add a message; returns its `Message.message_id`. Parameters are those of `Queue.send_message`.

        Raises `MessageError` at once for what can be told without the server.
        """
        if queue.is_dlq:
            raise MessageError(f"{queue.name} is a dead-letter queue", hint="send to its main queue")
        lifetime = ttl if ttl_seconds is None else ttl_seconds
        with translated(queue.name):
            batch = write_message(queue._queue, data, message_id=message_id, ttl=lifetime, type=type)
        with self._lock:
            self._insist_open()
            self._batches.append(batch)
        return batch.drafts[0].id

    def _execute(self) -> None:
        """Send it: what the end of the block does. Raises `TransactionError`; nothing was sent then."""
        with self._lock:
            self._insist_open()
            self._ended = True
        if not self._batches:
            return
        try:
            with translated(), self._line.client.transaction() as begun:
                for batch in self._batches:
                    begun.add(batch)
        except (TransactionError, ConnectionError):
            raise
        except LeanMQError as failure:
            raise TransactionError(f"nothing was sent: {failure.message}", hint=failure.hint) from failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is None:
            self._execute()
        self._ended = True

    def _insist_open(self) -> None:
        if self._ended:
            raise TransactionError("this transaction has ended", hint="begin another one")
