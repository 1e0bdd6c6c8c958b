"""Desired and live state -> plan. Pure: the same two states always give the same plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from leanmq_topology.plan.changes import (
    Backlog,
    Create,
    Orphan,
    Plan,
    Pruning,
    Removal,
    Remove,
    Update,
    gather_backlog,
)
from leanmq_topology.plan.live_state import AppliedResource, Damage, LiveState, QueueState
from leanmq_topology.topology.specs import Spec, address_digests, fingerprint, resource_digests

_LOST = {
    Damage.MISSING: "its queue is gone from the server; it is made again, empty",
    Damage.GROUP_GONE: "its consumer group is gone; made again, it delivers what is not acknowledged",
    Damage.RECORD_GONE: "the record of its limits is gone; it is written again",
    Damage.WRONG_TYPE: "something else lies under one of its keys",
    Damage.UNPLACED: "its record does not say where its messages lie",
}

_RETURNS = "it was on its way out; it takes messages again"


def diff(desired: Mapping[str, Spec], live: LiveState, pruning: Pruning | None = None) -> Plan:
    """What makes `live` match `desired`, in the order of `desired`; what is only on the server comes last.

    Resources are compared by the digest of their canonical form, so spelling and defaults never differ.
    Without `pruning` nothing is taken away.
    """
    own = resource_digests(desired)
    orphans = {address: live.resources[address] for address in sorted(live.resources.keys() - desired.keys())}
    declared, left = list(_declared_changes(desired, own, live)), list(_leave(orphans, live, pruning))
    gone = {change.address for change in left if isinstance(change, Remove) and _forgets(change)}
    kept = {address: resource for address, resource in orphans.items() if address not in gone}
    goal = address_digests(
        {**{address: resource.spec for address, resource in kept.items()}, **desired},
        {**{address: resource.hash for address, resource in kept.items()}, **own},
    )
    if kept:  # a name that has changed its kind is what the file says
        goal |= address_digests(desired, own)
    stale = {name: known for name, known in goal.items() if live.addresses.get(name) != known}
    target = fingerprint(desired, own)
    return Plan(
        changes=(*declared, *left),
        unchanged=len(desired) - len(declared),
        fingerprint=live.fingerprint,
        generation=live.generation,
        goal_fingerprint=target,
        goal_addresses=goal,
        stale_addresses=stale,
        record_reason=_record_reason(live, target, stale),
        resumes=live.unfinished is not None,
    )


def queue_name(address: str) -> str | None:
    """The queue an address stands for, None where it stands for a message or a route."""
    kind, _, name = address.partition(".")
    return name if kind == "queues" else None


def _declared_changes(
    desired: Mapping[str, Spec], own: Mapping[str, str], live: LiveState
) -> Iterator[Create | Update]:
    for address, spec in desired.items():
        change = _compare(address, spec, own[address], live)
        if change is not None:
            yield change


def _compare(address: str, spec: Spec, known: str, live: LiveState) -> Create | Update | None:
    applied = live.resources.get(address)
    name = queue_name(address)
    state = live.queue(name) if name else None
    if applied is None:
        return Create(address=address, after=spec, reason=_found_already(state), backlog=_backlog(state))
    damage = state.damage if state else None
    if damage is Damage.MISSING:
        return Create(address=address, after=spec, reason=_LOST[damage], backlog=_backlog(state))
    returns = state is not None and state.is_leaving
    if damage is None and applied.hash == known and not returns:
        return None
    reason = _LOST[damage] if damage else _RETURNS if returns else None
    return Update(address=address, before=applied.spec, after=spec, reason=reason, backlog=_backlog(state))


def _found_already(state: QueueState | None) -> str | None:
    """Keys of a queue that nobody applied: undeclared until now, or left by hand. Its messages stay."""
    if state is None or state.damage is Damage.MISSING:
        return None
    return "the server already holds a queue of this name; its messages stay"


def _leave(
    orphans: Mapping[str, AppliedResource], live: LiveState, pruning: Pruning | None
) -> Iterator[Orphan | Remove]:
    left = [_leave_one(address, resource, live, pruning) for address, resource in orphans.items()]
    users = _find_users(change for change in left if not isinstance(change, Remove) or not _forgets(change))
    for change in left:
        user = users.get(change.address)
        if user and isinstance(change, Remove):
            reason = f"no longer in the file; kept until {user} is empty and goes"
            yield Orphan(address=change.address, before=change.before, reason=reason)
        else:
            yield change


def _leave_one(
    address: str, resource: AppliedResource, live: LiveState, pruning: Pruning | None
) -> Orphan | Remove:
    name = queue_name(address)
    state = live.queue(name) if name else None
    may_lose = pruning is not None and address in pruning.allowed_losses
    step = _choose_step(resource.spec, state, may_lose) if pruning else None
    if step is None:
        reason = _tell_leaving(state)
        return Orphan(address=address, before=resource.spec, backlog=_backlog(state), reason=reason)
    return Remove(
        address=address, before=resource.spec, step=step, may_lose=may_lose, backlog=_backlog(state)
    )


def _find_users(staying: Iterable[Orphan | Remove]) -> dict[str, str]:
    """Address of each message type -> one of these queues that accepts it: its workers go by the record."""
    return {
        f"messages.{kind}": change.address
        for change in staying
        if queue_name(change.address)
        for kind in change.before["accepts"]
    }


def _choose_step(spec: Spec, state: QueueState | None, may_lose: bool) -> Removal | None:
    """None: it is draining, and there is nothing to do but wait. What may be lost is not waited for."""
    if state is None or state.damage is Damage.MISSING:
        return Removal.DELETE
    declared = Removal(spec.get("lifecycle", {}).get("on_remove", Removal.DELETE))
    if declared is not Removal.DRAIN or may_lose or not gather_backlog([state]).total:
        return Removal.DELETE if declared is Removal.DRAIN else declared
    return None if state.is_leaving else Removal.DRAIN


def _forgets(change: Remove) -> bool:
    """Whether it is gone from the record afterwards; a queue that drains is ours until it is empty."""
    return change.step is not Removal.DRAIN


def _tell_leaving(state: QueueState | None) -> str | None:
    if state is None or not state.is_leaving:
        return None
    if gather_backlog([state]).total:
        return "draining: it takes no more messages, and goes once it is empty"
    return "drained: `leanmq apply --prune` deletes it"


def _backlog(state: QueueState | None) -> Backlog | None:
    return None if state is None else gather_backlog([state])


def _record_reason(live: LiveState, target: str, stale: Mapping[str, str]) -> str | None:
    if live.unfinished is not None:
        return f"an earlier apply did not finish ({live.unfinished}); this one completes it"
    if live.applied_fingerprint != target:
        return "the record on the server stands for another topology"
    if stale:
        return f"the record lacks what senders to {len(stale)} addresses must know"
    return None
