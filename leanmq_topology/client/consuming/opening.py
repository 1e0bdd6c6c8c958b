"""From the name a consumer gives to what it must know of the queue: its limits, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanmq_topology.brokers.protocol import Broker
from leanmq_topology.diagnostics import closest
from leanmq_topology.errors import SettingError, TopologyNotAppliedError, UnknownTargetError
from leanmq_topology.messages.acceptance import Acceptance
from leanmq_topology.topology.model import MessageType, Queue, Topology
from leanmq_topology.topology.specs import read_resource
from leanmq_topology.upkeep.steps import Steps, ask


def learn_queue(broker: Broker, topology: Topology, name: str) -> Steps[tuple[Queue, Acceptance]]:
    """Its limits and schemas as they are applied; of an undeclared queue, by its own record.

    Raises `UnknownTargetError`, `TopologyNotAppliedError`, and `SettingError` for a route, which holds no
    messages itself.
    """
    fields = yield from ask(broker.read_addresses([name]))
    entry = fields.get(f"queues.{name}")
    if entry is not None:
        queue = read_resource(f"queues.{name}", entry["spec"])
        assert isinstance(queue, Queue)
        return queue, Acceptance(queue, _types(queue, fields, topology))
    if f"routes.{name}" in fields:
        raise _is_a_route(name, fields)
    found = yield from ask(broker.read_limits(name))
    if found is not None:
        return found, Acceptance(found, topology.messages)
    if name in topology.routes:
        raise _is_a_route(name, fields)
    if name in topology.queues:
        raise TopologyNotAppliedError([f"queues.{name}"], namespace=topology.broker.namespace)
    raise UnknownTargetError(name, closest=closest(name, topology.queues))


def _types(queue: Queue, fields: Mapping[str, Any], topology: Topology) -> Mapping[str, MessageType]:
    """The types it accepts; a queue that takes any object is held against what is declared here."""
    if not queue.accepts:
        return topology.messages
    entries = {kind: fields.get(f"messages.{kind}") for kind in queue.accepts}
    found = {
        kind: read_resource(f"messages.{kind}", entry["spec"])
        for kind, entry in entries.items()
        if entry is not None
    }
    return {kind: one for kind, one in found.items() if isinstance(one, MessageType)}


def _is_a_route(name: str, fields: Mapping[str, Any]) -> SettingError:
    queues = sorted(field.removeprefix("queues.") for field in fields if field.startswith("queues."))
    hint = f"consume one of the queues behind it: {', '.join(queues)}" if queues else "use `subscribe`"
    return SettingError("queue", f"{name!r} is a route; messages lie in queues", hint=hint)
