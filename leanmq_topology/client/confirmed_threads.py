"""Durable sends of threads that share a client. One of them sends for all who wait, then the next."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from leanmq_topology.brokers.protocol import BlockingConnection, Flush, Operation, SendResult
from leanmq_topology.client.confirmed import ConfirmedSender, Levels
from leanmq_topology.client.forked import renew_in_children
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.persistence import persist
from leanmq_topology.client.sender import MOST_BYTES, MOST_COPIES, weigh
from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.topology.durability import Durability

T = TypeVar("T")


class _Parcel:
    """Sends of one call, at one level, and what became of them."""

    __slots__ = ("copies", "failure", "results", "sender", "sends", "size", "together")

    def __init__(self, sends: Sequence[Outgoing], sender: ConfirmedSender, together: bool) -> None:
        self.sends, self.sender, self.together = tuple(sends), sender, together
        self.copies, self.size = weigh(self.sends)
        self.results: list[SendResult] | None = None
        self.failure: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.results is not None or self.failure is not None


class SyncConfirmer:
    """Gathers the durable sends of threads and confirms them in groups, over one connection."""

    def __init__(self, levels: Levels, open_connection: Callable[[], BlockingConnection]) -> None:
        self._levels = levels
        self._line = _LazyLine(open_connection)
        self._senders: dict[Durability, ConfirmedSender] = {}
        self._producer = Producer()
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In a forked child: what other threads of the parent wait for is the parent's to send."""
        self._parcels: deque[_Parcel] = deque()
        self._changed = threading.Condition()
        self._busy = False

    def submit(
        self, sends: Sequence[Outgoing], level: Durability, *, together: bool = False
    ) -> list[SendResult]:
        """Send, and return once `level` is reached, or not in time. `together`: all of them or none."""
        if level not in self._senders:
            self._senders[level] = self._levels.make_sender(level)
        parcel = _Parcel(sends, self._senders[level], together)
        with self._changed:
            self._parcels.append(parcel)
        while group := self._await_turn(parcel):
            self._carry_out(group)
        if parcel.results is None:
            raise parcel.failure or AssertionError("a parcel is answered or failed")
        return parcel.results

    def _await_turn(self, parcel: _Parcel) -> list[_Parcel]:
        """Wait until this parcel is done (nothing is returned then), or it is this thread's turn to send."""
        with self._changed:
            try:
                self._changed.wait_for(lambda: parcel.done or not self._busy)
            except BaseException:
                if parcel in self._parcels:  # interrupted before it left: withdrawn
                    self._parcels.remove(parcel)
                raise
            if parcel.done:
                return []
            self._busy = True
            return self._take()

    def _take(self) -> list[_Parcel]:
        """The next group: a batch by itself, or single sends of one level up to the bounds of a step."""
        taken = [self._parcels.popleft()]
        copies, size = taken[0].copies, taken[0].size
        while self._parcels and not taken[0].together:
            parcel = self._parcels[0]
            fits = copies + parcel.copies <= MOST_COPIES and size + parcel.size <= MOST_BYTES
            if parcel.together or parcel.sender is not taken[0].sender or not fits:
                break
            taken.append(self._parcels.popleft())
            copies, size = copies + parcel.copies, size + parcel.size
        return taken

    def _carry_out(self, group: list[_Parcel]) -> None:
        try:
            results = iter(self._flush(group))
            answers = [[next(results) for _ in parcel.sends] for parcel in group]
        except BaseException as failure:
            self._end_turn(group, failure)
            if not isinstance(failure, Exception):
                raise
            return
        with self._changed:
            for parcel, answer in zip(group, answers, strict=True):
                parcel.results = answer
            self._busy = False
            self._changed.notify_all()

    def _flush(self, group: list[_Parcel]) -> list[SendResult]:
        name, sequence = self._producer.next()
        sends = tuple(outgoing for parcel in group for outgoing in parcel.sends)
        flush = Flush(name, sequence, sends, all_or_none=group[0].together)
        return persist(self._line, group[0].sender.send(flush))

    def _end_turn(self, group: list[_Parcel], failure: BaseException) -> None:
        """Each thread gets an error of its own; when the one that sent is interrupted, nobody knows."""
        if not isinstance(failure, Exception):
            failure = BrokerUnavailableError("the thread that sent this was interrupted", unknown=True)
        with self._changed:
            for parcel in group:
                parcel.failure = copy.copy(failure)
            self._busy = False
            self._changed.notify_all()


class _LazyLine:
    """A connection that the first flush opens; opening it is tried again as sending is."""

    def __init__(self, open_connection: Callable[[], BlockingConnection]) -> None:
        self._open = open_connection
        self._connection: BlockingConnection | None = None

    @property
    def connection_id(self) -> int:
        return 0 if self._connection is None else self._connection.connection_id

    def execute(self, operation: Operation[T], within_s: float | None = None) -> T:
        if self._connection is None:
            self._connection = self._open()
        return self._connection.execute(operation, within_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
