"""What the classic interface raises. Also at `leanmq_topology.exceptions`, as in LeanMQ.

    LeanMQError
    ├── ConnectionError                          also the built-in one and redis-py's
    ├── QueueError
    │   ├── QueueNotFoundError
    │   └── DeadLetterQueueNotFoundError
    ├── MessageError (ValueError, TypeError)     the message cannot be sent, or the id is none; .path, .reason
    └── TransactionError                         nothing of the transaction was sent

Programs written for LeanMQ had to catch redis-py's errors, since it raised none of its own: they still work.
"""

from __future__ import annotations

import builtins
from types import TracebackType

import redis

from leanmq_topology.errors import (
    BatchTooLargeError,
    BrokerRefusedError,
    BrokerUnavailableError,
    InvalidMessageError,
    LeanMQError,
    QueueFullError,
    SettingError,
    TopologyNotAppliedError,
    TransactionError,
    UnknownTargetError,
)

__all__ = [
    "ConnectionError",
    "DeadLetterQueueNotFoundError",
    "LeanMQError",
    "MessageError",
    "QueueError",
    "QueueNotFoundError",
    "TransactionError",
    "translated",
]


class ConnectionError(LeanMQError, redis.ConnectionError, builtins.ConnectionError):  # noqa: A001  its name
    """The server cannot be reached, or refuses.

    `unknown` is True when the operation may have been carried out: its answer was lost.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str | None = None, unknown: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.unknown = unknown

    __repr__ = BaseException.__repr__


class QueueError(LeanMQError, redis.ResponseError):
    """A queue cannot do what was asked."""

    __repr__ = BaseException.__repr__


class QueueNotFoundError(QueueError):
    """There is no such queue: it was never made, or was deleted."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(f"there is no queue {queue!r}", hint="make it with create_queue_pair, or apply it")


class DeadLetterQueueNotFoundError(QueueError):
    """There is no such dead-letter queue."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(f"there is no dead-letter queue of {queue!r}")


class MessageError(LeanMQError, ValueError, TypeError):
    """A message breaks its schema or cannot be JSON, or a message id is none.

    `path` is a JSON Pointer to what is wrong in the data, `reason` says what it is.
    """

    exit_code = 3

    def __init__(self, message: str, *, path: str = "", reason: str = "", hint: str | None = None) -> None:
        self.path, self.reason = path, reason or message
        super().__init__(message, hint=hint)


class translated:  # noqa: N801  read as a verb: `with translated():`
    """Errors of the client become the classic ones; `queue` is what they are about."""

    __slots__ = ("_queue",)

    def __init__(self, queue: str = "") -> None:
        self._queue = queue

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(failure, LeanMQError):
            meant = _translate(failure, self._queue)
            if meant is not None:
                raise meant from failure


def _translate(failure: LeanMQError, queue: str) -> LeanMQError | None:
    """None: it is a classic one, or has no classic name."""
    match failure:
        case BrokerUnavailableError() | BrokerRefusedError():
            unknown = getattr(failure, "unknown", False)
            return ConnectionError(failure.message, hint=failure.hint, unknown=unknown)
        case TopologyNotAppliedError() | UnknownTargetError():
            return QueueNotFoundError(queue or str(failure))
        case QueueFullError():
            return QueueError(failure.message, hint=failure.hint)
        case InvalidMessageError():
            return MessageError(failure.message, path=failure.path, reason=failure.reason, hint=failure.hint)
        case BatchTooLargeError() | SettingError():
            return MessageError(failure.message, hint=failure.hint)
    return None
