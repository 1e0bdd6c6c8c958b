"""Desired and live state -> plan. Pure: the same two states always give the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from leanmq_topology.plan.changes import Backlog, Change, Create, Orphan, Plan, Update, gather_backlog
from leanmq_topology.plan.live_state import AppliedResource, Damage, LiveState, QueueState
from leanmq_topology.topology.specs import Spec, address_digests, fingerprint, resource_digests

_LOST = {
    Damage.MISSING: "its queue is gone from the server; it is made again, empty",
    Damage.GROUP_GONE: "its consumer group is gone; made again, it delivers what is not acknowledged",
    Damage.RECORD_GONE: "the record of its limits is gone; it is written again",
    Damage.WRONG_TYPE: "something else lies under one of its keys",
}


def diff(desired: Mapping[str, Spec], live: LiveState) -> Plan:
    """What makes `live` match `desired`, in the order of `desired`; what is only on the server comes last.

    Resources are compared by the digest of their canonical form, so spelling and defaults never differ.
    """
    own = resource_digests(desired)
    orphans = {address: live.resources[address] for address in sorted(live.resources.keys() - desired.keys())}
    changes = [*_declared_changes(desired, own, live), *_show_orphans(orphans, live)]
    goal = address_digests(
        {**{address: resource.spec for address, resource in orphans.items()}, **desired},
        {**{address: resource.hash for address, resource in orphans.items()}, **own},
    )
    stale = {name: known for name, known in goal.items() if live.addresses.get(name) != known}
    target = fingerprint(desired, own)
    return Plan(
        changes=tuple(changes),
        unchanged=len(desired) - sum(1 for change in changes if not isinstance(change, Orphan)),
        fingerprint=live.fingerprint,
        generation=live.generation,
        goal_fingerprint=target,
        goal_addresses=goal,
        stale_addresses=stale,
        record_reason=_record_reason(live, target, stale),
    )


def queue_name(address: str) -> str | None:
    """The queue an address stands for, None where it stands for a message or a route."""
    kind, _, name = address.partition(".")
    return name if kind == "queues" else None


def _declared_changes(
    desired: Mapping[str, Spec], own: Mapping[str, str], live: LiveState
) -> Iterator[Change]:
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
    if damage is None and applied.hash == known:
        return None
    reason = _LOST[damage] if damage else None
    return Update(address=address, before=applied.spec, after=spec, reason=reason, backlog=_backlog(state))


def _found_already(state: QueueState | None) -> str | None:
    """Keys of a queue that nobody applied: undeclared until now, or left by hand. Its messages stay."""
    if state is None or state.damage is Damage.MISSING:
        return None
    return "the server already holds a queue of this name; its messages stay"


def _show_orphans(orphans: Mapping[str, AppliedResource], live: LiveState) -> Iterator[Orphan]:
    for address, resource in orphans.items():
        name = queue_name(address)
        backlog = _backlog(live.queue(name) if name else None)
        yield Orphan(address=address, before=resource.spec, backlog=backlog)


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
