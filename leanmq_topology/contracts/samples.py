"""Values that a schema admits, to show by example what a stricter one would refuse."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from leanmq_topology.contracts.engine import InvalidSchemaError, Schema, build_engine
from leanmq_topology.contracts.references import MISSING, find_target, split_reference
from leanmq_topology.contracts.violation import parse_pointer

MAX_DEPTH = 6
MAX_VARIANTS = 12
"""Variants that one property contributes to its object."""
MAX_SAMPLES = 400

UNDECLARED = "undeclared"
"""The key that stands for any a schema does not name."""

_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "a@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "6f2b1a3c-6f0e-4c0a-9f43-0c8d5b1b1f7e",
}
_APPLIED = ("$ref", "allOf", "anyOf", "oneOf")
_TYPES = ("object", "array", "string", "number", "boolean", "null")


def list_samples(schema: Schema) -> list[Any]:
    """Some values that fit, small and at the edges. Complete for nothing, but each one is checked."""
    try:
        fits = build_engine(schema).is_valid
    except InvalidSchemaError:
        return []
    found = islice(_Samples(schema).vary(schema, 0), MAX_SAMPLES)
    return [value for value in found if fits(value)]


class _Samples:
    def __init__(self, root: Schema) -> None:
        self.root = root

    def vary(self, schema: Any, depth: int) -> Iterator[Any]:
        """Candidates for a schema, the plainest first."""
        if schema is False or depth > MAX_DEPTH:
            return
        if not isinstance(schema, dict):
            schema = {}
        if "const" in schema:
            yield schema["const"]
        yield from schema.get("enum", ())
        for applied in self._merge_applied(schema):
            yield from self.vary(applied, depth + 1)
        yield from self._vary_types(schema, depth)

    def _merge_applied(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The schema with one alternative, or all that must hold, folded into it."""
        plain = {key: value for key, value in schema.items() if key not in _APPLIED}
        must = [self._resolve(schema["$ref"])] if "$ref" in schema else []
        must += schema.get("allOf", [])
        if must:
            yield _merge(plain, must) | {key: schema[key] for key in ("anyOf", "oneOf") if key in schema}
        for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield _merge(plain, [inner])

    def _resolve(self, reference: Any) -> Any:
        target = find_target(self.root, parse_pointer(split_reference(str(reference))[1]) or ())
        return {} if target is MISSING else target

    def _vary_types(self, schema: dict[str, Any], depth: int) -> Iterator[Any]:
        types = schema.get("type", _TYPES)
        for kind in [types] if isinstance(types, str) else types:
            if kind == "object":
                yield from self._vary_object(schema, depth)
            elif kind == "array":
                yield from self._vary_list(schema, depth)
            else:
                yield from _vary_scalar(kind, schema)

    def _vary_object(self, schema: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        declared = schema.get("properties", {})
        variants = {key: self._vary_some(inner, depth + 1) for key, inner in declared.items()}
        full = {key: values[0] for key, values in variants.items() if values}
        full |= {key: UNDECLARED for key in schema.get("required", ()) if key not in declared}
        yield {key: value for key, value in full.items() if key in schema.get("required", ())}
        yield full
        for key in full:
            yield {name: value for name, value in full.items() if name != key}
        for key, values in variants.items():
            yield from ({**full, key: value} for value in values[1:])
        yield from ({**full, UNDECLARED: value} for value in (UNDECLARED, 1, None))

    def _vary_some(self, schema: Any, depth: int) -> list[Any]:
        return list(islice(self.vary(schema, depth), MAX_VARIANTS))

    def _vary_list(self, schema: dict[str, Any], depth: int) -> Iterator[list[Any]]:
        items = schema.get("items", {})
        values = self._vary_some({} if isinstance(items, list) else items, depth + 1)
        yield []
        for value in values:
            yield [value]
        yield values
        for limit in ("minItems", "maxItems"):
            if values and limit in schema and schema[limit] <= 100:
                yield [values[position % len(values)] for position in range(int(schema[limit]))]


def _merge(schema: dict[str, Any], others: list[Any]) -> dict[str, Any]:
    merged = dict(schema)
    for other in others:
        if isinstance(other, dict):
            properties = {**merged.get("properties", {}), **other.get("properties", {})}
            required = [*merged.get("required", ()), *other.get("required", ())]
            merged |= other | ({"properties": properties} if properties else {})
            merged |= {"required": required} if required else {}
    return merged


def _vary_scalar(kind: str, schema: dict[str, Any]) -> Iterator[Any]:
    if kind == "string":
        yield from _vary_text(schema)
    elif kind == "boolean":
        yield from (True, False)
    elif kind == "null":
        yield None
    else:
        yield from _vary_number(kind, schema)


def _vary_text(schema: dict[str, Any]) -> Iterator[str]:
    yield _FORMATS.get(schema.get("format", ""), "text")
    for limit in ("minLength", "maxLength"):
        if limit in schema and schema[limit] <= 10_000:
            yield "x" * int(schema[limit])
    yield from ("", "A-1", "0", "é\n")


def _vary_number(kind: str, schema: dict[str, Any]) -> Iterator[int | float]:
    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    edges = [schema[limit] for limit in limits if limit in schema]
    steps = (0, 1, -1, 0.5) if kind == "number" else (0, 1, -1)
    for edge in (*edges, 1, 1_000_000, -1_000_000):
        yield from (edge + step for step in steps)
