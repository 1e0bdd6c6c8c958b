"""What one apply writes, worked out before its first write, so that carrying it out decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from leanmq_topology.plan.changes import Plan, Removal, Write
from leanmq_topology.topology.specs import Spec, digest


@dataclass(frozen=True, slots=True)
class ResourceWrite:
    """One resource to be recorded and, for a queue, to be made."""

    address: str
    spec: Spec
    hash: str


@dataclass(frozen=True, slots=True)
class ResourceRemoval:
    """One resource to be taken away, or to be put on its way out."""

    address: str
    step: Removal
    may_lose: bool
    """False: a queue that turns out not to be empty stays."""
    name_stays: bool = False
    """Whether a queue or route of the same name is left: what belongs to that one stays."""
    users: tuple[str, ...] = ()
    """Addresses of queues that accept this type: while one of them is there, it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Generation `base_generation + 1` of a namespace, as far as it differs from the one before."""

    owner: str
    base_generation: int
    fingerprint: str
    resources: tuple[ResourceWrite, ...]
    """Messages, then queues, then routes: nothing is recorded before what it needs."""
    addresses: Mapping[str, str]
    """Address digests that change, also those of resources that do not."""
    by: str
    at_ms: int
    commit: str | None = None
    removals: tuple[ResourceRemoval, ...] = ()
    """Routes, then queues, then messages: nothing goes before what needs it."""
    actions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Address -> what is done: `create`, `update`, or the name of a `Removal`. For the history."""
    completes: bool = False
    """It goes on from an apply that did not finish. What that one had done is not among the actions."""

    @property
    def generation(self) -> int:
        return self.base_generation + 1

    @property
    def intent(self) -> str:
        """What the next apply is told if this one never ends."""
        return f"generation {self.generation} by {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRevision:
    """A revision as the namespace remembers it."""

    generation: int
    by: str
    at_ms: int
    """By the clock of who applied."""
    commit: str | None
    fingerprint: str
    """Of the topology then, as clients compare it."""
    summary: Mapping[str, int]
    """How many resources had what done to them: `create`, `update`, `delete`, `drain`, `retain`."""
    changes: Mapping[str, str]
    """Address -> what was done, of as many as are remembered by name."""
    completes: bool = False
    """It went on from an apply that did not finish: what that one had done is not counted."""

    @property
    def changed(self) -> int:
        """How many resources in all."""
        return sum(self.summary.values())


def build_revision(plan: Plan, *, owner: str, by: str, at_ms: int, commit: str | None) -> Revision:
    """The writes of `plan`. It holds no blocked change: the gate stands before this."""
    users = _find_users(plan)
    return Revision(
        owner=owner,
        base_generation=plan.generation,
        fingerprint=plan.goal_fingerprint,
        resources=tuple(
            ResourceWrite(change.address, change.after, digest(change.after))
            for change in sorted(plan.made, key=_order)
        ),
        addresses=plan.stale_addresses,
        by=by,
        at_ms=at_ms,
        commit=commit,
        removals=tuple(
            ResourceRemoval(
                change.address,
                change.step,
                change.may_lose,
                change.address.partition(".")[2] in plan.goal_addresses,
                tuple(users.get(change.address, ())),
            )
            for change in sorted(plan.removed, key=_order, reverse=True)
        ),
        actions={
            **{change.address: change.action for change in plan.made},
            **{change.address: change.step.value for change in plan.removed},
        },
        completes=plan.resumes,
    )


def _find_users(plan: Plan) -> dict[str, list[str]]:
    """Address of each type -> queues that go too and accept it. One of them may turn out not to be empty."""
    users: dict[str, list[str]] = {}
    for change in plan.removed:
        if change.address.startswith("queues."):
            for kind in change.before["accepts"]:
                users.setdefault(f"messages.{kind}", []).append(change.address)
    return users


def _order(change: Write) -> int:
    return _ORDER[change.address.partition(".")[0]]


_ORDER = {"messages": 0, "queues": 1, "routes": 2}
