"""A fan-out route as a classic queue: a send reaches every subscriber, `consumer_id` says which one reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from leanmq_topology.brokers.protocol import QueueState
from leanmq_topology.classic.dead_letters import DeadLetterQueue
from leanmq_topology.classic.exceptions import MessageError, QueueError, QueueNotFoundError
from leanmq_topology.classic.line import Line
from leanmq_topology.classic.queues import Queue, QueueInfo, describe
from leanmq_topology.diagnostics import closest
from leanmq_topology.messages.message import Message

Fields = Mapping[str, Any]
"""The answer of `Inspector.read_addresses`."""


def make_declared(line: Line, name: str, fields: Fields) -> Queue | None:
    """The handle of what is declared under this name: a queue, or a route to several; None: nothing is."""
    queue, route = fields.get(f"queues.{name}"), fields.get(f"routes.{name}")
    if queue is not None:
        return Queue(line, name, queue.get("at", 0) / 1000)
    if route is None:
        return None
    spec, at = route["spec"], route.get("at", 0) / 1000
    if spec.get("type") == "request":
        return Queue(line, spec["queue"], at)
    subscribers = tuple(target["queue"] for target in spec.get("to", ()))
    return FanoutQueue(line, name, at, subscribers)


def make_declared_dlq(line: Line, name: str, fields: Fields) -> Queue | None:
    """The dead letters behind what is declared under this name; None: nothing is."""
    declared = make_declared(line, name, fields)
    if isinstance(declared, FanoutQueue):
        return FanoutDeadLetterQueue(line, name, declared._created_at, declared.subscribers)
    return None if declared is None else DeadLetterQueue(line, declared._queue, declared._created_at)


class FanoutQueue(Queue):
    """A route to several queues. A message id ends in `@` and the subscriber it was read by."""

    def __init__(self, line: Line, route: str, created_at: float | None, subscribers: Sequence[str]) -> None:
        super().__init__(line, route, created_at)
        self.subscribers = tuple(subscribers)

    def get_info(self) -> QueueInfo:
        """What all its subscribers hold together."""
        infos = [describe(self.name, state, self._created_at) for state in self._look_at_all()]
        return replace(
            infos[0],
            message_count=sum(info.message_count for info in infos),
            pending_messages=sum(info.pending_messages for info in infos),
        )

    def get_messages(
        self,
        count: int = 1,
        block_for_seconds: float | None = None,
        consumer_id: str = "default-consumer",
        *,
        block: float | bool | None = None,
        timeout: float | None = None,
    ) -> list[Message]:
        """What the subscriber `consumer_id` has not had yet; every subscriber gets every message it wants.

        Raises `QueueNotFoundError` for a subscriber that the route does not name.
        """
        found = self._subscriber(consumer_id).get_messages(
            count, block_for_seconds, consumer_id, block=block, timeout=timeout
        )
        return [replace(message, id=f"{message.id}@{consumer_id}") for message in found]

    def acknowledge_messages(self, message_ids: Sequence[str]) -> int:
        """They are done, for the subscriber that each was read by."""
        return self._each(message_ids, lambda queue, ids: queue.acknowledge_messages(ids))

    def delete_messages(self, message_ids: Sequence[str]) -> int:
        """Delete messages, each from the subscriber that it was read by."""
        return self._each(message_ids, lambda queue, ids: queue.delete_messages(ids))

    def move_to_dlq(self, message_ids: Sequence[str], reason: str, dlq: Queue | None = None) -> int:
        """Move messages to the dead-letter queue of the subscriber that each was read by.

        `dlq` may be this route's, or that subscriber's own; with any other nothing is moved.
        """
        if dlq is None or self._is_own(dlq):
            return self._each(message_ids, lambda queue, ids: queue.move_to_dlq(ids, reason))
        for name in split_ids(message_ids):
            self._subscriber(name).move_to_dlq((), reason, dlq)  # raises before anything is moved
        return self._each(message_ids, lambda queue, ids: queue.move_to_dlq(ids, reason, dlq))

    def insist_holding(self) -> None:
        """Raises `QueueError`: each subscriber holds copies of its own."""
        raise QueueError(
            f"{self.name} is a route, and messages lie in queues",
            hint=f"name one of the queues behind it: {', '.join(self.subscribers)}"
            if self.subscribers
            else None,
        )

    def purge(self) -> int:
        """Delete the messages of every subscriber."""
        return sum(self._subscriber(name).purge() for name in self.subscribers)

    def _look_at_all(self) -> list[QueueState]:
        states = self._line.execute(self._line.broker.inspect_queues(self.subscribers), queue=self.name)
        if not all(state.exists for state in states):
            raise QueueNotFoundError(self.name)
        return states

    def _subscriber(self, name: str) -> Queue:
        if name not in self.subscribers:
            guess = closest(name, self.subscribers)
            raise QueueError(
                f"{self.name} is a fan-out route and has no subscriber {name!r}",
                hint=f"did you mean {guess!r}?"
                if guess
                else f"consumer_id is one of {', '.join(self.subscribers)}",
            )
        return Queue(self._line, name, self._created_at)

    def _each(self, message_ids: Sequence[str], settle: Callable[[Queue, list[str]], int]) -> int:
        found = split_ids(message_ids)
        return sum(settle(self._subscriber(name), ids) for name, ids in found.items())


class FanoutDeadLetterQueue(DeadLetterQueue):
    """The dead letters of every subscriber of a route; each id ends in `@` and the subscriber."""

    def __init__(self, line: Line, route: str, created_at: float | None, subscribers: Sequence[str]) -> None:
        super().__init__(line, route, created_at)
        self._parts = {name: DeadLetterQueue(line, name, created_at) for name in subscribers}

    def get_info(self) -> QueueInfo:
        """What lies in all of them together."""
        held = sum(part.get_info().message_count for part in self._parts.values())
        return QueueInfo(self.name, True, held, None, 0, self._created_at)

    def delete_messages(self, message_ids: Sequence[str]) -> int:
        """Forget dead letters for good."""
        found = split_ids(message_ids)
        return sum(self._part(name).delete_messages(ids) for name, ids in found.items())

    def requeue_messages(self, message_ids: Sequence[str], destination_queue: Queue | None = None) -> int:
        """Back to the subscriber that each was meant for, unseen by the others; or to another queue.

        The route itself as the destination means the same as none.
        """
        other = None if self._is_route(destination_queue) else destination_queue
        found = split_ids(message_ids)
        return sum(self._part(name).requeue_messages(ids, other) for name, ids in found.items())

    def purge(self) -> int:
        """Delete the dead letters of every subscriber."""
        return sum(part.purge() for part in self._parts.values())

    def _read(self, count: int) -> list[Message]:
        found = (
            replace(message, id=f"{message.id}@{name}")
            for name, part in self._parts.items()
            for message in part._read(count)
        )
        return list(islice(found, count))

    def _is_route(self, queue: Queue | None) -> bool:
        return isinstance(queue, FanoutQueue) and queue._queue == self._queue

    def _part(self, name: str) -> DeadLetterQueue:
        if name not in self._parts:
            raise QueueError(f"{self.name} is a fan-out route and has no subscriber {name!r}")
        return self._parts[name]


def split_ids(message_ids: Sequence[str]) -> dict[str, list[str]]:
    """Entry ids by the subscriber they belong to. Raises `MessageError`."""
    found: dict[str, list[str]] = {}
    for message_id in message_ids:
        entry_id, at, subscriber = str(message_id).partition("@")
        if not at:
            raise MessageError(
                f"{message_id!r:.80} does not say which subscriber it belongs to",
                hint="pass what `message.id` says",
            )
        found.setdefault(subscriber, []).append(entry_id)
    return found
