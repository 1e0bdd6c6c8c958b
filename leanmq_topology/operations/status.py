"""One namespace at a glance, as it is applied and as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from leanmq_topology.brokers.protocol import (
    AppliedRecord,
    BlockingConnection,
    Inspector,
    QueueState,
    Roster,
    WorkerState,
)
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.topology.model import MessageType, Queue, Route
from leanmq_topology.topology.specs import read_resource

QUEUES_A_LOOK = 500
"""The most a broker looks at in one call."""

LOOKS_A_QUEUE = 20
"""At its ready messages, for those that have expired: 10,000 of them, the oldest first."""
LOOKS_IN_ALL = 200
"""Shared by all queues: 100,000 messages, about a tenth of a second of the server's time."""


class LookingBroker(Inspector, Roster, Protocol):
    """What looking needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> LookingBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


@dataclass(frozen=True, slots=True)
class Overdue:
    """Ready messages of a queue that nobody will start any more, because they have expired."""

    expired: int = 0
    looked_at: int = 0
    """Out of so many, the oldest: what lies behind them was not looked at."""


@dataclass(frozen=True, slots=True)
class Status:
    """One namespace at a glance, as it is applied and as it is now."""

    generation: int
    queues: Mapping[str, Queue]
    routes: Mapping[str, Route]
    states: Mapping[str, QueueState]
    """By queue; each of `queues` has one."""
    workers: Sequence[WorkerState]
    route_counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What routes counted themselves, by route."""
    overdue: Mapping[str, Overdue] = field(default_factory=dict)
    """By queue, as far as they were looked at."""

    def workers_of(self, queue: str) -> list[WorkerState]:
        """Running workers that handle this queue."""
        return [worker for worker in self.workers if queue in _names(worker, "queues")]

    def workers_that_paused(self, queue: str) -> list[WorkerState]:
        """Those among them that confirmed not to read it any more."""
        return [worker for worker in self.workers if queue in _names(worker, "paused")]


def read_status(link: Link, namespace: str) -> Status:
    """Look without touching. Raises `TopologyNotAppliedError` where nothing was ever applied."""
    record = link.connection.execute(link.broker.read_record())
    if record.owner is None:
        raise TopologyNotAppliedError([], namespace=namespace)
    queues, routes = _read_resources(record)
    states: dict[str, QueueState] = {}
    for part in _parts(list(queues)):
        states |= {state.name: state for state in link.connection.execute(link.broker.inspect_queues(part))}
    workers = _read_workers(link, list(queues))
    return Status(
        record.generation, queues, routes, states, workers, _read_route_counters(link, list(routes))
    )


def count_overdue(link: Link, status: Status) -> Status:
    """The same, with how much of what is ready has expired. It looks at messages, so its cost is bounded."""
    waiting = [name for name, state in status.states.items() if state.ready]
    share = min(max(LOOKS_IN_ALL // max(len(waiting), 1), 1), LOOKS_A_QUEUE)
    found = {name: _count_overdue(link, name, share) for name in waiting[:LOOKS_IN_ALL]}
    return replace(status, overdue=found)


def _count_overdue(link: Link, queue: str, looks: int) -> Overdue:
    found, after = Overdue(), ""
    for _ in range(looks):
        part = link.connection.execute(link.broker.count_expired(queue, after=after))
        found = Overdue(found.expired + part.expired, found.looked_at + part.looked_at)
        after = part.after
        if not after:
            break
    return found


def read_workers(link: Link, namespace: str) -> list[WorkerState]:
    """Those that run. Raises `TopologyNotAppliedError` where nothing was ever applied."""
    record = link.connection.execute(link.broker.read_record())
    if record.owner is None:
        raise TopologyNotAppliedError([], namespace=namespace)
    return _read_workers(link, list(_read_resources(record)[0]))


def _read_workers(link: Link, queues: list[str]) -> list[WorkerState]:
    consumers: set[str] = set()
    for part in _parts(queues):
        consumers.update(link.connection.execute(link.broker.list_consumers(part)))
    return link.connection.execute(link.broker.inspect_workers(sorted(consumers))) if consumers else []


def _parts(names: list[str]) -> list[list[str]]:
    return [names[start : start + QUEUES_A_LOOK] for start in range(0, len(names), QUEUES_A_LOOK)]


def _read_route_counters(link: Link, names: list[str]) -> dict[str, dict[str, int]]:
    counters: dict[str, dict[str, int]] = {}
    for start in range(0, len(names), QUEUES_A_LOOK):
        part = names[start : start + QUEUES_A_LOOK]
        counters |= link.connection.execute(link.broker.inspect_routes(part))
    return counters


def _read_resources(record: AppliedRecord) -> tuple[dict[str, Queue], dict[str, Route]]:
    queues: dict[str, Queue] = {}
    routes: dict[str, Route] = {}
    for address, entry in sorted(record.resources.items()):
        match read_resource(address, entry["spec"]):
            case Queue() as queue:
                queues[queue.name] = queue
            case MessageType():
                pass
            case route:
                routes[route.name] = route
    return queues, routes


def _names(worker: WorkerState, fact: str) -> list[str]:
    return worker.facts.get(fact, "").split(",")
