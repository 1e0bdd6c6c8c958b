"""How much a send survives once it has returned: one value, ordered by what it covers.

    memory              the server has it                             loses: power cut, failover
    disk                and its disk has it                           loses: that disk, a failover
    replicated:N        N replicas have it in memory                  loses: power cut of all of them
    replicated_disk:N   its disk and those of N replicas have it      loses: all of those disks

Two levels need not be comparable (`disk` and `replicated:1`), but any two have a least one that covers both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from typing import TYPE_CHECKING, Final, Self

from msgspec import Struct

if TYPE_CHECKING:
    from leanmq_topology.topology.model import Topology

MOST_REPLICAS: Final = 100
WORDS: Final = ("memory", "disk", "replicated", "replicated_disk")
FORMS: Final = "memory, disk, replicated:N or replicated_disk:N"

_FORM = re.compile(r"(memory|disk)|(replicated(?:_disk)?):([0-9]{1,3})")


class ReplicaCountError(ValueError):
    """A form that is right, with a number of replicas that is not."""


class Durability(Struct, frozen=True):
    """What must have a message before its send returns."""

    disk: bool = False
    """The disk of the server, and of each replica that is counted."""
    replicas: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one of `FORMS`. Raises `ValueError` that says what is allowed."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"expected {FORMS}, found {text!r:.60}")
        if found[1]:
            return cls(disk=found[1] == "disk")
        replicas = int(found[3])
        if not 1 <= replicas <= MOST_REPLICAS:
            raise ReplicaCountError(f"{text} is out of range; 1 to {MOST_REPLICAS} replicas are allowed")
        return cls(found[2] == "replicated_disk", replicas)

    def covers(self, other: Durability) -> bool:
        """Whether a send at this level is at least as safe in every respect."""
        return self.disk >= other.disk and self.replicas >= other.replicas

    def joined(self, other: Durability) -> Durability:
        """The least level that covers both."""
        return Durability(self.disk or other.disk, max(self.replicas, other.replicas))

    def __str__(self) -> str:
        word = ("replicated_disk" if self.disk else "replicated") if self.replicas else ""
        return f"{word}:{self.replicas}" if word else ("disk" if self.disk else "memory")


MEMORY: Final = Durability()
DISK: Final = Durability(disk=True)


def highest(levels: Iterable[Durability]) -> Durability:
    """The least level that covers them all; `memory` for none."""
    return reduce(Durability.joined, levels, MEMORY)


def declared_levels(topology: Topology) -> dict[Durability, list[str]]:
    """Every level a topology asks for, with the queues that ask for it themselves; the broker's is first."""
    levels: dict[Durability, list[str]] = {Durability.parse(topology.broker.durability): []}
    for queue in topology.queues.values():
        if queue.durability is not None:
            levels.setdefault(Durability.parse(queue.durability), []).append(queue.name)
    return levels
