"""`Queue`: a handle on a main queue; what dead-letter queues and routes have in common with it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from leanmq_topology.brokers.protocol import Operation, QueueState
from leanmq_topology.classic.exceptions import MessageError, QueueError, QueueNotFoundError, translated
from leanmq_topology.classic.line import Line
from leanmq_topology.classic.sending import write_message
from leanmq_topology.messages.message import Message
from leanmq_topology.messages.outcome import Failure

GROUP: Final = "g"
"""The consumer group of every queue."""
MOST_IDS: Final = 1000
"""Messages handled in one atomic step; more are handled in several."""
_ENTRY_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_LARGEST = 2**64 - 1
_SURE_DIGITS = 20
"""Of an id so long neither number can be too large."""


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """What a queue holds right now."""

    name: str
    """With the prefix; a dead-letter queue ends in `:dlq`."""
    is_dlq: bool = False
    message_count: int = 0
    """All that is held: ready, in flight, delayed, and acknowledged messages that are kept."""
    consumer_group: str | None = None
    pending_messages: int = 0
    """Delivered and not settled yet."""
    created_at: float | None = None
    """Seconds since 1970-01-01 UTC; the first time counts."""


class Queue:
    """A main queue. Made by `LeanMQ`, never by hand. Threads may share it."""

    is_dlq = False
    consumer_group: str | None = GROUP

    def __init__(self, line: Line, queue: str, created_at: float | None) -> None:
        self._line, self._queue, self._created_at = line, queue, created_at
        self._name = line.place.full_name(queue, is_dlq=self.is_dlq)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """With the prefix, as in `QueueInfo`."""
        return self._name

    def get_info(self) -> QueueInfo:
        """What it holds. Raises `QueueNotFoundError` if it is gone."""
        state = self._look()
        return describe(self.name, state, self._created_at)

    def send_message(
        self,
        data: dict[str, Any],
        message_id: str | None = None,
        ttl: float | None = None,
        *,
        ttl_seconds: float | None = None,
        type: str | None = None,
    ) -> str:
        """Store a message; returns the id under which the consumer will see it (`Message.id`).

        `message_id` is an id of your own, readable as `Message.message_id`; where the queue declares
        `deduplication` a second message of that id is not stored, and the first one's is returned. `ttl` is
        in seconds. On a declared queue the data is validated, and `type` says which of several types it is.
        Raises `MessageError`, `QueueNotFoundError`, `QueueError` for a full queue, `ConnectionError`.
        """
        lifetime = ttl if ttl_seconds is None else ttl_seconds
        with translated(self.name):
            batch = write_message(self._queue, data, message_id=message_id, ttl=lifetime, type=type)
            return self._line.client.send_batch(batch)[0]

    def get_messages(
        self,
        count: int = 1,
        block_for_seconds: float | None = None,
        consumer_id: str = "default-consumer",
        *,
        block: float | bool | None = None,
        timeout: float | None = None,
    ) -> list[Message]:
        """Up to `count` messages, oldest first; waits so long for the first one, else answers at once.

        Whoever takes them has them until they are acknowledged, deleted or moved: their lease is renewed
        for up to an hour, as long as this process lives. What a process that died held comes back, to any
        consumer. `block` and `timeout` are the other spellings of LeanMQ's guides, in seconds.
        """
        wait = read_wait(block_for_seconds, block, timeout)
        check_count(count)
        return self._line.receive(self._queue, count, wait, named=self._name)

    def acknowledge_messages(self, message_ids: Sequence[str]) -> int:
        """They are done; returns how many were still there. A queue that keeps a history keeps them in it."""
        return self._settle(message_ids, self._line.broker.ack)

    def delete_messages(self, message_ids: Sequence[str]) -> int:
        """Delete messages for good, delivered or not; returns how many were there."""
        return self._settle(message_ids, self._line.broker.delete)

    def move_to_dlq(self, message_ids: Sequence[str], reason: str, dlq: Queue | None = None) -> int:
        """Move messages to the dead-letter queue in one step, delivered or not; returns how many were there.

        `reason` is kept beside the message. The dead-letter queue is always this queue's own.
        """
        if dlq is not None and not self._is_own(dlq):
            raise QueueError(
                f"{dlq.name} is not the dead-letter queue of {self.name}",
                hint="leave `dlq` out: a queue has one",
            )
        failure = Failure("", str(reason))
        bury = self._line.broker.bury
        return self._settle(message_ids, lambda queue, ids: bury(queue, ids, failure))

    def requeue_messages(self, message_ids: Sequence[str], destination_queue: Queue | None = None) -> int:
        """Only a dead-letter queue can do that. Raises `QueueError`."""
        raise QueueError(f"{self.name} is not a dead-letter queue", hint="call it on the dead-letter queue")

    def insist_holding(self) -> None:
        """Raises `QueueError` for what holds no messages itself."""

    def purge(self) -> int:
        """Delete all messages; returns how many went. Who waits for messages goes on waiting."""
        went = self._line.execute(
            self._line.broker.purge(self._queue, new_purge_id(), keep_ms=0), queue=self.name
        )
        kept = self._line.execute(self._line.broker.forget_history(self._queue), queue=self.name)
        return went.messages + kept

    def _look(self) -> QueueState:
        [state] = self._line.execute(self._line.broker.inspect_queues([self._queue]), queue=self.name)
        if not state.exists:
            raise QueueNotFoundError(self.name)
        return state

    def _is_own(self, dlq: object) -> bool:
        return isinstance(dlq, Queue) and dlq.is_dlq and dlq._queue == self._queue

    def _settle(self, message_ids: Sequence[str], make: Callable[[str, list[str]], Operation[int]]) -> int:
        total = 0
        for ids in read_ids(message_ids):
            total += self._line.settle(self._queue, ids, make(self._queue, ids), named=self._name)
        return total


def describe(name: str, state: QueueState, created_at: float | None) -> QueueInfo:
    """A main queue as `QueueInfo` has it."""
    held = state.waiting + state.parked + state.kept
    return QueueInfo(name, False, held, GROUP, state.in_flight, created_at)


def describe_dead(name: str, state: QueueState, created_at: float | None) -> QueueInfo:
    """A dead-letter queue as `QueueInfo` has it; nobody consumes it, so nothing is pending there."""
    return QueueInfo(name, True, state.dead, None, 0, created_at)


def read_ids(message_ids: Sequence[str]) -> list[list[str]]:
    """Message ids as entry ids, `MOST_IDS` at a time. Raises `MessageError` before anything is done."""
    if isinstance(message_ids, str | bytes):
        raise MessageError("message ids come as a list, even a single one", hint="write [message.id]")
    ids = [_read_id(message_id) for message_id in message_ids]
    if len(ids) <= MOST_IDS:
        return [ids] if ids else []
    return [ids[start : start + MOST_IDS] for start in range(0, len(ids), MOST_IDS)]


def _read_id(message_id: object) -> str:
    text = message_id.decode("utf-8", "replace") if isinstance(message_id, bytes) else message_id
    parts = _ENTRY_ID.fullmatch(text) if isinstance(text, str) else None
    if parts is None or (
        len(parts[0]) > _SURE_DIGITS and any(int(part) > _LARGEST for part in parts.groups())
    ):
        raise MessageError(f"{message_id!r:.80} is not a message id", hint="pass what `message.id` says")
    return parts[0]


def read_wait(
    block_for_seconds: float | None, block: float | bool | None = None, timeout: float | None = None
) -> float:
    """How long to wait, in seconds, whichever way it was said. 0 and None: not at all."""
    if block is False or (block_for_seconds is None and block is None and timeout is None):
        return 0.0
    said = [
        wait for wait in (block_for_seconds, timeout, None if block is True else block) if wait is not None
    ]
    wait = said[0] if said else (1.0 if block is True else 0.0)
    if not _is_number(wait) or not 0 <= wait < float("inf"):
        raise MessageError(f"{wait!r} is not a number of seconds to wait")
    return float(wait)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_count(count: int) -> None:
    """Raises `MessageError` for what is no number of messages."""
    if type(count) is int and count > 0:
        return
    if not _is_number(count) or count < 1 or int(count) != count:
        raise MessageError(f"count must be a whole number of at least 1, not {count!r}")


def new_purge_id() -> str:
    """One purge's own id."""
    return secrets.token_hex(6)
