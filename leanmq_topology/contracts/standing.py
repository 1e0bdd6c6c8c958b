"""What a schema says about a place in the data: declared, left open, or closed out."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from leanmq_topology.contracts.conditions import read_index
from leanmq_topology.contracts.engine import DRAFT_7, DRAFT_2020_12, Schema, build_engine, read_dialect
from leanmq_topology.contracts.references import MISSING, find_target, split_reference
from leanmq_topology.contracts.violation import Pointer, parse_pointer


class Standing(IntEnum):
    """What a schema says about a place in the data."""

    CLOSED = 0
    OPEN = 1
    DECLARED = 2


def find_declared(root: Schema, schema: Any, tokens: Pointer) -> Any:
    """The plainly declared schema at a path, through references, or None."""
    for _ in range(20):
        if not (isinstance(schema, dict) and isinstance(schema.get("$ref"), str)):
            break
        schema = _target(root, schema["$ref"])
    if not tokens or not isinstance(schema, dict):
        return schema
    declared = schema.get("properties")
    return find_declared(root, declared.get(tokens[0]), tokens[1:]) if isinstance(declared, dict) else None


def _target(root: Schema, reference: str) -> Any:
    target = find_target(root, parse_pointer(split_reference(reference)[1]) or ())
    return True if target is MISSING else target


def find_standing(schema: Schema, tokens: Pointer) -> Standing:
    """Whether a schema declares a place in the data, leaves it open or closes it out."""
    return _Standings(schema).find(schema, tuple(str(token) for token in tokens))


class _Standings:
    """The walk down a schema along a path."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.dialect = read_dialect(root) or DRAFT_2020_12

    def find(self, schema: Any, tokens: tuple[str, ...]) -> Standing:
        if schema is False:
            return Standing.CLOSED
        if not tokens:
            return Standing.DECLARED
        if not isinstance(schema, dict):
            return Standing.OPEN
        if "$ref" in schema and self.dialect == DRAFT_7:
            return self.find(_target(self.root, schema["$ref"]), tokens)
        found = _both([self._find_own(schema, tokens), *self._find_applied(schema, tokens)])
        shut = schema.get("unevaluatedProperties") is False and found is Standing.OPEN
        return Standing.CLOSED if shut else found

    def _find_own(self, schema: dict[str, Any], tokens: tuple[str, ...]) -> Standing:
        """By the keywords for keys, or for list positions where the name is a number."""
        by_key = self._find_key(schema, tokens) if _allows(schema, "object") else Standing.CLOSED
        index = read_index(tokens[0])
        if index is None or not _allows(schema, "array"):
            return by_key
        return max(
            by_key if _allows(schema, "object") else Standing.CLOSED, self._find_item(schema, index, tokens)
        )

    def _find_key(self, schema: dict[str, Any], tokens: tuple[str, ...]) -> Standing:
        name, rest = tokens[0], tokens[1:]
        below = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        for pattern, inner in schema.get("patternProperties", {}).items():
            if build_engine({"pattern": pattern}).is_valid(name):
                below.append(inner)
        if below:
            return _both([self.find(inner, rest) for inner in below])
        return self._find_further(schema.get("additionalProperties", True), rest)

    def _find_item(self, schema: dict[str, Any], index: int, tokens: tuple[str, ...]) -> Standing:
        items = schema.get("items", True)
        first = items if isinstance(items, list) else schema.get("prefixItems", [])
        if index < len(first):
            return self.find(first[index], tokens[1:])
        rest = schema.get("additionalItems", True) if isinstance(items, list) else items
        return self._find_further(rest, tokens[1:])

    def _find_further(self, schema: Any, rest: tuple[str, ...]) -> Standing:
        """Below what is not named one by one: `true` leaves it open, a mapping declares it."""
        return Standing.OPEN if schema is True or schema == {} else self.find(schema, rest)

    def _find_applied(self, schema: dict[str, Any], tokens: tuple[str, ...]) -> Iterator[Standing]:
        if "$ref" in schema:
            yield self.find(_target(self.root, schema["$ref"]), tokens)
        for inner in schema.get("allOf", []):
            yield self.find(inner, tokens)
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                yield max(self.find(inner, tokens) for inner in schema[keyword])
        for keyword in ("then", "else"):
            if keyword in schema:
                # Applies to some data only, so it can declare but not close.
                yield max(self.find(schema[keyword], tokens), Standing.OPEN)


def _allows(schema: dict[str, Any], kind: str) -> bool:
    types = schema.get("type", kind)
    return kind in ([types] if isinstance(types, str) else types)


def _both(standings: list[Standing]) -> Standing:
    return Standing.CLOSED if Standing.CLOSED in standings else max(standings)
