"""Making a server match a topology: inspect, diff, gate, apply.

Planning takes no lock and writes nothing. Applying looks again under the lock, so nothing is decided on what
somebody else has changed meanwhile; it is a dull loop over steps worked out before the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from leanmq_topology.brokers.protocol import (
    Applier,
    ApplyLock,
    BlockingConnection,
    Inspector,
    LockHeld,
    LockLost,
    NotEmpty,
    OwnedByAnother,
    QueueState,
)
from leanmq_topology.clock import Clock, system_clock
from leanmq_topology.errors import BlockedChangeError, BrokerError, ConcurrentApplyError
from leanmq_topology.plan.changes import Blocked, Plan, Pruning, Write
from leanmq_topology.plan.diff import diff, queue_name
from leanmq_topology.plan.hazards import Surroundings, find_hazards
from leanmq_topology.plan.live_state import LiveState, build_live_state
from leanmq_topology.plan.ownership import refuse_owner
from leanmq_topology.plan.revision import Revision, build_revision
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.specs import Spec, resource_specs

LOCK_MS = 15_000
"""Lifetime of the apply lock. Each write renews it, so it lapses only when an apply was stopped or killed."""

QUEUES_A_LOOK = 500
"""The most a broker looks at in one call."""


class ReconcilingBroker(Inspector, Applier, Protocol):
    """What the reconciler needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> ReconcilingBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """What an apply did."""

    plan: Plan
    applied: tuple[str, ...]
    """Addresses that were made or changed, in the order it was done. Empty: there was nothing to do."""
    generation: int
    """Of the namespace now."""


def plan_changes(link: Link, topology: Topology, pruning: Pruning | None = None) -> Plan:
    """What `apply_changes` would do now. Takes no lock, writes nothing.

    Raises `BlockedChangeError` when the namespace belongs to a topology of another name.
    """
    desired = resource_specs(topology)
    live = inspect_namespace(link, topology, desired)
    around = Surroundings(desired, live, {handler.queue: name for name, handler in topology.handlers.items()})
    return find_hazards(diff(desired, live, pruning), around)


def inspect_namespace(link: Link, topology: Topology, desired: Mapping[str, Spec]) -> LiveState:
    """The namespace as the server has it: the record, and each queue that is declared or recorded."""
    record = link.connection.execute(link.broker.read_record())
    refuse_owner(record.owner, topology.name, topology.broker.namespace)
    names = [name for address in {**desired, **record.resources} if (name := queue_name(address))]
    return build_live_state(record, _look_at(link, names))


def _look_at(link: Link, names: list[str]) -> Iterator[QueueState]:
    for start in range(0, len(names), QUEUES_A_LOOK):
        yield from link.connection.execute(link.broker.inspect_queues(names[start : start + QUEUES_A_LOOK]))


def apply_changes(
    link: Link,
    topology: Topology,
    *,
    who: str,
    git_commit: str | None = None,
    clock: Clock = system_clock,
    approve: Callable[[Write], bool] = lambda change: False,
    planned: Plan | None = None,
    pruning: Pruning | None = None,
    lock_ms: int = LOCK_MS,
) -> AppliedPlan:
    """Make the server match `topology`. With nothing to do it writes nothing, not even a lock.

    `approve` is asked for each risky change, under the lock; by default none is approved. `planned` saves the
    look before the lock when the caller has just planned. With `pruning`, what is no longer declared goes.
    Killed at any point, the next apply completes it.

    Raises `BlockedChangeError` for a blocked or unapproved change (nothing was written), or when a queue that
    was to be deleted got messages meanwhile (it stays, all else was applied); `ConcurrentApplyError` when
    another apply is under way or took over (nothing more was written).
    """
    planned = planned or plan_changes(link, topology, pruning)
    refuse_unapproved(planned, approve)
    if not planned.has_work:
        return AppliedPlan(planned, (), planned.generation)
    with _locked(link, topology, who, lock_ms) as lock:
        plan = plan_changes(link, topology, pruning)
        refuse_unapproved(plan, approve)
        if not plan.has_work:
            link.connection.execute(link.broker.release_lock(lock))
            return AppliedPlan(plan, (), plan.generation)
        if not link.connection.execute(link.broker.renew_lock(lock)):
            raise ConcurrentApplyError("the lock lapsed while the server was looked at", hint=_GO_ON)
        revision = build_revision(plan, owner=topology.name, by=who, at_ms=clock(), commit=git_commit)
        return AppliedPlan(plan, _carry_out(link, lock, revision), revision.generation)


def refuse_unapproved(plan: Plan, approve: Callable[[Write], bool]) -> None:
    """The gate: raises `BlockedChangeError` if a change is blocked, or risky and not approved."""
    if plan.blocked:
        raise BlockedChangeError(
            _addresses(plan.blocked), _reasons(plan.blocked), hint=_mend(plan.blocked[0])
        )
    unapproved = [change for change in plan.risky if not approve(change)]
    if unapproved:
        raise BlockedChangeError(
            _addresses(unapproved),
            _reasons(unapproved),
            hint="look at the plan; `leanmq apply --yes` approves it",
        )


def _carry_out(link: Link, lock: ApplyLock, revision: Revision) -> tuple[str, ...]:
    done: list[str] = []
    kept: list[NotEmpty] = []
    for step in link.broker.write_revision(lock, revision, done):
        match link.connection.execute(step):
            case LockLost(reason):
                raise ConcurrentApplyError(reason, hint=_GO_ON)
            case OwnedByAnother(owner):
                refuse_owner(owner, revision.owner, revision.owner)
            case NotEmpty() as queue:
                kept.append(queue)
            case written:
                done.extend(written.addresses)
    if kept:
        counts = ", ".join(f"{queue.messages:,} in {queue.address}" for queue in kept)
        came = f"messages came while it was applied ({counts}): kept, all else is applied"
        raise BlockedChangeError([queue.address for queue in kept], came, hint="look at the plan again")
    return tuple(done)


@contextmanager
def _locked(link: Link, topology: Topology, who: str, lock_ms: int) -> Iterator[ApplyLock]:
    """Hold the apply lock. The last step of an apply lets it go; here it is let go when something failed."""
    taken = link.connection.execute(link.broker.take_lock(topology.name, who, lifetime_ms=lock_ms))
    match taken:
        case LockHeld(holder, expires_in_ms):
            raise ConcurrentApplyError(holder, hint=_wait_for(expires_in_ms))
        case OwnedByAnother(owner):
            refuse_owner(owner, topology.name, topology.broker.namespace)
            raise AssertionError("a namespace is never refused to its owner")
    try:
        yield taken
    except BaseException:
        with suppress(BrokerError):
            link.connection.execute(link.broker.release_lock(taken))
        raise


_GO_ON = "what it wrote is complete in itself; apply again to go on from there"


def _wait_for(expires_in_ms: int) -> str:
    seconds = max(1, -(-expires_in_ms // 1000))
    return f"wait for it to end; if it was killed, its lock lapses within {seconds} s"


def _addresses(changes: tuple[Blocked, ...] | list[Write]) -> list[str]:
    return [change.address for change in changes]


def _reasons(changes: tuple[Blocked, ...] | list[Write]) -> str:
    return "; ".join(hazard.message for change in changes for hazard in change.hazards)


def _mend(change: Blocked) -> str | None:
    return next((hazard.suggestion for hazard in change.hazards if hazard.is_error), None)
