"""Resources as canonical data: what the server records, compares and hands back.

A spec is the JSON form of one declared resource with every default filled in, so that two spellings of the
same thing are one spec. Its digest is what plan compares; the digest of an *address* (a queue or route that
a sender may name) also covers everything sending to it depends on, so that a stale client is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from leanmq_topology.topology.durability import MEMORY
from leanmq_topology.topology.model import (
    ROUTE_TYPES,
    MessageType,
    Queue,
    RequestRoute,
    Route,
    Target,
    Topology,
)

Spec = dict[str, Any]

_encode = msgspec.json.Encoder(order="deterministic").encode
_TYPE_NAMES = {kind: name for name, kind in ROUTE_TYPES.items()}


def digest(spec: Any) -> str:
    """Sixteen hex digits that change when the spec does."""
    return blake2b(_encode(spec), digest_size=8).hexdigest()


def resource_specs(topology: Topology) -> dict[str, Spec]:
    """Address (`queues.billing`) -> spec, for all that apply records: messages, queues and routes.

    Handlers are left out: they concern workers, not the server.
    """
    specs: dict[str, Spec] = {}
    for message in topology.messages.values():
        specs[f"messages.{message.name}"] = msgspec.to_builtins(message)
    for queue in topology.queues.values():
        specs[f"queues.{queue.name}"] = {
            **msgspec.to_builtins(queue),
            "durability": queue.durability or _broker_durability(topology),
        }
    for route in topology.routes.values():
        specs[f"routes.{route.name}"] = {"type": route_type(route), **msgspec.to_builtins(route)}
    return specs


def _broker_durability(topology: Topology) -> str | None:
    """What its queues have from the broker: recorded with each, so that senders with an older file follow."""
    level = topology.broker.durability
    return None if level == str(MEMORY) else level


def resource_digests(specs: Mapping[str, Spec]) -> dict[str, str]:
    """Address -> digest of its spec."""
    return {address: digest(spec) for address, spec in specs.items()}


def fingerprint(specs: Mapping[str, Spec], own: Mapping[str, str] | None = None) -> str:
    """One digest for a whole topology as the server sees it. `own` are its resource digests, where known."""
    return digest(dict(own or resource_digests(specs)))


def address_digests(specs: Mapping[str, Spec], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name of each queue and route -> digest of all that sending to it depends on.

    `own` are the resource digests of `specs`, where known.
    """
    own = own or resource_digests(specs)
    queues = {
        name: digest([own[address], _digests(own, "messages", spec["accepts"])])
        for address, spec in specs.items()
        for kind, name in [_split(address)]
        if kind == "queues"
    }
    routes = {}
    for address, spec in specs.items():
        kind, name = _split(address)
        if kind == "routes":
            types = [
                *spec.get("accepts", ()),
                *(spec[part] for part in ("request", "reply", "error") if spec.get(part)),
            ]
            targets = (
                [spec["queue"]] if "queue" in spec else [target["queue"] for target in spec.get("to", ())]
            )
            routes[name] = digest(
                [own[address], _digests(own, "messages", types), [queues.get(target) for target in targets]]
            )
    return {**queues, **routes}


def read_resource(address: str, spec: Spec) -> MessageType | Queue | Route:
    """The model value that a recorded spec stands for. Keys a newer version added are ignored."""
    kind, _ = _split(address)
    if kind == "messages":
        return msgspec.convert(spec, MessageType)
    if kind == "queues":
        return msgspec.convert(spec, Queue)
    fields = {key: value for key, value in spec.items() if key != "type"}
    return msgspec.convert(fields, ROUTE_TYPES[spec["type"]])


def route_type(route: Route) -> str:
    """The word the file uses: `fanout`, `topic`, `request`, `ephemeral`."""
    return _TYPE_NAMES[type(route)]


def targets_of(route: Route) -> tuple[Target, ...]:
    """The queues behind a route, whatever its type."""
    if isinstance(route, RequestRoute):
        return (Target(queue=route.queue),)
    return getattr(route, "to", ())


def _split(address: str) -> tuple[str, str]:
    kind, _, name = address.partition(".")
    return kind, name


def _digests(own: Mapping[str, str], kind: str, names: list[str]) -> list[str | None]:
    return [own.get(f"{kind}.{name}") for name in names]
