"""Live states without a server: what an apply of a topology leaves behind."""

from __future__ import annotations

from msgspec.structs import replace

from leanmq_topology.plan.changes import Plan
from leanmq_topology.plan.diff import diff
from leanmq_topology.plan.hazards import Surroundings, find_hazards
from leanmq_topology.plan.live_state import LiveState, QueueState
from leanmq_topology.plan.simulate import simulate
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.specs import resource_specs


def make_live_state(topology: Topology, *states: QueueState) -> LiveState:
    """The namespace right after an apply of `topology`, its queues empty but for `states`."""
    empty = LiveState(owner=topology.name)
    live = simulate(diff(resource_specs(topology), empty), empty)
    return replace(live, queues={**live.queues, **{state.name: state for state in states}})


def make_plan(topology: Topology, live: LiveState) -> Plan:
    """What the reconciler would plan, hazards included."""
    desired = resource_specs(topology)
    handlers = {handler.queue: name for name, handler in topology.handlers.items()}
    return find_hazards(diff(desired, live), Surroundings(desired, live, handlers))
