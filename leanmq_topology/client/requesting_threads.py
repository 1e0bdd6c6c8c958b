"""Requests of threads that share a client: one of those who wait reads the inbox for all, then the next."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from leanmq_topology.brokers.protocol import BlockingConnection, Correspondent, Operation, Reply
from leanmq_topology.client.requesting import (
    LIFETIME_MS,
    LONGEST_READ_MS,
    READ_AT_ONCE,
    Mailbox,
    ReplyCounts,
)
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError

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

    __slots__ = ("reply",)

    def __init__(self) -> None:
        self.reply: Reply | None = None


class SyncRequester:
    """Hands each reply to the thread that waits for it. A forked child starts with an inbox of its own."""

    def __init__(
        self,
        broker: Correspondent,
        execute: Callable[[Operation[Any], float], Any],
        open_connection: Callable[[], BlockingConnection],
        *,
        lifetime_ms: int = LIFETIME_MS,
    ) -> None:
        """`execute` carries out what may be repeated, on the client's own connection, until then at most.

        What `open_connection` gives connects when first used.
        """
        self._broker, self._execute = broker, execute
        self._open_connection, self._lifetime_ms = open_connection, lifetime_ms
        self._line: BlockingConnection | None = None
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

    @contextlib.contextmanager
    def expect(self, request_id: str) -> Iterator[Slot]:
        """Where a reply will be put; nobody waits for it any more once the block is left."""
        slot = Slot()
        with self._changed:
            self._box.add(request_id, slot)
        try:
            yield slot
        finally:
            with self._changed:
                self._box.waiting.pop(request_id, None)

    def wait(self, slot: Slot, deadline: float) -> Reply | None:
        """The reply, or None if it is not there by `deadline` (monotonic seconds)."""
        while slot.reply is None and (left := deadline - time.monotonic()) > 0:
            if self._take_turn(slot, left):
                try:
                    self._read(deadline)
                    if slot.reply is None:
                        self._renew(min(deadline, time.monotonic() + RENEWAL_SECONDS))
                finally:
                    self._end_turn()
        return slot.reply

    def close(self) -> None:
        """Delete the inbox; the server forgets it by itself otherwise."""
        if self._box.is_open and self._box.process == os.getpid():
            with contextlib.suppress(LeanMQError):
                self._execute(self._broker.close_inbox(self._box.name), time.monotonic() + CLOSE_SECONDS)

    def _begin(self) -> None:
        """Also in a forked child, where other threads of the parent may have held the locks."""
        self._box: Mailbox[Slot] = Mailbox(os.getpid())
        self._changed = threading.Condition()
        self._keeping = threading.Lock()
        self._has_reader = False

    def _take_turn(self, slot: Slot, seconds: float) -> bool:
        """Wait for the reply, or for a time when nobody reads. True: now this thread does."""
        with self._changed:
            self._changed.wait_for(lambda: slot.reply is not None or not self._has_reader, seconds)
            is_free = slot.reply is None and not self._has_reader
            self._has_reader = self._has_reader or is_free
            return is_free

    def _end_turn(self) -> None:
        with self._changed:
            self._has_reader = False
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
                with self._changed:
                    box.move()
        if not box.is_open:
            self._execute(self._broker.open_inbox(box.name, lifetime_ms=self._lifetime_ms), deadline)
        box.note_kept(now)

    def _read(self, deadline: float) -> None:
        """Wait for replies once, for everybody; who reads for others goes on to its own deadline at most."""
        left_ms = max(1, min(LONGEST_READ_MS, int((deadline - time.monotonic()) * 1000)))
        box = self._box
        name = box.name
        try:
            if self._line is None:
                self._line = self._open_connection()
            read = self._broker.read_inbox(name, box.read_to, count=READ_AT_ONCE, block_ms=left_ms)
            arrived = self._line.execute(read, left_ms / 1000 + MARGIN_SECONDS)
        except BrokerUnavailableError:
            time.sleep(min(PAUSE_SECONDS, left_ms / 1000))
            return
        with self._changed:
            if name == box.name:  # else it was gone meanwhile, and there is another
                for slot, reply in box.take(arrived):
                    slot.reply = reply
