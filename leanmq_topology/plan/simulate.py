"""What the server would look like after a plan, without a server. The laws of `diff` are tested with it."""

from __future__ import annotations

from dataclasses import replace

from leanmq_topology.plan.changes import Plan, Write
from leanmq_topology.plan.diff import queue_name
from leanmq_topology.plan.live_state import AppliedResource, LiveState, QueueState
from leanmq_topology.topology.specs import digest


def simulate(plan: Plan, live: LiveState) -> LiveState:
    """`live` after `plan`. A plan with a blocked change, or with nothing to do, changes nothing."""
    if plan.blocked or not plan.has_work:
        return live
    generation = live.generation + 1
    written = {change.address: _applied(change, generation) for change in plan.writes}
    queues = {
        name: _mended(live.queue(name)) for change in plan.writes if (name := queue_name(change.address))
    }
    return replace(
        live,
        generation=generation,
        applied_fingerprint=plan.goal_fingerprint,
        resources={**live.resources, **written},
        addresses={**live.addresses, **plan.goal_addresses},
        queues={**live.queues, **queues},
        unfinished=None,
    )


def _applied(change: Write, generation: int) -> AppliedResource:
    return AppliedResource(spec=change.after, hash=digest(change.after), generation=generation)


def _mended(state: QueueState) -> QueueState:
    """Whatever was wrong is right again; whatever messages there were, are."""
    return replace(state, exists=True, problem=None, damage=None)
