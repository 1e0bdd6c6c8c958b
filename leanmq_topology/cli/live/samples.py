"""Two looks at a namespace, and how fast things went in between."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from leanmq_topology.operations.status import Status

WINDOW_SECONDS = 5.0
"""Rates are means over about so long: steady enough to be read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `status` is None where the server could not be asked; `problem` says why."""

    at: float
    status: Status | None
    problem: str = ""


@dataclass(slots=True)
class Samples:
    """The looks of the last seconds."""

    _kept: deque[Sample] = field(default_factory=deque)
    problem: str = ""

    def add(self, sample: Sample) -> None:
        self.problem = sample.problem
        if sample.status is None:
            return
        self._kept.append(sample)
        while len(self._kept) > 2 and self._kept[1].at <= sample.at - WINDOW_SECONDS:
            self._kept.popleft()

    @property
    def newest(self) -> Status | None:
        return self._kept[-1].status if self._kept else None

    def rate(self, queue: str, counter: str = "acked") -> float | None:
        """A second, over the window; None before there are two looks, or after the counter began anew."""
        if len(self._kept) < 2:
            return None
        first, last = self._kept[0], self._kept[-1]
        before, after = _count(first, queue, counter), _count(last, queue, counter)
        if before is None or after is None or after < before or last.at <= first.at:
            return None
        return (after - before) / (last.at - first.at)


def _count(sample: Sample, queue: str, counter: str) -> int | None:
    if sample.status is None or queue not in sample.status.states:
        return None
    return (sample.status.states[queue].counters or {}).get(counter, 0)
