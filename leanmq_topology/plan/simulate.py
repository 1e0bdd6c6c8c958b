"""What the server would look like after a plan, without a server. The laws of `diff` are tested with it."""

from __future__ import annotations

from msgspec.structs import replace

from leanmq_topology.plan.changes import Create, Plan, Removal, Remove, Update
from leanmq_topology.plan.diff import queue_name
from leanmq_topology.plan.live_state import AppliedResource, LiveState, QueueState
from leanmq_topology.topology.specs import digest


def simulate(plan: Plan, live: LiveState) -> LiveState:
    """`live` after `plan`. A plan with a blocked change, or with nothing to do, changes nothing."""
    if plan.blocked or not plan.has_work:
        return live
    generation = live.generation + 1
    written = {change.address: _applied(change, generation) for change in plan.made}
    queues = {name: _mended(live.queue(name)) for change in plan.made if (name := queue_name(change.address))}
    after = replace(
        live,
        generation=generation,
        applied_fingerprint=plan.goal_fingerprint,
        resources={**live.resources, **written},
        addresses={**live.addresses, **plan.goal_addresses},
        queues={**live.queues, **queues},
        unfinished=None,
    )
    for change in plan.removed:
        after = _without(after, change, plan)
    return after


def _without(live: LiveState, change: Remove, plan: Plan) -> LiveState:
    name = change.address.partition(".")[2]
    if change.step is Removal.DRAIN:
        return replace(live, queues={**live.queues, name: replace(live.queue(name), state="draining")})
    left = {address: known for address, known in live.resources.items() if address != change.address}
    after = replace(live, resources=left)
    if change.address.startswith("messages."):
        return after
    if name not in plan.goal_addresses:
        after = replace(after, addresses={known: at for known, at in live.addresses.items() if known != name})
    if queue_name(change.address) is None or change.step is Removal.RETAIN:
        return after
    return replace(after, queues={known: state for known, state in live.queues.items() if known != name})


def _applied(change: Create | Update, generation: int) -> AppliedResource:
    return AppliedResource(spec=change.after, hash=digest(change.after), generation=generation)


def _mended(state: QueueState) -> QueueState:
    """Whatever was wrong is right again; whatever messages there were, are."""
    state = replace(state, exists=True, problem=None, damage=None)
    return replace(state, state="active") if state.is_leaving else state
