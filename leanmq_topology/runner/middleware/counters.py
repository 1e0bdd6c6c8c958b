"""What a worker has done so far, for its heartbeat and its last line."""

from __future__ import annotations

from collections.abc import Mapping

from leanmq_topology.messages.outcome import Done, Dropped, MoveToDeadLetters, Outcome, Released, RetryLater

NAMES: dict[type[Outcome], str] = {
    Done: "handled",
    RetryLater: "retried",
    MoveToDeadLetters: "dead-lettered",
    Dropped: "discarded",
    Released: "released",
}


class Counters:
    """Counts outcomes as they are decided."""

    def __init__(self) -> None:
        self._counts: dict[type[Outcome], int] = dict.fromkeys(NAMES, 0)
        self._counted = 0
        self.successes = 0
        """Plain ones, which whoever settles them counts by himself: a call a message would cost more than the
        counting."""

    def count(self, outcome: Outcome) -> None:
        self._counts[type(outcome)] += 1
        self._counted += 1

    @property
    def total(self) -> int:
        return self._counted + self.successes

    def as_dict(self) -> dict[str, int]:
        """Every name with its count, zeros too."""
        found = {name: self._counts[kind] for kind, name in NAMES.items()}
        found[NAMES[Done]] += self.successes
        return found

    def add(self, other: Counters) -> None:
        """Count what another counted, too."""
        for kind, count in other._counts.items():
            self._counts[kind] += count
        self._counted += other._counted
        self.successes += other.successes

    def summary(self) -> str:
        return summarize(self.as_dict())


def summarize(counts: Mapping[str, int]) -> str:
    """`12 handled, 2 retried`; what never happened is left out."""
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return ", ".join(parts) or "nothing to do"
