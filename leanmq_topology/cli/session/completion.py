"""What could come next in a line: commands, names, and from the schemas fields and values. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from leanmq_topology.cli.session.verbs import Verb
from leanmq_topology.topology.model import EphemeralRoute, FanoutRoute, RequestRoute, Route, Topology

_FIELD_BEFORE = re.compile(r'"([^"\\]*)"\s*:\s*[^,{}\[\]]*$')


def complete(line: str, verbs: Mapping[str, Verb], topology: Topology) -> list[str]:
    """Whole words that may stand where the last word of `line` begins."""
    words = line.split(" ")
    if len(words) == 1:
        return _starting(words[0], verbs)
    verb, last = words[0], words[-1]
    if len(words) == 2 or verb in {"sub", "unsub"}:
        return _starting(last, _names_for(verb, topology))
    if words[-2] == "--type":
        return _starting(last, topology.messages)
    if last.startswith("-"):
        return _starting(last, ["--type", "--ttl", "--delay", "--id", "--header", "--topic"])
    return _complete_data(line.split(" ", 2)[2], last, _schemas_of(words[1], topology))


def _names_for(verb: str, topology: Topology) -> list[str]:
    channels = [name for name, route in topology.routes.items() if isinstance(route, EphemeralRoute)]
    durable = [name for name in topology.routes if name not in channels]
    requests = [name for name, route in topology.routes.items() if isinstance(route, RequestRoute)]
    return {
        "send": [*topology.queues, *(name for name in durable if name not in requests)],
        "request": requests,
        "peek": list(topology.queues),
        "dlq": ["list", "show", "stats", "replay", "discard", "export"],
    }.get(verb, channels)


def _schemas_of(target: str, topology: Topology) -> list[Mapping[str, Any]]:
    """The schemas of what a target takes."""
    route = topology.routes.get(target)
    queue = topology.queues.get(target)
    kinds: Iterable[str] = queue.accepts if queue is not None else _types_of(route)
    found = (topology.messages[kind].schema for kind in kinds if kind in topology.messages)
    return [schema for schema in found if isinstance(schema, Mapping)]


def _types_of(route: Route | None) -> Iterable[str]:
    if isinstance(route, RequestRoute):
        return (route.request,)
    return route.accepts if isinstance(route, FanoutRoute | EphemeralRoute) else ()


def _complete_data(data: str, last: str, schemas: list[Mapping[str, Any]]) -> list[str]:
    """The value of the field before it where a colon precedes, else a field that is not there yet."""
    before = _FIELD_BEFORE.search(data)
    if before is not None:
        head = last[: len(last) - len(last.lstrip(_OPENING))]
        head = last[: last.rfind(":") + 1] if ":" in last else head
        return [head + value for value in _values(before[1], schemas) if value.startswith(last[len(head) :])]
    head = last[: len(last) - len(last.lstrip("{,"))]
    there = set(re.findall(r'"([^"\\]*)"\s*:', data))
    fields = dict.fromkeys(name for schema in schemas for name in schema.get("properties", {}))
    wanted = [f'"{name}":' for name in fields if name not in there]
    return [head + field for field in wanted if field.startswith(last[len(head) :])]


_OPENING = "{[,"


def _values(field: str, schemas: list[Mapping[str, Any]]) -> list[str]:
    """What a field may be, as JSON: its enum, its constant, true and false."""
    found: dict[str, None] = {}
    for schema in schemas:
        described = schema.get("properties", {}).get(field, {})
        if not isinstance(described, Mapping):
            continue
        values = [*described.get("enum", ()), *([described["const"]] if "const" in described else ())]
        if described.get("type") == "boolean" and not values:
            values = [True, False]
        found.update(dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in values))
    return list(found)


def _starting(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]
