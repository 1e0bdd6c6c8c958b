"""Shapes of schemas: which schemas have one, and that it never says yes where the engine says no."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from leanmq_topology.contracts.engine import build_engine
from leanmq_topology.contracts.schemas import MISFIT, REST, compile_schema
from leanmq_topology.contracts.shapes import build_shape

ADDRESS = {
    "type": "object",
    "required": ["city"],
    "additionalProperties": False,
    "properties": {"city": {"type": "string", "minLength": 1}, "floor": {"type": ["integer", "null"]}},
}


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [],
        "additionalProperties": False,
        "properties": properties,
        "$defs": {"address": ADDRESS},
    }


TAKEN = [
    (True, {"any": [1, {"thing": None}]}),
    ({"title": "x", "x-note": {"not": "looked at"}}, "anything"),
    ({"type": "string", "minLength": 2, "maxLength": 2}, "\U0001f41d!"),
    ({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 3}, 2),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 9.5}, 9.5),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 9.5}, 9),
    ({"type": ["boolean", "null"]}, None),
    ({"enum": ["a", "b", None, 7]}, 7),
    ({"type": "string", "const": "web"}, "web"),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}, [1, 2]),
    ({"type": "object"}, {"a": {"b": 1}}),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}),
    ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x"}),
    (
        closed(to={"$ref": "#/$defs/address"}, then={"$ref": "#/$defs/address"}),
        {"to": {"city": "x", "floor": 3}},
    ),
    (closed(a={"anyOf": [{"type": "string"}, {"type": "null"}]}), {"a": None}),
    (closed(a={"oneOf": [{"type": "string"}, {"$ref": "#/$defs/address"}]}), {"a": {"city": "x"}}),
    (
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": {"type": "null"}},
        [None],
    ),
]


@pytest.mark.parametrize(("schema", "data"), TAKEN)
def test_what_a_plain_schema_admits_is_taken_without_the_engine(schema: Any, data: Any) -> None:
    shape = build_shape(schema)

    assert shape is not None
    assert msgspec.json.decode(json.dumps(data), type=shape) == data
    assert build_engine(schema).is_valid(data)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "string", "pattern": "^a"},
        {"type": "string", "format": "email"},
        {"type": "integer", "multipleOf": 2},
        {"type": "integer", "maximum": 2**60},
        {"type": "array", "uniqueItems": True, "maxItems": 3},
        {"type": "array", "contains": {"type": "string"}},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "null"}]},
        {"type": "object", "minProperties": 1},
        {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
        {"type": "object", "properties": {"a": True}, "additionalProperties": {"type": "string"}},
        {"type": "object", "required": ["a"]},
        {"properties": {"a": {"type": "string"}}},
        {"required": ["a"]},
        {"allOf": [{"type": "string"}]},
        {"type": "string", "not": {"const": "x"}},
        {"anyOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]},
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        {"anyOf": [{"type": "string"}], "type": "string"},
        {"type": ["integer", "number"]},
        {"const": True},
        {"enum": [1.0]},
        {"enum": [[]]},
        {"type": "string", "enum": ["a", 1]},
        {"type": "string", "enum": ["a"], "maxLength": 0},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
    ],
)
def test_what_says_more_than_a_type_has_no_shape(schema: Any) -> None:
    assert build_shape(schema) is None


def test_a_small_text_that_says_a_huge_type_has_no_shape() -> None:
    levels = {
        str(n): {
            "type": "object",
            "additionalProperties": False,
            "properties": {key: {"$ref": f"#/$defs/{n + 1}"} for key in "abcd"},
        }
        for n in range(7)
    }
    schema = {"$ref": "#/$defs/0", "$defs": {**levels, "7": {"type": "string"}}}

    assert build_engine(schema).is_valid({})
    assert build_shape(schema) is None


NUMBERS = [-2, -1.5, -1, 0, 0.5, 1, 1.5, 2, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**53), -(2**63)]
TEXTS = ["", "a", "é", "\U0001f41d", "ab", "\U0001f41d\U0001f41d", "abc"]


@pytest.mark.parametrize("bound", [-1.5, -1, 0, 0.5, 1, 1.0, 2**53, -(2**53)])
@pytest.mark.parametrize("keyword", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_bounds_hold_as_the_engine_takes_them(kind: str, keyword: str, bound: float) -> None:
    schema = {"type": kind, keyword: bound}
    decoder = msgspec.json.Decoder(build_shape(schema))

    assert [takes(decoder, data) for data in NUMBERS] == list(map(build_engine(schema).is_valid, NUMBERS))


@pytest.mark.parametrize("limit", [0, 1, 2])
@pytest.mark.parametrize("keyword", ["Length", "Items"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_lengths_hold_as_the_engine_takes_them(end: str, keyword: str, limit: int) -> None:
    schema = {"type": "string" if keyword == "Length" else "array", f"{end}{keyword}": limit}
    decoder = msgspec.json.Decoder(build_shape(schema))
    given = TEXTS if keyword == "Length" else list(map(list, TEXTS))

    assert [takes(decoder, data) for data in given] == list(map(build_engine(schema).is_valid, given))


def takes(decoder: msgspec.json.Decoder[Any], data: Any) -> bool:
    try:
        return bool(decoder.decode(msgspec.json.encode(data)) == data)
    except msgspec.MsgspecError:
        return False


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"type": "integer"}, 2.0),
        ({"type": "integer"}, 2**63),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x", "more": 1}),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, {"a": [[[[[1]]]]]}),
        (closed(a={"type": "number"}), {"a": 1e300}),
        ({"type": "string", "format": "email"}, "a@example.org"),
    ],
)
def test_what_the_shape_does_not_take_is_left_to_the_engine(schema: Any, data: Any) -> None:
    compiled, raw = compile_schema(schema), msgspec.json.encode(data)
    plain = data != 2**63

    for _ in range(3 * REST):
        assert compiled.encode_fitting(data) == (raw if plain else None)
        assert compiled.encode_all_fitting([data, data]) == ([raw, raw] if plain else None)
        assert compiled.decode_fitting(raw) == (data if plain else MISFIT)
        assert compiled.decode_all_fitting([raw, raw]) == ([data, data] if plain else None)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"city":"x","city":"y"}',
        b'{"city": "x"}',
        b'{"city":""}',
        b'{"city":"x","more":1}',
        b'{"floor":1}',
        b'{"city":"x","floor":"1"}',
        b'{"city":"x","floor":true}',
        b'{"city":"\\ud800"}',
        b"[]",
        b"",
        b"\xff",
    ],
)
def test_bytes_that_do_not_fit_or_are_written_another_way_are_never_taken_at_once(raw: bytes) -> None:
    schema = compile_schema(ADDRESS)

    for _ in range(3 * REST):
        assert schema.decode_fitting(raw) is MISFIT
        assert schema.decode_all_fitting([b'{"city":"x"}', raw]) is None
        assert schema.decode_fitting(b'{"city":"x"}') == {"city": "x"}


@pytest.mark.parametrize(
    "data", [{"city": ("x",)}, {"city": b"x"}, {"city": "\ud800"}, {1: 2}, {"city": float("nan")}, object()]
)
def test_data_that_json_does_not_carry_is_never_taken_at_once(data: Any) -> None:
    schema = compile_schema(ADDRESS)

    assert schema.encode_fitting(data) is None
    assert schema.encode_all_fitting([{"city": "x"}, data]) is None
    assert schema.encode_fitting({"city": "x"}) == b'{"city":"x"}'
