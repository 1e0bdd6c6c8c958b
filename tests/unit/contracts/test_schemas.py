"""Compiled schemas: what they say about data that does not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from leanmq_topology.contracts.schemas import InvalidSchemaError, Violation, compile_schema

ORDER = {
    "type": "object",
    "required": ["order_id", "total"],
    "additionalProperties": False,
    "properties": {
        "order_id": {"type": "string", "pattern": "^A-[0-9]+$", "maxLength": 10},
        "total": {"type": "number", "minimum": 0, "exclusiveMaximum": 1000},
        "currency": {"enum": ["EUR", "USD"]},
        "notify": {"type": ["boolean", "null"]},
        "email": {"type": "string", "format": "email"},
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "uniqueItems": True,
            "items": {"type": "object", "required": ["sku"], "properties": {"a/b": {"type": "integer"}}},
        },
        "pay": {
            "oneOf": [
                {"type": "string"},
                {"type": "object", "required": ["iban"], "properties": {"iban": {"type": "string"}}},
            ]
        },
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "kind": {"const": "web"},
        "never": False,
        "labels": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]+$"},
            "minProperties": 1,
            "maxProperties": 2,
        },
        "tuple": {"prefixItems": [{"type": "string"}], "items": False},
        "no": {"not": {"type": "string"}},
        "three": {"multipleOf": 3},
        "has": {"contains": {"type": "string"}},
    },
}
GOOD = {"order_id": "A-1", "total": 9.5}


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"total": "9.5"}, "/total", "must be a number, not a string"),
        ({"total": True}, "/total", "must be a number, not true"),
        ({"total": -1}, "/total", "must be at least 0"),
        ({"total": 1000}, "/total", "must be less than 1000"),
        ({"order_id": "B"}, "/order_id", "must match the pattern ^A-[0-9]+$"),
        ({"order_id": "A-123456789"}, "/order_id", "must have at most 10 characters"),
        ({"order_id": "A-1\n"}, "/order_id", "must match the pattern ^A-[0-9]+$"),
        ({"currency": "CHF"}, "/currency", 'must be "EUR" or "USD"'),
        ({"notify": "yes"}, "/notify", "must be true or false or null, not a string"),
        ({"email": "nobody"}, "/email", "must be an e-mail address"),
        ({"items": []}, "/items", "must have at least 1 item"),
        ({"items": [{"sku": n} for n in range(4)]}, "/items", "must have at most 3 items"),
        ({"items": [{"sku": 1}, {"sku": 1.0}]}, "/items", "must not hold the same item twice"),
        ({"items": [{"sku": 1}, {}]}, "/items/1", "is missing required key 'sku'"),
        ({"items": [{"sku": 1, "a/b": 1.5}]}, "/items/0/a~1b", "must be an integer, not a number"),
        ({"pay": {}}, "/pay", "is missing required key 'iban'"),
        ({"pay": {"iban": 5}}, "/pay/iban", "must be a string, not a number"),
        ({"pay": 5}, "/pay", "must be an object or a string, not a number"),
        ({"either": 5}, "/either", "must be a string or null, not a number"),
        ({"kind": "shop"}, "/kind", 'must be "web"'),
        ({"never": 1}, "/never", "is not allowed here"),
        (
            {"labels": {"A": 1}},
            "/labels",
            "has a key that is not allowed: 'A', which must match the pattern ^[a-z]+$",
        ),
        ({"labels": {}}, "/labels", "must have at least 1 key"),
        ({"labels": {"a": 1, "b": 1, "c": 1}}, "/labels", "must have at most 2 keys"),
        ({"tuple": ["a", 2]}, "/tuple/1", "is not allowed here"),
        ({"no": "x"}, "/no", "has a form that its schema excludes"),
        ({"three": 4}, "/three", "must be a multiple of 3"),
        ({"has": [1]}, "/has", "does not hold the items that its schema asks for"),
        ({"totl": 1}, "", "has a key that is not declared: 'totl'"),
    ],
)
def test_violation_names_the_place_and_says_what_is_wrong(
    change: dict[str, Any], path: str, reason: str
) -> None:
    judge = compile_schema(ORDER)

    assert judge.find_violation(GOOD) is None
    assert judge.find_violation({**GOOD, **change}) == Violation(path, reason)


def test_missing_key_is_reported_at_the_object_that_lacks_it() -> None:
    assert compile_schema(ORDER).find_violation({"order_id": "A-1"}) == Violation(
        "", "is missing required key 'total'"
    )


def test_several_fitting_forms_of_one_are_told_apart_from_none() -> None:
    judge = compile_schema({"oneOf": [{"minimum": 1}, {"maximum": 5}]})

    assert judge.find_violation(3) == Violation(
        "", "fits more than one of the forms of which exactly one must fit"
    )


def test_explanation_never_repeats_a_value() -> None:
    secret = "s3cr3t-value"
    judge = compile_schema(
        {"properties": {"a": {"type": "integer"}, "b": {"pattern": "^x"}, "c": {"format": "ipv4"}}}
    )

    for key in "abc":
        violation = judge.find_violation({key: secret})
        assert violation is not None
        assert secret not in violation.reason


@pytest.mark.parametrize("value", [{1: 2}, {"a": "\ud800"}, math.nan, {"a": {1}}, b"x"])
def test_data_outside_json_gives_a_violation_and_no_traceback(value: Any) -> None:
    judge = compile_schema({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}})

    assert judge.find_violation(value) is not None


def test_equal_schemas_are_compiled_once_whatever_the_order_of_their_keys() -> None:
    first = compile_schema({"type": "string", "minLength": 1})

    assert compile_schema({"minLength": 1, "type": "string"}) is first
    assert compile_schema({"minLength": 2, "type": "string"}) is not first


def test_name_of_a_schema_does_not_move_its_references() -> None:
    schema = {"$id": "https://example.com/a/b.json", "$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}

    assert compile_schema(schema).is_valid("text")
    assert not compile_schema(schema).is_valid(1)


def test_schema_that_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(InvalidSchemaError):
        compile_schema({"$ref": "https://example.com/schema.json"})


def test_draft_7_keeps_its_own_meaning() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "string"}],
        "additionalItems": False,
    }

    assert compile_schema(schema).is_valid(["a"])
    assert not compile_schema(schema).is_valid(["a", "b"])


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"type": "integer"}, 1.0, True),
        ({"type": "integer"}, True, False),
        ({"type": "number"}, False, False),
        ({"const": 1}, True, False),
        ({"const": 1}, 1.0, True),
        ({"enum": [0]}, False, False),
        ({"multipleOf": 0.1}, 0.3, True),
        ({"multipleOf": 0.1}, 0.1 + 0.2, False),
        ({"multipleOf": 0.01}, 19.99, True),
        ({"maximum": 2**63}, 2**63 + 1, False),
        ({"const": 2**53 + 1}, 2**53, False),
    ],
)
def test_numbers_are_judged_as_documented(schema: dict[str, Any], value: Any, fits: bool) -> None:
    assert compile_schema(schema).is_valid(value) is fits
