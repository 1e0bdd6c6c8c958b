"""Laws of messages: what is sent is what is read, `match` means what it says, proofs hold on every sample."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanmq_topology.contracts.compatibility import compare
from leanmq_topology.contracts.matching import compile_match
from leanmq_topology.contracts.payload import MAX_DEPTH, check_payload, decode_data, encode_data
from leanmq_topology.contracts.schemas import check_schema, compile_schema
from leanmq_topology.contracts.shapes import build_shape
from leanmq_topology.errors import InvalidMessageError

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
json_data = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)
wild_scalars = scalars | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.decimals()
wild_data = st.recursive(
    wild_scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(json_data)
def test_decoding_undoes_encoding(data: Any) -> None:
    raw = encode_data(data)

    assert is_same(decode_data(raw), data)
    assert is_same(json.loads(raw), data)
    assert encode_data(decode_data(raw)) == raw


@given(json_data)
def test_what_any_strict_writer_wrote_is_read_the_same(data: Any) -> None:
    assert is_same(decode_data(json.dumps(data, indent=1).encode()), data)


@given(wild_data)
def test_data_is_refused_exactly_when_a_plain_reading_of_the_rules_refuses_it(data: Any) -> None:
    assert (check_payload(data) is None) is is_sendable(data)


@given(wild_data)
def test_what_is_sent_reads_back_as_itself(data: Any) -> None:
    try:
        raw = encode_data(data)
    except InvalidMessageError:
        return
    assert is_same(decode_data(raw), untuple(data))


@given(
    st.binary() | json_data.map(lambda data: json.dumps(data).encode()),
    st.integers(0, 200),
    st.binary(max_size=2),
)
def test_no_bytes_do_worse_than_an_invalid_message_error(raw: bytes, cut: int, put: bytes) -> None:
    try:
        data = decode_data(raw[:cut] + put + raw[cut:])
    except InvalidMessageError:
        return
    assert is_sendable(data)


names = st.sampled_from(["a", "b", "0", "x.y"])
small = st.sampled_from([None, True, False, 0, 1, 1.0, "a", "b", "1"])
small_data = st.recursive(
    small, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
paths = st.lists(names, min_size=1, max_size=3).map(lambda tokens: "/" + "/".join(["data", *tokens]))
fragments = st.sampled_from([{"type": "string"}, {"minimum": 1}, {"enum": ["a", 1]}, {}, {"type": "object"}])
matches = st.dictionaries(
    paths | st.sampled_from(["type", "headers.a"]),
    small | st.lists(small, min_size=1, max_size=3) | fragments,
    max_size=3,
)


@settings(max_examples=300)
@given(matches, small_data, st.sampled_from([{}, {"a": "a"}, {"a": "1"}]), st.sampled_from(["a", "b"]))
def test_match_agrees_with_a_naive_reading(match: Any, data: Any, headers: dict[str, str], type: str) -> None:
    message = {"type": type, "headers": headers, "data": data}

    expected = all(holds(path, value, message) for path, value in match.items())

    assert compile_match(match).matches(type=type, headers=headers, data=data) is expected


properties = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "number"},
            {"type": "integer", "minimum": 0},
            {"type": ["string", "null"]},
            {"enum": ["x", 1]},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"type": "array", "items": {"type": "integer"}},
        ]
    ),
    max_size=3,
)
schemas = st.builds(
    lambda properties, required, closed: {
        "type": "object",
        "properties": properties,
        "required": sorted(required),
        **({"additionalProperties": False} if closed else {}),
    },
    properties,
    st.sets(st.sampled_from(["a", "b", "c"]), max_size=2),
    st.booleans(),
)
SAMPLES = [
    {key: value for key, value in zip("abc", values, strict=True) if value != "absent"}
    for values in product(["absent", "x", 1, -1, 1.5, None, {"a": "t"}, {}, [1]], repeat=3)
]


@settings(max_examples=150, deadline=None)
@given(schemas, schemas)
def test_compatible_means_that_no_sample_breaks(old: dict[str, Any], new: dict[str, Any]) -> None:
    verdict = compare(old, new, "backward")
    old_judge, new_judge = compile_schema(old), compile_schema(new)

    if verdict.example is not None:
        assert old_judge.is_valid(verdict.example)
        assert not new_judge.is_valid(verdict.example)
    if verdict.is_compatible:
        # Leniently: keys that only the new schema knows are taken as never sent by old writers.
        unknown = new["properties"].keys() - old["properties"].keys() - set(old["required"])
        written = [sample for sample in SAMPLES if not unknown & sample.keys() and old_judge.is_valid(sample)]
        assert [sample for sample in written if not new_judge.is_valid(sample)] == []


@settings(deadline=None)
@given(schemas)
def test_schema_is_compatible_with_itself(schema: dict[str, Any]) -> None:
    assert check_schema(schema) == []
    assert compare(schema, schema, "full").is_compatible


def is_same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down: `1 == 1.0 == True` is not enough."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    return bool(left == right)


def untuple(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: untuple(value) for key, value in data.items()}
    return [untuple(value) for value in data] if isinstance(data, list | tuple) else data


def is_sendable(data: Any, depth: int = 1) -> bool:
    if isinstance(data, dict):
        keys = all(isinstance(key, str) and is_unicode(key) for key in data)
        return depth <= MAX_DEPTH and keys and all(is_sendable(value, depth + 1) for value in data.values())
    if isinstance(data, list | tuple):
        return depth <= MAX_DEPTH and all(is_sendable(value, depth + 1) for value in data)
    if isinstance(data, str):
        return is_unicode(data)
    if isinstance(data, bool) or data is None:
        return True
    if isinstance(data, int):
        return -(2**63) <= data < 2**64
    return isinstance(data, float) and math.isfinite(data)


def is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def holds(path: str, value: Any, message: Any) -> bool:
    tokens = path.split("/")[1:] if path.startswith("/") else path.split(".")
    for token in tokens:
        if isinstance(message, dict) and token in message:
            message = message[token]
        elif isinstance(message, list) and token == "0" and message:
            message = message[0]
        else:
            return False
    return fits(value, message)


def fits(value: Any, found: Any) -> bool:
    if isinstance(value, dict):
        return fits_fragment(value, found)
    if isinstance(value, list):
        return any(equals(item, found) for item in value)
    return equals(value, found)


def equals(left: Any, right: Any) -> bool:
    """As JSON: numbers by value, and true is no number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return not isinstance(right, dict | list) and bool(left == right)


def fits_fragment(fragment: dict[str, Any], found: Any) -> bool:
    if fragment.get("type") == "string":
        return isinstance(found, str)
    if fragment.get("type") == "object":
        return isinstance(found, dict)
    if "minimum" in fragment:
        number = isinstance(found, int | float) and not isinstance(found, bool)
        return not number or found >= fragment["minimum"]
    return any(equals(item, found) for item in fragment["enum"]) if "enum" in fragment else True


@pytest.mark.parametrize("left", [1, 1.0, True])
def test_same_tells_numbers_and_booleans_apart(left: Any) -> None:
    assert [is_same(left, right) for right in (1, 1.0, True)].count(True) == 1


names = st.sampled_from(["a", "b", "", "ü", "x-y"])
small = st.integers(-2, 3)
bounds = small | st.sampled_from([0.5, -1.5, 2.0, 2**53, -(2**53)])
limits = st.fixed_dictionaries(
    {},
    optional={
        "minimum": bounds,
        "maximum": bounds,
        "exclusiveMinimum": bounds,
        "exclusiveMaximum": bounds,
    },
)
lengths = st.integers(0, 3)
leaf_schemas = (
    st.sampled_from([True, False, {}, {"title": "any"}, {"type": "boolean"}, {"type": "null"}, {"type": []}])
    | limits.map(lambda said: {"type": "integer", **said})
    | limits.map(lambda said: {"type": "number", **said})
    | st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": lengths, "maxLength": lengths}
    )
    | st.lists(st.sampled_from(["a", "", 0, 1, None, True, 1.0]), min_size=1).map(
        lambda values: {"enum": values}
    )
    | st.sampled_from(["a", 1, None, False, 2.0]).map(lambda value: {"const": value})
    | st.lists(
        st.sampled_from(["string", "integer", "number", "null", "array", "object"]), min_size=1, unique=True
    ).map(lambda types: {"type": types})
)
plain_schemas = st.recursive(
    leaf_schemas,
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.sampled_from(["object", ["object", "null"]])},
            optional={
                "properties": st.dictionaries(names, inner, max_size=4),
                "required": st.lists(names, unique=True, max_size=2),
                "additionalProperties": st.booleans() | inner,
            },
        )
        | st.fixed_dictionaries(
            {"type": st.just("array")}, optional={"items": inner, "minItems": lengths, "maxItems": lengths}
        )
        | st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each})
        | st.lists(inner, min_size=1, max_size=3).map(lambda each: {"oneOf": each})
    ),
    max_leaves=8,
)


@st.composite
def near(draw: st.DrawFn, schema: Any) -> Any:
    """Data that fits this schema or nearly does: any other says little of it."""
    said = schema if isinstance(schema, dict) else {}
    if draw(st.integers(0, 9)) == 0:
        return draw(json_data)
    for keyword in ("enum", "anyOf", "oneOf"):
        if said.get(keyword):
            chosen = draw(st.sampled_from(said[keyword]))
            return chosen if keyword == "enum" else draw(near(chosen))
    if "const" in said:
        return draw(st.sampled_from([said["const"], None, 1, True]))
    named = said.get("type", "")
    kind = draw(st.sampled_from(named)) if isinstance(named, list) and named else named
    if kind == "object":
        properties = said.get("properties", {})
        others = draw(st.lists(names, max_size=1))
        keys = [key for key in (*properties, *others) if draw(st.integers(0, 3))]
        return {key: draw(near(properties.get(key, said.get("additionalProperties")))) for key in keys}
    if kind == "array":
        return [draw(near(said.get("items"))) for _ in range(draw(st.integers(0, 3)))]
    if kind in ("integer", "number"):
        return draw(small | st.sampled_from([0.5, -1.5, 1.0, 2.0, 1.25, 2**53, 2**53 + 1, 2**63, -(2**53)]))
    if kind == "string":
        return draw(st.text("aü\U0001f41d", max_size=4))
    return draw(st.sampled_from([True, False, None, 0, 1, "", "a"]) | json_data)


@settings(max_examples=1500)
@given(plain_schemas.flatmap(lambda schema: st.tuples(st.just(schema), near(schema))))
def test_what_is_taken_without_the_engine_is_what_the_engine_admits(drawn: tuple[Any, Any]) -> None:
    schema, data = drawn
    shape = build_shape(schema)
    if shape is None or any(problem.is_error for problem in check_schema(schema)):
        return
    raw = encode_data(data)
    try:
        read = msgspec.json.decode(raw, type=shape)
    except msgspec.MsgspecError:
        return
    assert msgspec.json.encode(read) != raw or compile_schema(schema).is_valid(data)
