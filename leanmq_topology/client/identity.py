"""Ids of messages and producers, made anew in a forked child so that it never repeats its parent's."""

from __future__ import annotations

import base64
import os
import threading

from leanmq_topology.clock import system_clock
from leanmq_topology.messages.ids import MessageIds

PRODUCER_BYTES = 10

_ids = MessageIds(system_clock, os.urandom)
_lock = threading.Lock()


def new_message_id() -> str:
    """An id that no other message has; ids rise with time. Safe in threads."""
    with _lock:
        return _ids.next()


def new_message_ids(count: int) -> list[str]:
    """Several of them, for the price of one look at the clock."""
    with _lock:
        return _ids.take(count)


class Producer:
    """Who sends, and how often it did: what lets the server see that a flush came twice."""

    __slots__ = ("_name", "_process", "_sequence")

    def __init__(self) -> None:
        self._begin()

    def next(self) -> tuple[str, int]:
        """Name and sequence of the next flush."""
        if self._process != os.getpid():
            self._begin()
        self._sequence += 1
        return self._name, self._sequence

    def _begin(self) -> None:
        self._process = os.getpid()
        self._name = base64.b32encode(os.urandom(PRODUCER_BYTES)).decode().lower()
        self._sequence = 0


def _renew_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it while this process forked
    _ids.renew()


os.register_at_fork(after_in_child=_renew_in_child)
