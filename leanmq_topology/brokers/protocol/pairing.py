"""Queue pairs that no topology declares: the classic interface makes them while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.messages.outcome import Failure
from leanmq_topology.topology.model import Queue


class Pair(Struct, frozen=True):
    """A queue pair that was made by a call, or what is left of one."""

    name: str
    created_ms: int
    """Server time of the call that made it; later calls leave it alone."""
    has_queue: bool = True
    """False: only its dead-letter queue is left."""


class Declared(Struct, frozen=True):
    """The applied topology has a queue or route of this name: it alone says what that is."""

    name: str


class Expired(Struct, frozen=True):
    """A stretch of one queue was searched for messages past their time."""

    cursor: str
    """Where to go on; empty at the end."""
    count: int
    """Taken out: discarded or dead-lettered, as the queue has it."""


class PairKeeper(Protocol):
    """Pairs belong to nobody: an apply that declares one takes it over with its messages."""

    def create_pair(self, queue: Queue) -> Operation[Pair | Declared]:
        """Make a pair with these limits unless it is there; mends one that lost its group."""
        ...

    def find_pair(self, name: str) -> Operation[Pair | None]: ...

    def list_pairs(self) -> Operation[list[Pair]]: ...

    def delete_pair(self, name: str, *, dead_letters: bool) -> Operation[bool | Declared]:
        """Delete it with all its messages; its dead letters only if asked. False: there was nothing."""
        ...


class ByHand(Protocol):
    """What a program does to messages by their entry ids, whoever holds them. At most 1,000 a call."""

    def bury(self, queue: str, entry_ids: Sequence[str], failure: Failure) -> Operation[int]:
        """Move messages to the dead-letter queue, delivered or not; returns how many were there."""
        ...

    def expire(self, queue: str, *, cursor: str) -> Operation[Expired]:
        """Take out what is past its time and was never handed out, wherever it lies. Start with `""`."""
        ...

    def forget_history(self, queue: str) -> Operation[int]:
        """Forget the acknowledged messages that it keeps; returns how many there were."""
        ...
