"""Judges a run of the system by what its processes wrote down and by what is on the server at the end. Pure.

Each message is known by (key, queue): the key its sender chose, and one queue it was to reach. Classes are
those of Jepsen's queue checker; invariants are

    I1  lost: a send that returned is done, or lies somewhere
    I2  unexpected: nothing is run or kept that was never sent
    I3  conservation: sent = acknowledged + discarded + waiting + delayed + dead …, and nothing lies twice
    I4  a second success has a cause: its worker died, paused or lost its server around the first
    I5  every dead letter has a reason
    I6  nothing is left behind: consumers, connections, keys
    I7  no two runs of one message overlap while leases could be renewed
    I8  progress resumes in time after each fault
    I9  no message is started more often than its limit says
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tests.support.history import Fault, Kind, Outcome, Record


class Slot(NamedTuple):
    """One copy of one message."""

    key: str
    queue: str


class Home(StrEnum):
    """Where a message lies on the server."""

    MAIN = "main"
    """Ready or in flight."""
    DELAYED = "delayed"
    DEAD = "dead"
    TRASH = "trash"
    KEPT = "kept"
    """Acknowledged, and kept as history: it is done."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The counters of one queue."""

    sent: int = 0
    acked: int = 0
    discarded: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    """Made room for others, as their queue said."""
    vanished: int = 0
    """Deleted by somebody while they were in flight, and noticed."""


@dataclass(frozen=True, slots=True)
class FinalState:
    """What is on the server once everything is quiet."""

    homes: Mapping[Home, Counter[Slot]] = field(default_factory=dict)
    reasons: Sequence[tuple[Slot, str]] = ()
    """Of each dead letter."""
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    """By queue; a queue without one is not counted."""
    consumers: Mapping[str, int] = field(default_factory=dict)
    connections: int = 0
    strange_keys: Sequence[str] = ()
    """Keys of the namespace that nobody documented, or that should have a lifetime and have none."""

    def lies(self, slot: Slot) -> list[Home]:
        return [home for home in Home for _ in range(self.homes.get(home, Counter())[slot])]


@dataclass(frozen=True, slots=True)
class Limits:
    """What was promised in this run."""

    lease_s: float
    max_deliveries: int = 5
    recovery_s: float | None = None
    """From a worker's death to the next start of what it ran; from the end of a server fault to any start."""
    loss_window_s: float = 0.0
    """Sends that returned so shortly before a server was killed may be gone (below durability `disk`)."""
    settle_s: float = 1.0
    """How long after a run its acknowledgement may be under way."""
    held_s: float = 5.0
    """How long a worker may hold a message before it starts it: its prefetch, run one after the other."""
    consumers: int | None = None
    """Of a queue, at most."""
    connections: int = 0


REASONS = frozenset(
    {"failed", "crashed", "expired", "invalid", "undecodable", "rejected", "overflow", "manual"}
)
FINAL = frozenset({Outcome.DONE, Outcome.DISCARDED, Outcome.REJECTED})
STALLING = frozenset({Fault.PAUSED, Fault.SERVER_KILLED, Fault.SERVER_STALLED, Fault.CONNECTIONS_CUT})


@dataclass(slots=True)
class Run:
    """One start of a handler."""

    slot: Slot
    worker: str
    attempt: int
    started: float
    redelivered: bool
    ended: float | None = None
    outcome: str = ""


@dataclass(slots=True)
class Findings:
    """The verdict. `violations` is empty when all invariants hold."""

    sent: int = 0
    """Copies whose send returned."""
    runs: int = 0
    lost: list[Slot] = field(default_factory=list)
    unexpected: list[Slot] = field(default_factory=list)
    duplicates: list[Slot] = field(default_factory=list)
    recovered: list[Slot] = field(default_factory=list)
    """Sends whose answer was lost and that were run."""
    concurrent: list[Slot] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)
    """For each run that its worker did not survive: seconds until the message was started again."""
    resumptions_s: list[float] = field(default_factory=list)
    """For each fault of the server: seconds from its end to the next start of anything."""
    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def assert_sound(self) -> None:
        shown = [f"{name}: {text}" for name, found in sorted(self.violations.items()) for text in found[:5]]
        assert not shown, "\n".join([*shown, f"({sum(map(len, self.violations.values()))} violations)"])


def check(records: Iterable[Record], state: FinalState, limits: Limits) -> Findings:
    """Judge one run of the system after it has come to rest."""
    return _Judge(records, state, limits).judge()


class _Judge:
    def __init__(self, records: Iterable[Record], state: FinalState, limits: Limits) -> None:
        self.state, self.limits = state, limits
        self.found = Findings()
        self.invoked: set[Slot] = set()
        self.acked_at: dict[Slot, float] = {}
        self.refused: set[Slot] = set()
        self.unknown: set[Slot] = set()
        self.runs: defaultdict[Slot, list[Run]] = defaultdict(list)
        self.faults: list[Record] = []
        self._open: dict[tuple[Slot, str, int], Run] = {}
        for record in sorted(records, key=lambda record: record.at):
            self._take(record)

    def judge(self) -> Findings:
        found = self.found
        found.sent = len(self.acked_at)
        found.runs = sum(map(len, self.runs.values()))
        found.recovered = sorted(self._unanswered() & self.runs.keys())
        self._check_lost()
        self._check_unexpected()
        self._check_conservation()
        self._check_reasons()
        self._check_leftovers()
        self._check_resumption()
        for slot, runs in self.runs.items():
            self._check_duplicates(slot, runs)
            self._check_overlaps(slot, runs)
            self._check_recovery(slot, runs)
            self._check_limit(slot, runs)
        return found

    # -- reading ----------------------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        slot = Slot(record.key, record.queue)
        match record.kind:
            case Kind.INVOKE:
                self.invoked.add(slot)
            case Kind.OK:
                self.acked_at[slot] = record.at
            case Kind.FAIL:
                self.refused.add(slot)
            case Kind.UNKNOWN:
                self.unknown.add(slot)
            case Kind.START:
                run = Run(slot, record.worker, record.attempt, record.at, record.redelivered)
                self.runs[slot].append(run)
                self._open[slot, record.worker, record.attempt] = run
            case Kind.END:
                ended = self._open.pop((slot, record.worker, record.attempt), None)
                if ended is None:
                    self._violate("I2", f"{slot} ended in {record.worker} without having started")
                else:
                    ended.ended, ended.outcome = record.at, record.note
            case Kind.FAULT:
                self.faults.append(record)

    def _unanswered(self) -> set[Slot]:
        return (self.invoked - self.acked_at.keys() - self.refused) | self.unknown

    def _violate(self, invariant: str, text: str) -> None:
        self.found.violations[invariant].append(text)

    # -- messages ---------------------------------------------------------------------------------------

    def _check_lost(self) -> None:
        for slot, at in self.acked_at.items():
            finished = any(run.outcome in FINAL for run in self.runs.get(slot, ()))
            if finished or self.state.lies(slot):
                continue
            self.found.lost.append(slot)
            if not self._may_be_gone(at):
                self._violate("I1", f"{slot} was sent, never finished, and lies nowhere")

    def _may_be_gone(self, acked_at: float) -> bool:
        """An answer that was read while the server was gone was given before."""
        kills = [fault for fault in self.faults if fault.note == Fault.SERVER_KILLED]
        return any(
            max(0.0, fault.at - acked_at) < self.limits.loss_window_s
            for fault in kills
            if acked_at <= fault.until
        )

    def _check_unexpected(self) -> None:
        kept = {slot for home in self.state.homes.values() for slot in home}
        for slot in sorted((self.runs.keys() | kept) - self.invoked):
            self.found.unexpected.append(slot)
            self._violate("I2", f"{slot} was never sent")
        for slot in sorted((self.runs.keys() | kept) & (self.refused - self.unknown)):
            if slot not in self.acked_at:
                self.found.unexpected.append(slot)
                self._violate("I2", f"{slot} was refused to its sender and is there all the same")

    def _check_conservation(self) -> None:
        for slot in {slot for home in self.state.homes.values() for slot in home}:
            homes = self.state.lies(slot)
            if len(homes) > 1:
                self._violate("I3", f"{slot} lies in {' and '.join(homes)}")
        for queue, ledger in self.state.ledgers.items():
            lying = {home: self._count(home, queue) for home in Home if home is not Home.KEPT}
            gone = ledger.acked + ledger.discarded + ledger.dropped + ledger.vanished
            if ledger.sent != gone + sum(lying.values()):
                self._violate("I3", f"{queue}: sent {ledger.sent}, gone {gone}, lying {lying}")
            if ledger.dead_lettered != lying[Home.DEAD]:
                self._violate(
                    "I3", f"{queue}: {ledger.dead_lettered} dead-lettered, {lying[Home.DEAD]} lie there"
                )

    def _count(self, home: Home, queue: str) -> int:
        held = self.state.homes.get(home, Counter())
        return sum(count for slot, count in held.items() if slot.queue == queue)

    def _check_reasons(self) -> None:
        for slot, reason in self.state.reasons:
            if reason not in REASONS:
                self._violate("I5", f"{slot} is dead for {reason!r}")
        dead = self.state.homes.get(Home.DEAD, Counter())
        if dead.total() != len(self.state.reasons):
            self._violate("I5", f"{dead.total()} dead letters with {len(self.state.reasons)} reasons")

    # -- runs -------------------------------------------------------------------------------------------

    def _check_duplicates(self, slot: Slot, runs: Sequence[Run]) -> None:
        successes = [run for run in runs if run.outcome == Outcome.DONE]
        if len(successes) > 1:
            self.found.duplicates.append(slot)
        for first, second in pairwise(runs):
            if first.outcome not in FINAL or first.ended is None or first.ended > second.started:
                continue  # an overlap is I7's affair
            if not self._explains_repeat(first, first.ended, second):
                self._violate("I4", f"{slot} ran in {first.worker}, then in {second.worker}, for no reason")

    def _explains_repeat(self, first: Run, ended: float, second: Run) -> bool:
        """Its acknowledgement may have been lost: a fault met the run, or the time it was settled in.

        Where the record of who holds what was removed, whatever a worker held by then is handed out again,
        also what it had not started yet.
        """
        settled = min(ended + self.limits.settle_s, second.started)
        if any(self._faults_of(first.worker, first.started, settled)):
            return True
        met = self._faults_of(first.worker, first.started - self.limits.held_s, settled)
        return any(fault.note == Fault.OWNERSHIP_LOST for fault in met)

    def _check_overlaps(self, slot: Slot, runs: Sequence[Run]) -> None:
        for at, first in enumerate(runs):
            for second in runs[at + 1 :]:
                if second.started < self._end_of(first):
                    self.found.concurrent.append(slot)
                    if not self._explains_overlap(first, second):
                        where = f"{first.worker} and {second.worker}"
                        self._violate("I7", f"{slot} ran at once in {where}")

    def _end_of(self, run: Run) -> float:
        died = min((fault.at for fault in self._deaths(run.worker)), default=math.inf)
        return min(math.inf if run.ended is None else run.ended, died)

    def _explains_overlap(self, first: Run, second: Run) -> bool:
        """Renewing failed for about a lease: the last renewal may be a third of one old when it begins."""
        for fault in self._faults_of(first.worker, first.started - self.limits.lease_s, second.started):
            if fault.note == Fault.OWNERSHIP_LOST:
                return True
            if fault.note in STALLING and fault.until - fault.at >= self.limits.lease_s * 2 / 3:
                return True
        return False

    def _check_limit(self, slot: Slot, runs: Sequence[Run]) -> None:
        if len(runs) > self.limits.max_deliveries:
            self._violate("I9", f"{slot} was started {len(runs)} times")

    # -- time -------------------------------------------------------------------------------------------

    def _check_recovery(self, slot: Slot, runs: Sequence[Run]) -> None:
        for at, run in enumerate(runs):
            deaths = [fault.at for fault in self._deaths(run.worker) if fault.at >= run.started]
            if run.ended is not None or not deaths:
                continue
            died = min(deaths)
            again = next((later.started for later in runs[at + 1 :] if later.started > died), None)
            if again is None:
                continue  # it was dead-lettered or still waits; losing it is I1's affair
            self.found.recoveries_s.append(again - died)
            if not self._in_time(died, again):
                self._violate("I8", f"{slot} waited {again - died:.2f} s for another worker")

    def _in_time(self, since: float, until: float) -> bool:
        """Within the bound, or a server fault came between.

        Whoever took it over may have died before starting it: each further death begins a bound of its own.
        """
        bound = self.limits.recovery_s
        if bound is None or any(self._faults_of("", since, until)):
            return True
        deaths = sum(fault.note == Fault.KILLED and since < fault.at < until for fault in self.faults)
        return until - since <= bound * (1 + deaths)

    def _check_resumption(self) -> None:
        starts = sorted(run.started for runs in self.runs.values() for run in runs)
        for fault in self.faults:
            if fault.worker or fault.note == Fault.CONNECTIONS_CUT:
                continue
            after = next((start for start in starts if start > fault.until), None)
            if after is None:
                continue  # nothing was left to do; a queue that is not empty is found by whoever waits for it
            self.found.resumptions_s.append(after - fault.until)
            if not self._resumed_in_time(fault, after):
                self._violate("I8", f"nothing was started for {after - fault.until:.2f} s after {fault.note}")

    def _resumed_in_time(self, fault: Record, after: float) -> bool:
        bound = self.limits.recovery_s
        others = (other for other in self._faults_of("", fault.until, after) if other is not fault)
        return bound is None or after - fault.until <= bound or any(others)

    # -- leftovers --------------------------------------------------------------------------------------

    def _check_leftovers(self) -> None:
        if self.limits.consumers is not None:
            for queue, count in self.state.consumers.items():
                if count > self.limits.consumers:
                    self._violate("I6", f"{queue} has {count} consumers")
        if self.state.connections > self.limits.connections:
            self._violate("I6", f"{self.state.connections} connections are still open")
        for key in self.state.strange_keys:
            self._violate("I6", f"the key {key} is left behind")

    # -- faults -----------------------------------------------------------------------------------------

    def _faults_of(self, worker: str, since: float, until: float) -> Iterator[Record]:
        """Faults that met this worker, or everybody, and overlap this time."""
        for fault in self.faults:
            if fault.worker not in {"", worker}:
                continue
            if fault.at <= until and fault.until >= since:
                yield fault

    def _deaths(self, worker: str) -> list[Record]:
        return [fault for fault in self.faults if fault.worker == worker and fault.note == Fault.KILLED]
