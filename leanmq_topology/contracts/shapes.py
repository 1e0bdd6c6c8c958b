"""A schema as a type that msgspec decodes by: one pass over the bytes reads data and judges it.

The engine decides what fits; a shape only says yes, and only where the engine would. What it does not take
may fit all the same: an integer written as `1.0`, a key that the schema allows and does not name. A schema
has a shape only if each of its keywords means the same to both; most plain ones have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired, TypedDict, Union

import msgspec

from leanmq_topology.contracts.algebra import ANNOTATIONS
from leanmq_topology.contracts.engine import Schema
from leanmq_topology.contracts.payload import MIN_INTEGER, MOST_SIGNED, build_plain_type
from leanmq_topology.contracts.references import MISSING, find_target, split_reference
from leanmq_topology.contracts.violation import parse_pointer

MOST_NESTED: Final = 16
"""Schemas inside one another: data stays far from the depth that it may have."""
ANYTHING_DEPTH: Final = 3
"""Of data that a schema says nothing of; the type for it doubles with every level."""
MOST_SCHEMAS: Final = 1000
"""References followed each time: a small text can say a large type."""
EXACT: Final = 2**53
"""Bounds up to here are the same number to whoever computes with doubles."""

_SAYS_NOTHING = ANNOTATIONS | {"$schema", "$defs", "definitions"}
_LIMITS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum")
_KEYWORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength"),
    "integer": _LIMITS,
    "number": _LIMITS,
    "boolean": (),
    "null": (),
    "array": ("items", "minItems", "maxItems"),
    "object": ("properties", "required", "additionalProperties"),
}
_KINDS = {str: "string", int: "integer", type(None): "null"}
"""Of values that only themselves are equal to."""


class _NoShapeError(Exception):
    """Something in the schema means more than a type can say."""


class _Shape(NamedTuple):
    type: Any
    kinds: frozenset[str]
    """Of JSON, as a look at the bytes tells them apart."""


_ANYTHING = _Shape(build_plain_type(ANYTHING_DEPTH), frozenset(_KEYWORDS) - {"number"} | {"fraction"})


def build_shape(schema: Schema) -> Any | None:
    """The type to decode by; None: this schema has none.

    An object decoded by it lacks the keys that its schema does not name. So only data that is equal to what
    was encoded, or that gives the same bytes again, is known to fit.
    """
    try:
        shape = _Translation(schema).translate(schema, 0)
        msgspec.json.Decoder(shape.type)
    except (_NoShapeError, TypeError, ValueError, NotImplementedError):
        return None
    return shape.type


class _Translation:
    """Of one schema; every method raises `_NoShapeError`."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._count = 0

    def translate(self, schema: Any, depth: int) -> _Shape:
        self._count += 1
        if schema is True:
            return _ANYTHING
        if depth > MOST_NESTED or self._count > MOST_SCHEMAS or not isinstance(schema, dict):
            raise _NoShapeError
        said = _leave_out_notes(schema)
        if not said:
            return _ANYTHING
        for keyword in ("anyOf", "oneOf"):
            if keyword in said:
                return _unite([self.translate(each, depth + 1) for each in _only(said, keyword)])
        if "$ref" in said:
            return self._follow(_only(said, "$ref"), depth)
        if "const" in said:
            return _translate_values([_only(said, "const", "type")], said)
        if "enum" in said:
            return _translate_values(_only(said, "enum", "type"), said)
        types = _read_types(said)
        if not said.keys() <= {"type", *(keyword for name in types for keyword in _KEYWORDS[name])}:
            raise _NoShapeError
        return _unite([self._translate_type(name, said, depth) for name in types])

    def _follow(self, reference: str, depth: int) -> _Shape:
        tokens = parse_pointer(split_reference(reference)[1])
        target = MISSING if tokens is None else find_target(self._root, tokens)
        if target is MISSING:
            raise _NoShapeError
        return self.translate(target, depth + 1)

    def _translate_type(self, name: str, said: Mapping[str, Any], depth: int) -> _Shape:
        if name == "number":
            fractions = _Shape(_bound(float, **_read_bounds(said)), frozenset({"fraction"}))
            return _unite([self._translate_type("integer", said, depth), fractions])
        made: Any
        if name == "string":
            made = _bound(str, min_length=said.get("minLength"), max_length=said.get("maxLength"))
        elif name == "integer":
            made = _translate_integer(said)
        elif name == "array":
            items = self.translate(said.get("items", True), depth + 1)
            made = _bound(
                GenericAlias(list, items.type),
                min_length=said.get("minItems"),
                max_length=said.get("maxItems"),
            )
        elif name == "object":
            made = self._translate_object(said, depth)
        else:
            made = bool if name == "boolean" else None
        return _Shape(made, frozenset({name}))

    def _translate_object(self, said: Mapping[str, Any], depth: int) -> Any:
        properties, others = said.get("properties", {}), said.get("additionalProperties", True)
        required = said.get("required", [])
        if not properties and not required and others is not False:
            return GenericAlias(dict, (str, self.translate(others, depth + 1).type))
        if not isinstance(others, bool) or not properties.keys() >= set(required):
            raise _NoShapeError
        types = {name: self.translate(each, depth + 1).type for name, each in properties.items()}
        fields = {name: each if name in required else NotRequired[each] for name, each in types.items()}
        return TypedDict("Shape", fields)  # type: ignore[operator]


def _leave_out_notes(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _SAYS_NOTHING and key[:2] != "x-"}


def _only(said: Mapping[str, Any], keyword: str, *beside: str) -> Any:
    """What a keyword says that nothing stands beside but these."""
    if not said.keys() <= {keyword, *beside}:
        raise _NoShapeError
    return said[keyword]


def _read_types(said: Mapping[str, Any]) -> list[str]:
    named = said.get("type", [])
    return named if isinstance(named, list) else [named]


def _unite(shapes: list[_Shape]) -> _Shape:
    """What is of one of these, where the first byte, or the point of a number, tells of which."""
    kinds = frozenset[str]().union(*(shape.kinds for shape in shapes))
    if not shapes or len(kinds) < sum(len(shape.kinds) for shape in shapes):
        raise _NoShapeError
    return _Shape(Union[tuple(shape.type for shape in shapes)], kinds)  # noqa: UP007  of a tuple


def _translate_values(values: Iterable[Any], said: Mapping[str, Any]) -> _Shape:
    found = [_KINDS.get(type(value), "") for value in values]
    types = {"integer" if name == "number" else name for name in _read_types(said)}
    if "" in found or ("type" in said and not types.issuperset(found)):
        raise _NoShapeError
    return _Shape(Literal[tuple(values)], frozenset(found))


def _translate_integer(said: Mapping[str, Any]) -> Any:
    least, most = [MIN_INTEGER], [MOST_SIGNED]
    for keyword, limit in _read_limits(said).items():
        if keyword == "minimum":
            least.append(math.ceil(limit))
        elif keyword == "exclusiveMinimum":
            least.append(math.floor(limit) + 1)
        elif keyword == "maximum":
            most.append(math.floor(limit))
        else:
            most.append(math.ceil(limit) - 1)
    return _bound(int, ge=max(least), le=min(most))


def _read_bounds(said: Mapping[str, Any]) -> dict[str, float]:
    names = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
    return {names[keyword]: float(limit) for keyword, limit in _read_limits(said).items()}


def _read_limits(said: Mapping[str, Any]) -> dict[str, float]:
    limits = {keyword: said[keyword] for keyword in _LIMITS if keyword in said}
    if any(abs(limit) > EXACT for limit in limits.values()):
        raise _NoShapeError
    return limits


def _bound(kind: Any, **limits: Any) -> Any:
    """Raises `ValueError` for limits that leave nothing."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return Annotated[kind, msgspec.Meta(**given)] if given else kind
