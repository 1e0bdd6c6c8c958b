"""Taking over what the package LeanMQ left on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation
from leanmq_topology.messages.adoption import Move


class OldEntry(Struct, frozen=True):
    """One entry of an old stream: its id and its fields."""

    entry_id: str
    fields: tuple[bytes, ...]
    """Field, value, field, value…"""


class Moved(Struct, frozen=True):
    """What became of a step's entries."""

    waiting: int = 0
    """To be handed out (again)."""
    kept: int = 0
    """Acknowledged before, now in the history."""
    dead: int = 0
    dropped: int = 0
    """Acknowledged copies of what lies in the dead-letter queue."""


class Adopter(Protocol):
    """Every step is atomic, bounded, and may be repeated: what was moved is gone from its old place."""

    def list_old_queues(self, prefix: str) -> Operation[list[str]]:
        """The main queues that LeanMQ registered under this prefix, without it, sorted."""
        ...

    def read_old(self, prefix: str, queue: str, *, dead: bool, count: int) -> Operation[list[OldEntry]]:
        """The oldest entries that were not moved yet."""
        ...

    def move_old(self, prefix: str, queue: str, moves: Sequence[Move]) -> Operation[Moved]:
        """Move entries of an old main queue: where each goes, the old consumer group says at that moment."""
        ...

    def bury_old(self, prefix: str, queue: str, moves: Sequence[Move]) -> Operation[Moved]:
        """Move entries of an old dead-letter queue."""
        ...

    def finish_old(self, prefix: str, queue: str) -> Operation[bool]:
        """Forget an old pair that is empty; False: something came in meanwhile."""
        ...
