"""Can whatever one schema allows be taken by another? Says where certainly not, and keeps quiet where unsure.

The first is a message's schema; the second, the shape, describes the class that its data becomes. Only what
both state plainly is compared: JSON types, required fields, forbidden fields, and lists of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

Schema = Mapping[str, Any]

_NUMBERS: Final = frozenset({"number", "integer"})
_NARROWING: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "$dynamicRef", "dependentSchemas"}
)
"""Keywords beside which others do not tell the whole story."""
_DEEPEST: Final = 16
_WORDS: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number with a fraction",
    "boolean": "a boolean",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


class Misfit(Struct, frozen=True):
    """Something the schema allows and the shape does not take. `path` is a JSON Pointer into the data."""

    path: str
    reason: str


def find_misfits(schema: Any, shape: Any, shape_name: str) -> list[Misfit]:
    """Everything in `schema` that certainly does not fit; `shape_name` is what users call the shape."""
    return list(_Comparison(schema, shape, shape_name).compare(schema, shape, "", 0))


def count_unknown_fields(schema: Any, shape: Any) -> int:
    """How many fields that the schema names the shape has no place for."""
    inner_schema, inner_shape = _follow(schema, schema), _follow(shape, shape)
    if not isinstance(inner_schema, Mapping) or not isinstance(inner_shape, Mapping):
        return 0
    return len(inner_schema.get("properties", {}).keys() - inner_shape.get("properties", {}).keys())


class _Comparison(Struct, frozen=True):
    schema_root: Any
    shape_root: Any
    shape_name: str

    def compare(self, schema: Any, shape: Any, path: str, depth: int) -> Iterator[Misfit]:
        schema, shape = _follow(schema, self.schema_root), _follow(shape, self.shape_root)
        if depth > _DEEPEST or not isinstance(schema, Mapping) or not isinstance(shape, Mapping):
            return
        partly = bool(_NARROWING & schema.keys())
        allowed, taken = _types(schema, self.schema_root), _types(shape, self.shape_root)
        if allowed is not None and taken is not None:
            refused = allowed - taken
            if refused == allowed or (refused and not partly):
                yield Misfit(path, f"may be {_list(refused)}, and {self._takes(taken, path)}")
                return
        yield from self._compare_values(schema, shape, path)
        if allowed is None or "object" in allowed:
            yield from self._compare_fields(schema, self._branch(shape, "object"), path, depth, partly=partly)
        if allowed is None or "array" in allowed:
            items, taken_items = schema.get("items"), self._branch(shape, "array").get("items")
            yield from self.compare(items, taken_items, f"{path}/0", depth + 1)

    def _takes(self, taken: frozenset[str], path: str) -> str:
        words = _list(taken - {"integer"} if taken >= _NUMBERS else taken).replace(" with a fraction", "")
        return f"{self.shape_name} takes {words}{'' if path else ' only'}"

    def _compare_values(self, schema: Schema, shape: Schema, path: str) -> Iterator[Misfit]:
        allowed, taken = _values(schema), _values(shape)
        if allowed is not None and taken is not None:
            refused = [value for value in allowed if value not in taken]
            if refused:
                shown = ", ".join(map(repr, refused))
                yield Misfit(path, f"may be {shown}, which {self.shape_name} does not take")

    def _compare_fields(
        self, schema: Schema, shape: Schema, path: str, depth: int, *, partly: bool
    ) -> Iterator[Misfit]:
        properties = schema.get("properties", {})
        if not partly and schema.keys() & {"type", "properties", "required"}:
            yield from self._missing(schema, shape, path)
        fields = shape.get("properties", {})
        for name, field in fields.items():
            if name in properties:
                yield from self.compare(properties[name], field, f"{path}/{name}", depth + 1)
        if shape.get("additionalProperties") is False:
            for name in properties.keys() - fields.keys():
                yield Misfit(f"{path}/{name}", f"is a field that {self.shape_name} forbids")

    def _missing(self, schema: Schema, shape: Schema, path: str) -> Iterator[Misfit]:
        promised = set(schema.get("required", ()))
        for name in shape.get("required", ()):
            if name in promised:
                continue
            known = name in schema.get("properties", {})
            there = "may be left out" if known else "is no field of the schema"
            yield Misfit(f"{path}/{name}", f"{there}, and {self.shape_name} requires it")

    def _branch(self, shape: Schema, kind: str) -> Schema:
        """The part of a shape that describes values of this type, where that is one part."""
        branches = [_follow(each, self.shape_root) for each in shape.get("anyOf", ())]
        if not branches:
            return shape
        fitting = [each for each in branches if isinstance(each, Mapping) and each.get("type") == kind]
        return fitting[0] if len(fitting) == 1 else {}


def _follow(schema: Any, root: Any) -> Any:
    """The schema that a local reference means; other references say nothing."""
    for _ in range(_DEEPEST):
        if not isinstance(schema, Mapping) or set(schema) - {
            "$ref",
            "$defs",
            "definitions",
            "$schema",
            "title",
        }:
            return schema
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        found = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = (
                found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
            )
        schema = found
    return None


def _types(schema: Schema, root: Any) -> frozenset[str] | None:
    """The JSON types a schema speaks of; None if it does not say. A number may be an integer too."""
    values = _values(schema)
    if values is not None:
        return frozenset(_type_of(value) for value in values)
    named = schema.get("type")
    if named is not None:
        types = {named} if isinstance(named, str) else set(named)
        if schema.get("format") == "decimal":  # made from numbers as well as from text
            types |= _NUMBERS
        return frozenset(types | ({"integer"} if "number" in types else set()))
    if "anyOf" not in schema:
        return None
    branches = [_follow(branch, root) for branch in schema["anyOf"]]
    known = [_types(branch, root) if isinstance(branch, Mapping) else None for branch in branches]
    return None if None in known else frozenset().union(*[types for types in known if types])


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return list(values) if isinstance(values, list | tuple) else None


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case _:
            return "object"


def _list(types: frozenset[str]) -> str:
    words = [words for kind, words in _WORDS.items() if kind in types]
    return " or ".join(words)
