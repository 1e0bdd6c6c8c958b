"""The file as a whole: what leads where, what leads nowhere, and how much of it there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.model import FanoutRoute, RequestRoute, TopicRoute
from leanmq_topology.topology.specs import targets_of

MAX_QUEUES = 10_000
MAX_SUBSCRIBERS = 1_000
MAX_CYCLES = 20

Edges = Mapping[str, Mapping[str, ValuePath]]
"""Queue or route -> where its messages go on -> the place in the file that says so."""


def check_cycles(draft: Draft) -> Findings:
    """Routes lead round always; a handler cuts its circle whenever it returns None."""
    edges = _edges(draft)
    for cycle in _cycles(edges):
        place, way = edges[cycle[0]][cycle[1]], " -> ".join(cycle)
        if _passes_a_handler(cycle, edges):
            yield draft.warning(
                "LMQ308",
                f"messages go round until a handler returns None: {way}",
                place,
                suggestion="make sure that one of these handlers does",
                at_key=True,
            )
        else:
            yield draft.error(
                "LMQ308",
                f"messages would go round for ever: {way}",
                place,
                suggestion="cut the circle at one place",
                at_key=True,
            )


def check_routes_to_routes(draft: Draft) -> Findings:
    routes, queues = draft.entries("routes"), draft.entries("queues")
    circling = {name for cycle in _cycles(_edges(draft)) for name in cycle}
    for route in draft.topology.routes.values():
        for target in targets_of(route):
            name = target.queue
            if name in routes and name not in queues and not {name, route.name} <= circling:
                yield draft.error(
                    "LMQ335",
                    f"{name!r} is a route; a route delivers to queues",
                    ("routes", route.name, "to", name),
                    suggestion="name that route's queues here",
                    at_key=True,
                )


def check_queue_count(draft: Draft) -> Findings:
    count = len(draft.entries("queues"))
    if count > MAX_QUEUES:
        yield draft.error(
            "LMQ411",
            f"{count:,} queues are more than one topology may declare ({MAX_QUEUES:,})",
            ("queues",),
            suggestion="split the file into several topologies, each with its own namespace",
            at_key=True,
        )


def check_subscriber_count(draft: Draft) -> Findings:
    for route in draft.topology.routes.values():
        count = len(targets_of(route))
        if count > MAX_SUBSCRIBERS:
            yield draft.error(
                "LMQ412",
                f"{count:,} subscribers are more than one atomic send can reach ({MAX_SUBSCRIBERS:,})",
                ("routes", route.name, "to"),
                suggestion="split the route in two",
                at_key=True,
            )


def check_unhandled_queues(draft: Draft) -> Findings:
    """Only where the file declares handlers at all: many topologies are consumed by programs of their own."""
    if not draft.topology.handlers or not _is_whole(draft):
        return
    handled, fed = _handled(draft), _fed(draft)
    for name in draft.topology.queues:
        if name in fed and name not in handled:
            yield draft.warning(
                "LMQ331",
                f"no handler takes messages from {name!r}, but {fed[name]} brings some",
                ("queues", name),
                suggestion=f"add a handler: {name}: {{queue: {name}, call: …}}",
                at_key=True,
            )


def check_unused_queues(draft: Draft) -> Findings:
    topology = draft.topology
    if not topology.handlers or not _is_whole(draft):
        return
    handled, fed = _handled(draft), _fed(draft)
    for name in topology.queues:
        if name not in fed and name not in handled:
            yield draft.warning(
                "LMQ332",
                f"no route or handler uses queue {name!r}",
                ("queues", name),
                suggestion="add a handler for it, or take it out",
                at_key=True,
            )


def check_unused_types(draft: Draft) -> Findings:
    topology = draft.topology
    # A queue that accepts anything may be sent any type; a misspelt type may have been meant for any.
    if not all(queue.accepts for queue in topology.queues.values()):
        return
    used = {name for queue in topology.queues.values() for name in queue.accepts}
    for route in topology.routes.values():
        if isinstance(route, RequestRoute):
            used |= {route.request, route.reply, route.error or ""}
        else:
            used |= set(route.accepts)
    if not used - {""} <= draft.entries("messages").keys():
        return
    for name in topology.messages:
        if name not in used:
            yield draft.warning(
                "LMQ333",
                f"no queue or route accepts message type {name!r}",
                ("messages", name),
                suggestion="add it to the `accepts` of a queue, or take it out",
                at_key=True,
            )


def _is_whole(draft: Draft) -> bool:
    """Whether every queue that is named exists: one that does not was probably meant to be another."""
    topology, queues = draft.topology, draft.entries("queues")
    named = {handler.queue for handler in topology.handlers.values()}
    named |= {target.queue for route in topology.routes.values() for target in targets_of(route)}
    return named <= queues.keys()


def _handled(draft: Draft) -> set[str]:
    """Queues with a handler, as written: a handler that could not be built still counts."""
    entries = draft.entries("handlers").values()
    return {str(entry.get("queue")) for entry in entries if isinstance(entry, dict)}


def _fed(draft: Draft) -> dict[str, str]:
    """Queue -> the address of what brings it messages."""
    topology = draft.topology
    fed = {h.then: f"handlers.{h.name}" for h in topology.handlers.values() if h.then}
    for route in topology.routes.values():
        fed |= {target.queue: f"routes.{route.name}" for target in targets_of(route)}
    return fed


def _edges(draft: Draft) -> Edges:
    topology = draft.topology
    edges: dict[str, dict[str, ValuePath]] = {}
    for route in topology.routes.values():
        if isinstance(route, FanoutRoute | TopicRoute):
            place = ("routes", route.name, "to")
            edges[route.name] = {target.queue: (*place, target.queue) for target in route.to}
        elif isinstance(route, RequestRoute):
            edges[route.name] = {route.queue: ("routes", route.name, "queue")}
    for handler in topology.handlers.values():
        if handler.then:
            edges.setdefault(handler.queue, {})[handler.then] = ("handlers", handler.name, "then")
    return edges


def _cycles(edges: Edges) -> list[list[str]]:
    """Circles such as `[a, b, a]`, each from where the file names it first; no more than one would read."""
    left = {name: dict(after) for name, after in edges.items()}
    order = {name: at for at, name in enumerate(edges)}
    cycles: list[list[str]] = []
    while len(cycles) < MAX_CYCLES and (circle := _find_cycle(left)):
        first = min(range(len(circle)), key=lambda at: order[circle[at]])
        cycle = [*circle[first:], *circle[: first + 1]]
        cycles.append(cycle)
        del left[cycle[-2]][cycle[-1]]
    return cycles


def _passes_a_handler(cycle: Sequence[str], edges: Edges) -> bool:
    return any(edges[name][after][0] == "handlers" for name, after in pairwise(cycle))


def _find_cycle(edges: Mapping[str, Mapping[str, ValuePath]]) -> list[str]:
    """The names of one circle, each once, in the direction messages take."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as found:
        # The sorter thinks of an edge as "depends on", which is the other way round.
        return list(reversed(found.args[1][1:]))
    return []
