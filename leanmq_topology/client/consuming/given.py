"""What one iterator handed to its caller and is not settled yet."""

from __future__ import annotations

from leanmq_topology.client.consuming.held import Held
from leanmq_topology.client.consuming.settling import choose_unsettled
from leanmq_topology.client.consuming.shelf import Shelf


class Given:
    """Settled ones are dropped now and then, so that it never grows far beyond what is held."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._helds: list[Held] = []
        self._tidy_at = 64

    def add(self, held: Held) -> None:
        self._helds.append(held)
        if len(self._helds) >= self._tidy_at:
            self._helds = [one for one in self._helds if not one.ended]
            self._tidy_at = 64 + 2 * len(self._helds)

    def give_back(self) -> None:
        """The iterator ends: what is unsettled goes back at once; it was handed out, so that counts."""
        give_back(self._shelf, self._helds)


def give_back(shelf: Shelf, helds: list[Held]) -> None:
    for held in helds:
        if not held.ended and not held.lost:
            shelf.give_up(held, choose_unsettled(held, shelf), started=held.handed_out)
