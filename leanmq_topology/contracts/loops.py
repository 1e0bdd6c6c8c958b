"""References that never come to an end: `$ref: "#"` alone, or two that point at each other.

A recursive schema is fine as long as each round descends into the data. The graph here holds only the steps
that judge the same value again; a cycle in it would never end, and a chain that doubles at each step would
take 2^n steps.
"""

from __future__ import annotations

from typing import Any

from leanmq_topology.contracts.keywords import IN_PLACE, list_children, walk_schemas
from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.references import find_target, split_reference
from leanmq_topology.contracts.violation import Pointer, format_pointer, parse_pointer

MAX_STEPS = 10_000
"""Schemas that may judge one value, counted along all ways to them."""


def find_loops(schema: dict[str, Any], dialect: str) -> list[SchemaProblem]:
    """Every cycle once, or else the first place that multiplies beyond `MAX_STEPS`."""
    search = _Search(schema, dialect)
    for at, _ in walk_schemas(schema, dialect):
        search.visit(at)
    return search.loops or search.explosions[:1]


class _Search:
    """Depth first, without recursion: a chain of references may be longer than Python's stack."""

    def __init__(self, schema: dict[str, Any], dialect: str) -> None:
        self.schema, self.dialect = schema, dialect
        self.steps: dict[Pointer, int] = {}
        self.loops: list[SchemaProblem] = []
        self.explosions: list[SchemaProblem] = []

    def visit(self, start: Pointer) -> None:
        path: dict[Pointer, list[Pointer]] = {}
        if start not in self.steps:
            path[start] = self._list_next(start)
        while path:
            at, ahead = next(reversed(path.items()))
            if not ahead:
                self._finish(at)
                del path[at]
                continue
            following = ahead.pop()
            if following in path:
                self._report_loop(list(path), following)
            elif following not in self.steps:
                path[following] = self._list_next(following)

    def _finish(self, at: Pointer) -> None:
        total = 1 + sum(self.steps.get(below, 0) for below in self._list_next(at))
        if total > MAX_STEPS and not self.explosions:
            message = f"judging one value takes more than {MAX_STEPS} steps: references multiply from here"
            self.explosions.append(SchemaProblem("LMQ234", message, at))
        self.steps[at] = min(total, MAX_STEPS + 1)

    def _list_next(self, at: Pointer) -> list[Pointer]:
        current = find_target(self.schema, at)
        if not isinstance(current, dict):
            return []
        below = [
            (*at, *tokens) for tokens, _ in list_children(current, self.dialect) if tokens[0] in IN_PLACE
        ]
        if isinstance(current.get("$ref"), str):
            target = parse_pointer(split_reference(current["$ref"])[1]) or ()
            below.append(_normalize(self.schema, target))
        return below

    def _report_loop(self, path: list[Pointer], back_to: Pointer) -> None:
        cycle = [*path[path.index(back_to) :], back_to]
        shown = " → ".join(f"#{format_pointer(at)}" for at in cycle)
        at = (*path[-1], "$ref") if "$ref" in find_target(self.schema, path[-1]) else path[-1]
        message = f"this reference leads back to itself and never ends: {shown}"
        suggestion = "let each round go one level down, through `properties` or `items`"
        self.loops.append(SchemaProblem("LMQ227", message, at, suggestion=suggestion))


def _normalize(schema: Any, tokens: Pointer) -> Pointer:
    """List positions as numbers, so that one place has one name."""
    normal: list[str | int] = []
    for token in tokens:
        here = find_target(schema, tuple(normal))
        normal.append(int(token) if isinstance(here, list) else token)
    return tuple(normal)
