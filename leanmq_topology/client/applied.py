"""What is applied on the server, as far as a sender has asked: compiled once, read again when it changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from leanmq_topology.contracts.matching import compile_match
from leanmq_topology.contracts.schemas import MessageSchema, compile_schema
from leanmq_topology.contracts.topics import compile_topics
from leanmq_topology.diagnostics import closest
from leanmq_topology.errors import LeanMQError, SettingError, TopologyNotAppliedError, UnknownTargetError
from leanmq_topology.messages.deduplication import read_deduplication
from leanmq_topology.messages.routing import Contract, Destination, Subscriber
from leanmq_topology.topology.durability import Durability, highest
from leanmq_topology.topology.model import (
    ROUTE_TYPES,
    EphemeralRoute,
    FanoutRoute,
    MessageType,
    Queue,
    RequestRoute,
    Target,
    TopicRoute,
    Topology,
)
from leanmq_topology.topology.specs import address_digests, read_resource, resource_specs, targets_of

if TYPE_CHECKING:
    from leanmq_topology.client.sender import Form
    from leanmq_topology.plan.live_state import QueueState

_log = logging.getLogger("leanmq_topology.client")

NOT_APPLIED = ""
"""The digest of an address that no topology declares; the server says whether there is such a queue."""

QUEUES_A_LOOK = 500
"""The most a broker looks at in one call."""

StoringRoute = FanoutRoute | TopicRoute | RequestRoute
"""Routes whose messages lie in queues."""
Fields = Mapping[str, Any]
"""The answer of `Inspector.read_addresses`."""


class AppliedView:
    """The applied addresses that were used so far. Routing and limits follow it, never the local file."""

    def __init__(self, topology: Topology, *, undeclared: Callable[[str], Queue] | None = None) -> None:
        """`undeclared` says what a name is that nobody declared; without it such a name is an error."""
        self._topology, self._undeclared = topology, undeclared
        self.plain_forms: dict[str, Form] = {}
        """What sends without options of their own have in common, by target, for as long as what is known of
        the target counts; kept by who sends."""
        self.request_forms: dict[str, Form] = {}
        """The same of requests, by route."""
        self.known: dict[str, Destination] = {}
        """Those that were read, by name."""
        self._schemas: dict[str, MessageSchema] = {}
        self._declared: dict[str, Contract] = {}
        self._local: Mapping[str, str] | None = None
        self._warned = False
        self._conflicts: set[str] = set()

    @property
    def namespace(self) -> str:
        return self._topology.broker.namespace

    def find(self, name: str) -> Destination | None:
        """The destination, or None if it must be read from the server first.

        Raises `UnknownTargetError` for a name that the topology does not declare.
        """
        found = self.known.get(name)
        if self._undeclared is not None:
            return found
        if found is None and name not in self._topology.queues and name not in self._topology.routes:
            raise UnknownTargetError(name, closest=closest(name, self._topology.target_names()))
        return found

    def find_lost_queues(self, name: str, fields: Fields) -> list[str]:
        """Where a stored route of the file is not applied, the queues that the file has behind it.

        Their state says whether it was removed with one that drains.
        """
        route = self._topology.routes.get(name)
        if f"@{name}" in fields or not isinstance(route, StoringRoute):
            return []
        return [target.queue for target in targets_of(route)[:QUEUES_A_LOOK]]

    def learn(self, name: str, fields: Fields, *, leaving: str | None = None) -> Destination:
        """Take in what the server answered.

        Raises `TopologyNotAppliedError` if it is not there; `leaving` is the queue, behind that name in the
        file, that is on its way out.
        """
        self.plain_forms.pop(name, None)
        digest = fields.get(f"@{name}")
        if digest is None and self._undeclared is not None:
            queue = self._undeclared(name)
            pair = Destination(name, NOT_APPLIED, (_make_subscriber(Target(queue=name), queue),))
            self.known[name] = pair
            return pair
        if digest is None:
            raise self.not_applied(name, leaving=leaving)
        self._warn_if_different(name, digest)
        queues = {
            resource.name: resource
            for address, entry in fields.items()
            if address.startswith("queues.")
            and isinstance(resource := read_resource(address, entry["spec"]), Queue)
        }
        route = _read_route(name, fields)
        targets, accepts = self._read_targets(name, route, queues)
        destination = Destination(
            name,
            digest,
            tuple(_make_subscriber(target, queues[target.queue]) for target in targets),
            {kind: self.read_contract(kind, fields) for kind in accepts},
            highest(self._read_durability(queues[target.queue]) for target in targets),
            isinstance(route, TopicRoute),
            *self._read_answer(route, fields),
        )
        self.known[name] = destination
        return destination

    def foresee_schema(self, name: str) -> MessageSchema | None:
        """What data sent to a target is most likely held against, as far as that is known by now."""
        form = self.plain_forms.get(name)
        return form.schema if form is not None else None

    def forget(self, name: str) -> None:
        """It changed on the server: read it again before the next send."""
        self.known.pop(name, None)
        self.plain_forms.pop(name, None)

    def not_applied(self, name: str, *, leaving: str | None = None) -> TopologyNotAppliedError:
        """`leaving` is the queue, behind that name, that is on its way out."""
        if leaving is not None:
            return TopologyNotAppliedError([f"queues.{leaving}"], namespace=self.namespace, leaving=True)
        kind = "routes" if name in self._topology.routes else "queues"
        return TopologyNotAppliedError([f"{kind}.{name}"], namespace=self.namespace)

    def declared(self, kind: str) -> Contract | None:
        """The contract of a type that the local topology declares, for targets that take any."""
        message = self._topology.messages.get(kind)
        if message is not None and kind not in self._declared:
            self._declared[kind] = Contract(kind, message.version, compile_schema(message.schema))
        return self._declared.get(kind)

    def note_conflict(self, target: str, message_id: str) -> None:
        """A duplicate carried other data than the message it is one of. Said once for each target."""
        if target not in self._conflicts:
            self._conflicts.add(target)
            _log.warning(
                "message %s was sent to %r before, with other data: the first one counts, this one was not "
                "stored again (the server counts such `conflicts`)",
                message_id,
                target,
            )

    def _read_targets(
        self, name: str, route: StoringRoute | None, queues: Mapping[str, Queue]
    ) -> tuple[tuple[Target, ...], tuple[str, ...]]:
        """The queues behind a name, and the types it takes."""
        if route is None:
            return (Target(queue=name),), queues[name].accepts
        targets = targets_of(route)
        if any(target.queue not in queues for target in targets):
            raise self.not_applied(name)
        if isinstance(route, RequestRoute):
            return targets, (route.request,)
        return targets, route.accepts or _common_types([queues[target.queue] for target in targets])

    def _read_answer(
        self, route: StoringRoute | None, fields: Fields
    ) -> tuple[Contract | None, int, Contract | None]:
        """What a reply is like, how long it is waited for, and what the data of an error is like."""
        if not isinstance(route, RequestRoute):
            return None, 0, None
        error = None if route.error is None else self.read_contract(route.error, fields)
        return self.read_contract(route.reply, fields), route.timeout_ms, error

    def _read_durability(self, queue: Queue) -> Durability:
        """A queue's own, else the broker's, which is not part of what is applied."""
        return Durability.parse(queue.durability or self._topology.broker.durability)

    def read_contract(self, kind: str, fields: Fields) -> Contract:
        """A type as it is applied, compiled once. Raises `TopologyNotAppliedError`."""
        entry = fields.get(f"messages.{kind}")
        if entry is None:
            raise TopologyNotAppliedError([f"messages.{kind}"], namespace=self.namespace)
        message = read_resource(f"messages.{kind}", entry["spec"])
        if not isinstance(message, MessageType):
            raise TypeError(f"messages.{kind} is recorded as {type(message).__name__}")
        if entry["hash"] not in self._schemas:
            self._schemas[entry["hash"]] = compile_schema(message.schema)
        return Contract(kind, message.version, self._schemas[entry["hash"]])

    def _warn_if_different(self, name: str, applied: str) -> None:
        if self._local is None:
            self._local = address_digests(resource_specs(self._topology))
        if self._local.get(name, applied) != applied and not self._warned:
            self._warned = True
            _log.warning(
                "%r differs between this topology and the one applied in namespace %r; "
                "the applied one counts (see `leanmq plan`)",
                name,
                self.namespace,
            )


def find_leaving(states: Iterable[QueueState]) -> str | None:
    """The first of these queues that is on its way out."""
    return next((state.name for state in states if state.is_leaving), None)


def _read_route(name: str, fields: Fields) -> StoringRoute | None:
    """The route of that name; None: it is a queue."""
    if f"routes.{name}" not in fields:
        return None
    spec = fields[f"routes.{name}"]["spec"]
    route = read_resource(f"routes.{name}", spec) if spec["type"] in ROUTE_TYPES else None
    if isinstance(route, EphemeralRoute):
        raise SettingError(
            "target", f"{name!r} is ephemeral: it stores nothing that could be sent", hint="use `publish`"
        )
    if not isinstance(route, StoringRoute):
        raise LeanMQError(
            f"routes.{name} is applied as a type of route this version cannot send to",
            hint="upgrade leanmq-topology here",
        )
    return route


def _make_subscriber(target: Target, queue: Queue) -> Subscriber:
    matcher = None if target.match is None else compile_match(target.match)
    once = read_deduplication(target.queue, queue.deduplication)
    is_wanted = compile_topics(target.topics) if target.topics else None
    plain = queue.max_length is None and not queue.delay_ms
    return Subscriber(target.queue, queue.max_message_size, matcher, once, is_wanted, plain)


def _common_types(queues: list[Queue]) -> tuple[str, ...]:
    """The types that every queue takes; a queue that takes anything narrows nothing."""
    choosy = [queue.accepts for queue in queues if queue.accepts]
    return tuple(kind for kind in choosy[0] if all(kind in accepts for accepts in choosy)) if choosy else ()
