"""What is applied, as far as a worker is concerned: it runs by the record on the server, not by its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from leanmq_topology.brokers.protocol import AppliedRecord
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.runner.outbox import OutputWriter
from leanmq_topology.topology.model import MessageType, Queue, Topology
from leanmq_topology.topology.specs import digest, read_resource, resource_specs

T = TypeVar("T", MessageType, Queue)


class Applied(Struct, frozen=True):
    """The queues and message types of one generation."""

    generation: int
    queues: Mapping[str, Queue]
    types: Mapping[str, MessageType]
    writer: OutputWriter
    """Makes messages of what handlers send."""


def read_applied(record: AppliedRecord, topology: Topology) -> Applied:
    """The recorded specs as model values. `topology` is the worker's own: the names it may send to."""
    return Applied(
        record.generation,
        _read(record, "queues", Queue),
        _read(record, "messages", MessageType),
        OutputWriter(topology, record),
    )


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
