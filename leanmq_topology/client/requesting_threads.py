"""Requests of threads that share a client: one of those who wait reads the inbox for all, then the next.

A thread that asks while nobody reads sends its request over the inbox's own connection, with the read right
behind it: one write, and the server handles both in one go.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from leanmq_topology.brokers.protocol import (
    Flush,
    Operation,
    PipelinedConnection,
    Reply,
    SendResult,
    Stale,
)
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.requesting import (
    LIFETIME_MS,
    LONGEST_READ_MS,
    READ_AT_ONCE,
    Mailbox,
    ReplyCounts,
    Request,
    RequestBroker,
)
from leanmq_topology.client.sender import Batch
from leanmq_topology.client.sending_threads import SendAhead
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.envelope import Outgoing

PAUSE_SECONDS: Final = 0.05
"""Before the inbox is read again after a break."""
MARGIN_SECONDS: Final = 0.25
"""How much later than asked the server may answer that no reply came."""
RENEWAL_SECONDS: Final = 1.0
"""How long a renewal may keep the inbox from being read."""
CLOSE_SECONDS: Final = 1.0
"""How long closing goes on telling the server; it forgets the inbox by itself otherwise."""


class Slot:
    """Where the reply to one request is put."""

    __slots__ = ("has_turn", "reading", "reply")

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.has_turn = False
        """The thread that waits for this one reads the inbox, for all."""
        self.reading: str | None = None
        """The inbox that a read of its is under way in."""


class SyncRequester:
    """Hands each reply to the thread that waits for it. A forked child starts with an inbox of its own."""

    def __init__(
        self,
        broker: RequestBroker,
        execute: Callable[[Operation[Any], float], Any],
        open_connection: Callable[[], PipelinedConnection],
        *,
        lifetime_ms: int = LIFETIME_MS,
    ) -> None:
        """`execute` carries out what may be repeated, on the client's own connection, until then at most.

        What `open_connection` gives connects when first used.
        """
        self._broker, self._execute = broker, execute
        self._open_connection, self._lifetime_ms = open_connection, lifetime_ms
        self._line: PipelinedConnection | None = None
        self._producer = Producer()
        self._has_reader = False
        self._begin()

    @property
    def counts(self) -> ReplyCounts:
        return self._box.counts

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return len(self._box.waiting)

    def open(self, deadline: float) -> str:
        """The inbox, alive for a while from now. Raises `BrokerUnavailableError` if it is not by then."""
        if self._box.process != os.getpid():
            self._begin()
        if self._box.needs_keeping(time.monotonic()):
            if not self._keeping.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
                raise BrokerUnavailableError("the inbox for replies could not be made or renewed in time")
            try:
                self._keep(deadline)
            finally:
                self._keeping.release()
        return self._box.name

    def ask(
        self, request: Request, send: Callable[[Batch, float, SendAhead], object], deadline: float
    ) -> Reply | None:
        """Have a request to this inbox sent, by `send` or ahead; its reply, or None if there is none by then.

        `deadline` is monotonic seconds. Raises `BrokerUnavailableError` if it is not sent by then.
        """
        slot = self.expect(request.id)
        try:
            send(request, deadline, partial(self.send, slot, deadline))
            return self.wait(slot, deadline)
        finally:
            self.forget(request.id, slot)

    def expect(self, request_id: str) -> Slot:
        """Where a reply will be put."""
        slot = Slot()
        with self._lock:
            self._box.add(request_id, slot)
        return slot

    def forget(self, request_id: str, slot: Slot) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._box.waiting.pop(request_id, None)
            if slot.has_turn:
                self._end_turn(slot)

    def send(self, slot: Slot, deadline: float, sends: Sequence[Outgoing]) -> list[SendResult] | None:
        """Send a request, a read of the inbox behind it. None: another thread reads, and nothing was sent.

        Raises `BrokerUnavailableError` if that takes longer than `deadline` (monotonic seconds).
        """
        with self._lock:
            if self._has_reader:
                return None
            slot.has_turn = self._has_reader = True
        flush = Flush(*self._producer.next(), tuple(sends))
        results: list[SendResult] | None = None
        with contextlib.suppress(LeanMQError):
            results = self._attempt(slot, flush, deadline)
        if results is None:
            with self._lock:
                # What follows may take long. Who sends ahead meanwhile is another producer: of each the
                # server remembers the last flush only, and would take this one for one that it has.
                self._producer = Producer()
                self._end_turn(slot)
            results = self._execute(self._broker.send(flush), deadline)
        elif isinstance(results[0], Stale):
            with self._lock:
                self._end_turn(slot)  # it is to be sent again, and nobody would read until it is
        return results

    def wait(self, slot: Slot, deadline: float) -> Reply | None:
        """The reply, or None if it is not there by `deadline` (monotonic seconds)."""
        while slot.reply is None and (left := deadline - time.monotonic()) > 0:
            if slot.has_turn or self._take_turn(slot, left):
                self._read(slot, deadline)
                if slot.reply is None:
                    self._renew(min(deadline, time.monotonic() + RENEWAL_SECONDS))
                with self._lock:
                    self._end_turn(slot)
        return slot.reply

    def close(self) -> None:
        """Delete the inbox; the server forgets it by itself otherwise."""
        if self._box.is_open and self._box.process == os.getpid():
            with contextlib.suppress(LeanMQError):
                self._execute(self._broker.close_inbox(self._box.name), time.monotonic() + CLOSE_SECONDS)

    def _begin(self) -> None:
        """Also in a forked child, where other threads of the parent may have held the locks."""
        self._box: Mailbox[Slot] = Mailbox(os.getpid())
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """Somebody has a reply, or nobody reads. To hold just the lock takes a third of the time."""
        self._keeping = threading.Lock()
        self._has_reader = False

    def _take_turn(self, slot: Slot, seconds: float) -> bool:
        """Wait for the reply, or for a time when nobody reads. True: now this thread does."""
        with self._changed:
            self._changed.wait_for(lambda: slot.reply is not None or not self._has_reader, seconds)
            is_free = slot.reply is None and not self._has_reader
            self._has_reader = self._has_reader or is_free
            slot.has_turn = is_free
            return is_free

    def _end_turn(self, slot: Slot) -> None:
        """For who holds the lock. A read that is still under way is given up."""
        slot.has_turn = self._has_reader = False
        slot.reading = None
        self._changed.notify_all()

    def _renew(self, deadline: float) -> None:
        """While it is read; it lives on for a while if that fails, and whoever reads next tries again."""
        with contextlib.suppress(BrokerUnavailableError):
            self.open(deadline)

    def _keep(self, deadline: float) -> None:
        """Make the inbox, or renew it; one that is gone is followed by another."""
        box, now = self._box, time.monotonic()
        if not box.needs_keeping(now):
            return  # another thread did, while this one waited for its turn
        if box.is_open:
            keep = self._broker.keep_inbox(box.name, lifetime_ms=self._lifetime_ms, read_to=box.read_to)
            if not self._execute(keep, deadline):
                with self._lock:
                    box.move()
        if not box.is_open:
            self._execute(self._broker.open_inbox(box.name, lifetime_ms=self._lifetime_ms), deadline)
        box.note_kept(now)

    def _attempt(self, slot: Slot, flush: Flush, deadline: float) -> list[SendResult] | None:
        """None, or an error: it may not have been sent."""
        left_s = deadline - time.monotonic()
        self._begin_read(slot, left_s, self._broker.attempt(flush))
        assert self._line is not None
        answer: list[SendResult] | None = self._line.finish(left_s)
        return answer

    def _read(self, slot: Slot, deadline: float) -> None:
        """Wait for replies once, for everybody; who reads for others goes on to its own deadline at most."""
        left_s = deadline - time.monotonic()
        try:
            if slot.reading is None:
                self._begin_read(slot, left_s)
            assert self._line is not None
            arrived = self._line.finish(min(left_s, LONGEST_READ_MS / 1000) + MARGIN_SECONDS)
        except BrokerUnavailableError:
            slot.reading = None
            time.sleep(max(min(PAUSE_SECONDS, left_s), 0.0))
            return
        name, slot.reading = slot.reading, None
        with self._lock:
            if name == self._box.name:  # else it was gone meanwhile, and there is another
                for found, reply in self._box.take(arrived):
                    found.reply = reply

    def _begin_read(self, slot: Slot, left_s: float, *before: Operation[Any]) -> None:
        """Write a read of the inbox that waits for so long at most, behind what goes before it."""
        if self._line is None:
            self._line = self._open_connection()
        block_ms = max(1, min(LONGEST_READ_MS, int(left_s * 1000)))
        box = self._box
        read = self._broker.read_inbox(box.name, box.read_to, count=READ_AT_ONCE, block_ms=block_ms)
        self._line.begin((*before, read), left_s + MARGIN_SECONDS)
        slot.reading = box.name
