"""A topology as a drawing: aligned text for a terminal, mermaid for a web page, nodes and edges as data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from leanmq_topology.topology.model import (
    ROUTE_TYPES,
    EphemeralRoute,
    Handler,
    OnExpire,
    Queue,
    Route,
    Target,
    Topology,
)
from leanmq_topology.topology.specs import targets_of
from leanmq_topology.topology.values import format_duration

_TYPE_WORDS = {kind: word for word, kind in ROUTE_TYPES.items()}
_HEADINGS = ("route", "", "queue", "handler", "calls", "dead-lettered after")


@dataclass(frozen=True, slots=True)
class Edge:
    """Messages go from one address to another; `label` says which ones, or when."""

    origin: str
    goal: str
    label: str = ""


def draw_text(topology: Topology) -> str:
    """One line for each way a message can take, then what the filters let through."""
    rows = [*_route_rows(topology), *_direct_rows(topology)]
    table = _align([_HEADINGS, *rows])
    filters = [
        f"? {route.name} to {target.queue}: {describe_filter(target)}"
        for route in topology.routes.values()
        for target in targets_of(route)
        if describe_filter(target)
    ]
    return "\n".join([*table, *(["", *filters] if filters else [])])


def draw_mermaid(topology: Topology) -> str:
    """A mermaid flowchart, left to right; dotted arrows lead to dead letters."""
    numbers = count(1)
    names: dict[str, str] = {}
    lines = ["flowchart LR"]
    for address, shape, label in _mermaid_nodes(topology):
        names[address] = f"n{next(numbers)}"
        left, right = shape
        lines.append(f"  {names[address]}{left}{_quote(label)}{right}")
    for edge in list_edges(topology):
        label = f"|{_quote(edge.label)}|" if edge.label else ""
        arrow = "-.->" if edge.goal.startswith("dead_letters.") else "-->"
        lines.append(f"  {names[edge.origin]} {arrow}{label} {names[edge.goal]}")
    return "\n".join(lines)


def draw_data(topology: Topology) -> dict[str, Any]:
    """`nodes` (address, kind) and `edges` (from, to, label)."""
    nodes = [
        {"address": address, "kind": address.partition(".")[0].removesuffix("s")}
        for address, _, _ in _mermaid_nodes(topology)
    ]
    edges = [{"from": edge.origin, "to": edge.goal, "label": edge.label} for edge in list_edges(topology)]
    return {"nodes": nodes, "edges": edges}


def list_edges(topology: Topology) -> Iterator[Edge]:
    """Every way from one resource to the next, in file order."""
    for route in topology.routes.values():
        for target in targets_of(route):
            yield Edge(f"routes.{route.name}", f"queues.{target.queue}", describe_filter(target))
    for handler in topology.handlers.values():
        yield Edge(f"queues.{handler.queue}", f"handlers.{handler.name}")
        if handler.then is not None:
            section = "queues" if handler.then in topology.queues else "routes"
            yield Edge(f"handlers.{handler.name}", f"{section}.{handler.then}", "then")
    for queue in topology.queues.values():
        yield Edge(f"queues.{queue.name}", f"dead_letters.{queue.name}", f"after {_describe_end(queue)}")


def describe_filter(target: Target) -> str:
    """`data.notify = true, data.total {"minimum": 50}`, or the topics; empty when everything passes."""
    parts = [f"topic {' or '.join(target.topics)}"] if target.topics else []
    parts += [_describe_condition(path, wanted) for path, wanted in (target.match or {}).items()]
    return ", ".join(parts)


def _describe_condition(path: str, wanted: Any) -> str:
    match wanted:
        case dict():
            return f"{path} {json.dumps(wanted, ensure_ascii=False)}"
        case list():
            return f"{path} one of {', '.join(json.dumps(item, ensure_ascii=False) for item in wanted)}"
        case _:
            return f"{path} = {json.dumps(wanted, ensure_ascii=False)}"


def _describe_end(queue: Queue) -> str:
    deliveries = "1 delivery" if queue.max_deliveries == 1 else f"{queue.max_deliveries} deliveries"
    if queue.ttl_ms is None:
        return deliveries
    ttl = format_duration(queue.ttl_ms)
    return (
        f"{deliveries} or {ttl}"
        if queue.on_expire is OnExpire.DEAD_LETTER
        else f"{deliveries}; gone after {ttl}"
    )


def _route_rows(topology: Topology) -> Iterator[tuple[str, ...]]:
    handlers = _handlers_by_queue(topology)
    for route in topology.routes.values():
        if isinstance(route, EphemeralRoute):
            yield (_title(route), "───>", "whoever listens", "", "", "never: nothing is stored")
            continue
        targets = targets_of(route)
        for at, target in enumerate(targets):
            title = _title(route) if at == 0 else ""
            yield (title, _branch(at, len(targets), target), *_queue_cells(topology, target.queue, handlers))


def _direct_rows(topology: Topology) -> Iterator[tuple[str, ...]]:
    """Queues that no route leads to: they are sent to by name."""
    handlers = _handlers_by_queue(topology)
    behind = {target.queue for route in topology.routes.values() for target in targets_of(route)}
    for name in topology.queues:
        if name not in behind:
            yield ("", "", *_queue_cells(topology, name, handlers))


def _queue_cells(topology: Topology, name: str, handlers: dict[str, Handler]) -> tuple[str, ...]:
    handler = handlers.get(name)
    end = _describe_end(topology.queues[name])
    if handler is None:
        return (name, "(none)", "", end)
    then = f", then {handler.then}" if handler.then else ""
    return (name, handler.name, f"{handler.call} x{handler.concurrency}{then}", end)


def _handlers_by_queue(topology: Topology) -> dict[str, Handler]:
    return {handler.queue: handler for handler in topology.handlers.values()}


def _title(route: Route) -> str:
    return f"{route.name} ({_TYPE_WORDS[type(route)]})"


def _branch(at: int, total: int, target: Target) -> str:
    first, last = at == 0, at == total - 1
    fork = ("──" if last else "─┬") if first else (" └" if last else " ├")
    return f"{fork}{'?' if describe_filter(target) else '─'}>"


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in rows]


def _mermaid_nodes(topology: Topology) -> Iterator[tuple[str, tuple[str, str], str]]:
    """Address, the brackets that give the shape, and the text inside."""
    for route in topology.routes.values():
        yield f"routes.{route.name}", ("{{", "}}"), _title(route)
    for name in topology.queues:
        yield f"queues.{name}", ("[(", ")]"), name
    for handler in topology.handlers.values():
        yield f"handlers.{handler.name}", ("[", "]"), f"{handler.name} x{handler.concurrency}"
    for name in topology.queues:
        yield f"dead_letters.{name}", ("[/", "/]"), f"{name} dead letters"


def _quote(text: str) -> str:
    """Quotes and line ends would end a label."""
    escaped = text.replace("&", "#amp;").replace('"', "#quot;").replace("\n", " ")
    return f'"{escaped}"'
