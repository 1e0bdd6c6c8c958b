"""What is applied, as far as a worker is concerned: it runs by the record on the server, not by its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from leanmq_topology.brokers.protocol import AppliedRecord, QueueState
from leanmq_topology.client.applied import QUEUES_A_LOOK, StoringRoute
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.runner.outbox import OutputWriter
from leanmq_topology.topology.model import MessageType, Queue, Topology
from leanmq_topology.topology.specs import digest, read_resource, resource_specs, targets_of

T = TypeVar("T", MessageType, Queue)


class Applied(Struct, frozen=True):
    """The queues and message types of one generation."""

    generation: int
    queues: Mapping[str, Queue]
    types: Mapping[str, MessageType]
    writer: OutputWriter
    """Makes messages of what handlers send."""


def read_applied(record: AppliedRecord, topology: Topology, states: Iterable[QueueState] = ()) -> Applied:
    """The recorded specs as model values. `topology` is the worker's own: the names it may send to.

    `states` are those of `find_lost_queues`.
    """
    return Applied(
        record.generation,
        _read(record, "queues", Queue),
        _read(record, "messages", MessageType),
        OutputWriter(topology, record, leaving=frozenset(state.name for state in states if state.is_leaving)),
    )


def find_lost_queues(record: AppliedRecord, topology: Topology) -> list[str]:
    """Queues that the file has behind routes that are not applied, as many as one call looks at.

    Their state says whether such a route was removed with a queue that drains.
    """
    found = dict.fromkeys(
        target.queue
        for name, route in topology.routes.items()
        if name not in record.addresses and isinstance(route, StoringRoute)
        for target in targets_of(route)
    )
    return list(found)[:QUEUES_A_LOOK]


def check_applied(record: AppliedRecord, topology: Topology, queues: Iterable[str]) -> None:
    """Raise `TopologyNotAppliedError` unless these queues, and the types they accept, are applied."""
    namespace = topology.broker.namespace
    if record.owner is None or not record.generation:
        raise TopologyNotAppliedError([], namespace=namespace)
    needed = [f"queues.{name}" for name in queues]
    needed += sorted({f"messages.{kind}" for name in queues for kind in topology.queues[name].accepts})
    missing = [address for address in needed if address not in record.resources]
    if missing:
        raise TopologyNotAppliedError(missing, namespace=namespace)


def list_differences(record: AppliedRecord, topology: Topology) -> list[str]:
    """Addresses that the file declares otherwise than they are applied, or that only one of the two has."""
    declared = {address: digest(spec) for address, spec in resource_specs(topology).items()}
    applied = {address: entry["hash"] for address, entry in record.resources.items()}
    return sorted(
        address
        for address in declared.keys() | applied.keys()
        if declared.get(address) != applied.get(address)
    )


def _read(record: AppliedRecord, kind: str, wanted: type[T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for address, entry in record.resources.items():
        if address.startswith(f"{kind}."):
            resource = read_resource(address, entry["spec"])
            if isinstance(resource, wanted):
                found[resource.name] = resource
    return found
