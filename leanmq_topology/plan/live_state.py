"""What the server has: read once, frozen, compared with what the file declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from leanmq_topology.topology.specs import Spec, digest


class Damage(StrEnum):
    """How the keys of a queue pair differ from what apply made."""

    MISSING = "missing"
    """There is no stream: never created, or deleted by hand."""
    GROUP_GONE = "group_gone"
    """The stream is there, the group that workers read through is not."""
    RECORD_GONE = "record_gone"
    """Its limits and counters are gone."""
    WRONG_TYPE = "wrong_type"
    """Something else lies under one of its keys; it is never touched."""
    UNPLACED = "unplaced"
    """Its record does not say where its messages lie, and nobody guesses."""


class QueueState(msgspec.Struct, frozen=True):
    """One queue pair as the server has it."""

    name: str
    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    parked: int = 0
    """On their way to a dead-letter queue that is full; never handed out again."""
    dead: int = 0
    kept: int = 0
    """Acknowledged messages in the history."""
    oldest_age_seconds: float | None = None
    """Age of the oldest message that is ready or in flight."""
    consumers: int = 0
    state: str = "active"
    exists: bool = True
    """False: the stream, its group or its record is missing."""
    problem: str | None = None
    """What is wrong with its keys, for people; `damage` says it to programs."""
    counters: Mapping[str, int] | None = None
    """sent, acked, retried, dead_lettered, expired, discarded, dead_expired, vanished, rescued, duplicates,
    conflicts (duplicates with other data), dropped, overflowed."""
    damage: Damage | None = None

    @property
    def is_leaving(self) -> bool:
        """It takes no more messages: it was removed from the file, and is to be drained."""
        return self.state in {"draining", "retired"}

    @property
    def waiting(self) -> int:
        """Messages that still have to be handled: all but the dead letters."""
        return self.ready + self.in_flight + self.delayed


class AppliedRecord(msgspec.Struct, frozen=True):
    """What the server knows of the applied topology, as it is stored."""

    owner: str | None
    format: int
    generation: int
    epoch: str
    resources: Mapping[str, Mapping[str, Any]]
    """Address -> {hash, generation, by, at, commit, spec}."""
    unfinished: str | None = None
    """The intent of an apply that did not finish."""
    addresses: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Name of a queue or route -> digest of all that sending to it depends on."""
    fingerprint: str = ""
    """Of the topology that was applied last."""


class AppliedResource(msgspec.Struct, frozen=True):
    """One resource as it was applied, and by whom."""

    spec: Spec
    hash: str
    generation: int = 0
    by: str = ""
    at: int = 0
    """Milliseconds since 1970-01-01 UTC."""
    commit: str | None = None


class LiveState(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace as the server has it. The default is a namespace that nobody ever applied to."""

    owner: str | None = None
    generation: int = 0
    epoch: str = ""
    applied_fingerprint: str = ""
    resources: Mapping[str, AppliedResource] = msgspec.field(default_factory=dict)
    addresses: Mapping[str, str] = msgspec.field(default_factory=dict)
    queues: Mapping[str, QueueState] = msgspec.field(default_factory=dict)
    unfinished: str | None = None

    def queue(self, name: str) -> QueueState:
        """A queue that was not looked at is a queue that is not there."""
        return self.queues.get(name) or QueueState(name, exists=False, damage=Damage.MISSING)

    @property
    def fingerprint(self) -> str:
        """Changes when a plan made from this state would; message counts are left out, they always move."""
        return digest(
            [
                self.owner,
                self.generation,
                self.epoch,
                self.applied_fingerprint,
                {address: resource.hash for address, resource in self.resources.items()},
                dict(self.addresses),
                {name: state.damage for name, state in self.queues.items() if state.damage},
                sorted(name for name, state in self.queues.items() if state.is_leaving),
                self.unfinished,
            ]
        )


def build_live_state(record: AppliedRecord, queues: Iterable[QueueState]) -> LiveState:
    """The record and the queues that were looked at, as one value."""
    return LiveState(
        owner=record.owner,
        generation=record.generation,
        epoch=record.epoch,
        applied_fingerprint=record.fingerprint,
        resources={address: _read_applied(entry) for address, entry in record.resources.items()},
        addresses=dict(record.addresses),
        queues={state.name: state for state in queues},
        unfinished=record.unfinished,
    )


def _read_applied(entry: Mapping[str, Any]) -> AppliedResource:
    return AppliedResource(
        spec=entry["spec"],
        hash=entry["hash"],
        generation=entry.get("generation", 0),
        by=entry.get("by", ""),
        at=entry.get("at", 0),
        commit=entry.get("commit"),
    )
