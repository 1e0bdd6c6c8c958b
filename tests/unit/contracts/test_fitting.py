"""What one schema allows and another does not take."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.contracts.fitting import Misfit, count_unknown_fields, find_misfits


def fields(required: list[str] | None = None, /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}

FITS: dict[str, tuple[Any, Any]] = {
    "the same": (fields(["a"], a=STRING), fields(["a"], a=STRING)),
    "a field that the shape ignores": (fields(["a"], a=STRING, b=STRING), fields(["a"], a=STRING)),
    "a field that only the shape has, with a default": (fields(), fields(a=STRING)),
    "required, of unknown type": ({"type": "object", "required": ["a"]}, fields(["a"], a=STRING)),
    "an integer where numbers are taken": (INTEGER, NUMBER),
    "fewer values": ({"enum": ["a"]}, {"enum": ["a", "b"]}),
    "a constant of the right type": ({"const": 3}, INTEGER),
    "null where it is taken": ({"type": ["string", "null"]}, {"anyOf": [STRING, {"type": "null"}]}),
    "text or a number for a decimal": (NUMBER, {"type": "string", "format": "decimal"}),
    "a schema that says nothing": ({}, fields(["a"], a=STRING)),
    "a schema that is true": (True, fields(["a"], a=STRING)),
    "a shape that says nothing": (STRING, {}),
    "a requirement that a branch may hold": ({"oneOf": [{"required": ["a"]}]}, fields(["a"], a=STRING)),
    "types that a branch may narrow": ({"type": ["string", "integer"], "anyOf": [STRING]}, STRING),
    "a reference to elsewhere": ({"$ref": "other.json"}, STRING),
}


@pytest.mark.parametrize(("schema", "shape"), FITS.values(), ids=FITS)
def test_what_fits_or_is_unsure_is_not_reported(schema: Any, shape: Any):
    assert find_misfits(schema, shape, "Order") == []


MISFITS: dict[str, tuple[Any, Any, str, str]] = {
    "another type": (STRING, INTEGER, "", "may be a string, and Order takes an integer only"),
    "numbers where integers are taken": (NUMBER, INTEGER, "", "may be a number with a fraction"),
    "null where it is not taken": ({"type": ["string", "null"]}, STRING, "", "may be null"),
    "a field left out": (
        fields(a=STRING),
        fields(["a"], a=STRING),
        "/a",
        "may be left out, and Order requires it",
    ),
    "a field nobody sends": (fields(), fields(["a"], a=STRING), "/a", "is no field of the schema"),
    "a field that is forbidden": (
        fields(a=STRING, b=STRING),
        {**fields(a=STRING), "additionalProperties": False},
        "/b",
        "is a field that Order forbids",
    ),
    "a nested field": (
        fields(["a"], a=fields(["b"], b=STRING)),
        fields(["a"], a=fields(["b"], b=INTEGER)),
        "/a/b",
        "may be a string",
    ),
    "an item of a list": (
        {"type": "array", "items": STRING},
        {"type": "array", "items": INTEGER},
        "/0",
        "may be a string",
    ),
    "another value": ({"enum": ["a", "b"]}, {"enum": ["a"]}, "", "may be 'b', which Order does not take"),
    "a type beside branches": ({**STRING, "oneOf": [{}]}, INTEGER, "", "may be a string"),
    "through references": (
        {"$ref": "#/$defs/a", "$defs": {"a": STRING}},
        {"$ref": "#/$defs/b", "$defs": {"b": INTEGER}},
        "",
        "may be a string",
    ),
    "inside an optional class": (
        fields(["a"], a=fields(b=STRING)),
        fields(a={"anyOf": [fields(["b"], b=STRING), {"type": "null"}]}),
        "/a/b",
        "may be left out",
    ),
}


@pytest.mark.parametrize(("schema", "shape", "path", "reason"), MISFITS.values(), ids=MISFITS)
def test_what_certainly_does_not_fit_is_reported_where_it_is(schema: Any, shape: Any, path: str, reason: str):
    [misfit] = find_misfits(schema, shape, "Order")
    assert misfit.path == path
    assert reason in misfit.reason


def test_everything_is_reported_at_once():
    schema = fields(["a"], a=STRING, c=NUMBER)
    shape = fields(["a", "b"], a=INTEGER, b=STRING, c=STRING)
    found = find_misfits(schema, shape, "Order")
    assert [misfit.path for misfit in found] == ["/b", "/a", "/c"]
    assert all(isinstance(misfit, Misfit) for misfit in found)


def test_references_in_a_circle_end():
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    tree = {"$ref": "#/$defs/t", "$defs": {"t": fields(t={"$ref": "#/$defs/t"})}}
    assert find_misfits(loop, loop, "Order") == []
    assert find_misfits(tree, tree, "Order") == []


def test_fields_without_a_place_are_counted():
    assert count_unknown_fields(fields(a=STRING, b=STRING), fields(a=STRING)) == 1
    assert count_unknown_fields(True, STRING) == 0
