"""One queue as whoever takes messages of it keeps it, as far as upkeep must know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from leanmq_topology.brokers.protocol import Damage, QueueHealth
from leanmq_topology.topology.model import Queue


class HeldMessage(Protocol):
    @property
    def lost(self) -> bool:
        """Somebody else owns it now."""
        ...


class Watched(Protocol):
    """A worker's lane, or a consumer's shelf."""

    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> Queue:
        """As it is applied now."""
        ...

    @property
    def held(self) -> Mapping[str, HeldMessage]:
        """All that was read and is not settled yet, by entry id."""
        ...

    @property
    def room(self) -> int:
        """How many more messages may be held."""
        ...

    @property
    def damage(self) -> Damage | None: ...
    @property
    def paused(self) -> bool: ...
    @property
    def readable(self) -> bool:
        """Whole, and not paused."""
        ...

    def note_health(self, health: QueueHealth) -> bool:
        """Go by what was found on the server; True if reading has to be planned anew."""
        ...
