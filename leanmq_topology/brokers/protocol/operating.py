"""What operators do: replay, discard, purge and undo it, pause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import Operation


class Revival(Struct, frozen=True):
    """A dead letter on its way back to its queue, and the headers it goes with."""

    entry_id: str
    headers: Mapping[str, str]


class Replayed(Struct, frozen=True):
    """For each `Revival`: whether the dead letter was still there and is now in its queue."""

    moved: tuple[bool, ...]


class NoRoom(Struct, frozen=True):
    """The queue cannot take them all; nothing was moved."""

    queue: str
    max_length: int
    room: int
    """How many it would take right now."""


class Purge(Struct, frozen=True):
    """One purge of a queue, or of its dead-letter queue: what went, and until when it can come back."""

    queue: str
    purge_id: str
    keep_ms: int
    """How long it can be undone, from `at_ms` on; 0: not at all."""
    at_ms: int = 0
    """Server time; 0 where it was not asked for."""
    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    dead: int = 0

    @property
    def of_dead_letters(self) -> bool:
        return self.dead > 0

    @property
    def messages(self) -> int:
        """How many went."""
        return self.ready + self.in_flight + self.delayed + self.dead


class Undone(Struct, frozen=True):
    """One step of undoing a purge."""

    restored: int
    left: int
    """Messages that need further steps."""


class Operator(Protocol):
    """What a person does to a queue. Every step is atomic and bounded."""

    def replay(
        self, queue: str, revivals: Sequence[Revival], *, source: str | None = None
    ) -> Operation[Replayed | NoRoom]:
        """Send up to 1,000 dead letters back to this queue: all that are still there, or none.

        They are its own, or those of the queue `source`.

        Id, type and data stay, attempts start anew, the lifetime is the queue's own from now on; it is not
        deduplicated; a full queue answers `NoRoom`, a full server raises `BrokerFullError`.
        """
        ...

    def discard_dead_letters(self, queue: str, entry_ids: Sequence[str]) -> Operation[list[bool]]:
        """Forget up to 1,000 dead letters; for each, whether it was still there."""
        ...

    def purge(self, queue: str, purge_id: str, *, keep_ms: int) -> Operation[Purge]:
        """Take everything out of the queue: ready, in flight and delayed. Workers and senders go on.

        It can be undone for `keep_ms` (0: never, and the memory is free at once). A call that is repeated
        with its `purge_id` (letters and digits) takes nothing more.
        """
        ...

    def purge_dead_letters(self, queue: str, purge_id: str, *, keep_ms: int) -> Operation[Purge]:
        """The same for the dead-letter queue."""
        ...

    def list_purges(self, queue: str) -> Operation[list[Purge]]:
        """Purges of this queue and of its dead-letter queue that can be undone, oldest first."""
        ...

    def undo_purge(self, purge: Purge, *, count: int) -> Operation[Undone | None]:
        """Bring back what a purge took: all at once into an empty queue, else up to `count` messages.

        What was acknowledged since stays away. None: this purge is unknown, or too old.
        """
        ...

    def pause(self, queues: Sequence[str]) -> Operation[list[str]]:
        """Workers stop reading these queues; senders go on. Returns the state each had, `""`: not applied.

        Who rests is told, so it is obeyed at once.
        """
        ...

    def resume(self, queues: Sequence[str]) -> Operation[list[str]]:
        """Undo `pause`; answers likewise."""
        ...
