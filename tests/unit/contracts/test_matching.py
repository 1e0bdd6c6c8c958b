"""`match`: which messages it lets through, and which mistakes in it are found before any message."""

from __future__ import annotations

import math
from typing import Any

import pytest

from leanmq_topology.contracts.matching import check_match, compile_match
from leanmq_topology.diagnostics import Severity

ORDER: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "total": {"type": "number", "maximum": 1000},
        "notify": {"type": "boolean"},
        "customer": {"$ref": "#/$defs/customer"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
    },
    "patternProperties": {"^tag_": {"type": "string"}},
    "$defs": {"customer": {"type": "object", "properties": {"country": {"enum": ["FR", "DE"]}}}},
}
OPEN = {"type": "object", "properties": {"total": {"type": "number"}}}


@pytest.mark.parametrize(
    ("match", "data", "matches"),
    [
        ({"data.notify": True}, {"notify": True}, True),
        ({"data.notify": True}, {"notify": 1}, False),
        ({"data.notify": True}, {"notify": "true"}, False),
        ({"data.notify": True}, {}, False),
        ({"data.n": 1}, {"n": 1.0}, True),
        ({"data.n": None}, {"n": None}, True),
        ({"data.n": None}, {}, False),
        ({"data.n": ["a", "b"]}, {"n": "b"}, True),
        ({"data.n": ["a", "b"]}, {"n": ["a", "b"]}, False),
        ({"data.n": [1, {"minimum": 10}]}, {"n": 11}, True),
        ({"data.n": [1, {"minimum": 10}]}, {"n": 5}, False),
        ({"data.total": {"minimum": 50}}, {"total": 50}, True),
        ({"data.total": {"minimum": 50}}, {"total": 49.9}, False),
        ({"data.total": {"minimum": 50}}, {}, False),
        ({"data.x": {}}, {"x": None}, True),
        ({"data.x": {}}, {"y": 1}, False),
        ({"data.a.b.c": 1}, {"a": {"b": {"c": 1}}}, True),
        ({"data.a.b.c": 1}, {"a": {"b": 1}}, False),
        ({"data.a": 1, "data.b": 2}, {"a": 1, "b": 2}, True),
        ({"data.a": 1, "data.b": 2}, {"a": 1, "b": 3}, False),
        ({"/data/a.b": 1}, {"a.b": 1}, True),
        ({"/data/a~1b/~0": 1}, {"a/b": {"~": 1}}, True),
        ({"data.items.1.sku": "x"}, {"items": [{}, {"sku": "x"}]}, True),
        ({"data.items.1.sku": "x"}, {"items": [{"sku": "x"}]}, False),
        ({"data.items.1.sku": "x"}, {"items": {"1": {"sku": "x"}}}, True),
        ({"data.a": 1}, ["a"], False),
        ({"data.a": 1}, None, False),
        ({"type": "order.placed"}, {}, True),
        ({"type": ["order.paid", "order.placed"]}, {}, True),
        ({"type": {"pattern": "^order\\."}}, {}, True),
        ({"type": "order.paid"}, {}, False),
        ({"headers.tenant": "acme"}, {}, True),
        ({"/headers/x.y": "1"}, {}, True),
        ({"headers.region": "eu"}, {}, False),
        ({}, {}, True),
        (None, {}, True),
    ],
)
def test_match_lets_through_what_meets_every_condition(match: Any, data: Any, matches: bool) -> None:
    matcher = compile_match(match)

    assert matcher.matches(type="order.placed", headers={"tenant": "acme", "x.y": "1"}, data=data) is matches


def test_message_without_headers_can_be_matched() -> None:
    assert not compile_match({"headers.tenant": "acme"}).matches(type="a", headers=None, data={})


def test_equal_matches_are_compiled_once() -> None:
    assert compile_match({"data.a": 1, "data.b": 2}) is compile_match({"data.b": 2, "data.a": 1})


@pytest.mark.parametrize(
    ("match", "code", "pointer", "suggestion"),
    [
        ([], "LMQ246", (), None),
        ({"total": 1}, "LMQ245", ("total",), None),
        ({"data": 1}, "LMQ245", ("data",), None),
        ({"data.": 1}, "LMQ245", ("data.",), None),
        ({"data..a": 1}, "LMQ245", ("data..a",), None),
        ({"headers.a.b": "x"}, "LMQ245", ("headers.a.b",), None),
        ({"type.x": "x"}, "LMQ245", ("type.x",), None),
        ({"data.total": []}, "LMQ246", ("data.total",), None),
        ({"data.total": math.nan}, "LMQ246", ("data.total",), None),
        ({"headers.retries": 3}, "LMQ246", ("headers.retries",), "write it in quotes: '3'"),
        ({"headers.x": ["a", True]}, "LMQ246", ("headers.x", 1), "write it in quotes: 'true'"),
        ({"headers.x": {"minimum": 3}}, "LMQ246", ("headers.x", "minimum"), None),
        ({"data.total": {"$ref": "#/$defs/a"}}, "LMQ246", ("data.total", "$ref"), None),
        ({"data.total": {"minimun": 50}}, "LMQ222", ("data.total", "minimun"), "did you mean 'minimum'?"),
        ({"data.total": {"type": "numbr"}}, "LMQ221", ("data.total", "type"), "did you mean 'number'?"),
        ({"data.total": [5, {"minimun": 50}]}, "LMQ222", ("data.total", 1, "minimun"), None),
        ({"data.totl": 5}, "LMQ247", ("data.totl",), "did you mean 'data.total'?"),
        ({"data.total.cents": 5}, "LMQ247", ("data.total.cents",), None),
        ({"data.items.sku": 5}, "LMQ247", ("data.items.sku",), None),
        ({"type": "order.placd"}, "LMQ249", ("type",), "did you mean 'order.placed'?"),
        ({"data.total": "50"}, "LMQ250", ("data.total",), None),
        ({"data.total": {"minimum": 2000}}, "LMQ250", ("data.total",), None),
        ({"data.customer.country": ["UK", "US"]}, "LMQ250", ("data.customer.country",), None),
        ({"data.total": {"minimum": 10}, "/data/total": {"maximum": 5}}, "LMQ250", (), None),
    ],
)
def test_match_that_cannot_work_is_an_error_at_its_place(
    match: Any, code: str, pointer: tuple[str | int, ...], suggestion: str | None
) -> None:
    found = check_match(match, {"order.placed": ORDER})

    assert [(problem.code, problem.pointer, problem.severity) for problem in found] == [
        (code, pointer, Severity.ERROR)
    ]
    assert suggestion is None or found[0].suggestion == suggestion


@pytest.mark.parametrize(
    "match",
    [
        {"data.notify": True, "data.total": {"minimum": 50}},
        {"data.customer.country": "FR"},
        {"data.items.0.sku": "x"},
        {"data.tag_colour": "red"},
        {"type": "order.placed", "headers.tenant": ["acme", "beta"]},
        {"data.total": {}},
        {},
    ],
)
def test_match_that_can_work_has_no_findings(match: dict[str, Any]) -> None:
    assert check_match(match, {"order.placed": ORDER}) == []


def test_property_that_the_schema_leaves_open_is_a_warning() -> None:
    (problem,) = check_match({"data.customer.contry": "FR"}, {"order.placed": ORDER})

    assert (problem.code, problem.severity) == ("LMQ248", Severity.WARNING)
    assert problem.suggestion == "did you mean 'data.customer.country'?"


def test_with_several_types_one_that_can_match_is_enough() -> None:
    schemas = {"order.placed": ORDER, "order.paid": OPEN}

    assert check_match({"data.total": {"minimum": 2000}}, schemas) == []
    assert [problem.code for problem in check_match({"data.paid_at": 5}, schemas)] == ["LMQ248"]
    assert check_match({"data.notify": True}, schemas) == []


def test_condition_on_the_type_narrows_the_schemas_that_count() -> None:
    schemas = {"order.placed": ORDER, "order.paid": OPEN}

    (problem,) = check_match({"type": "order.placed", "data.paid_at": 5}, schemas)

    assert problem.code == "LMQ247"


def test_without_schemas_only_the_form_is_checked() -> None:
    assert check_match({"data.anything": 1, "type": "x"}, {}) == []
    assert [problem.code for problem in check_match({"anything": 1}, {})] == ["LMQ245"]


def test_several_mistakes_are_reported_at_once() -> None:
    found = check_match({"totl": 1, "data.total": {"minimun": 1}, "headers.a": 1}, {"order.placed": ORDER})

    assert [problem.code for problem in found] == ["LMQ245", "LMQ222", "LMQ246"]


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"allOf": [{"properties": {"a": {}}}, {"additionalProperties": False}]}, "LMQ247"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"additionalProperties": False}}}, "LMQ247"),
        ({"unevaluatedProperties": False, "allOf": [{"properties": {"b": {}}}]}, "LMQ247"),
        ({"unevaluatedProperties": False, "allOf": [{"properties": {"a": {}}}]}, None),
        ({"anyOf": [{"additionalProperties": False}, {"properties": {"a": {}}}]}, None),
        ({"oneOf": [{"additionalProperties": False}, {"type": "string"}]}, "LMQ247"),
        ({"additionalProperties": {"type": "string"}}, None),
        ({"if": {"required": ["b"]}, "then": {"properties": {"a": {}}}}, None),
        ({"if": {"required": ["b"]}, "then": {"additionalProperties": False}}, "LMQ248"),
        ({"properties": {"a": False}}, "LMQ247"),
        (True, "LMQ248"),
        (False, "LMQ247"),
    ],
)
def test_closed_and_declared_are_seen_through_combined_schemas(schema: Any, code: str | None) -> None:
    found = check_match({"data.a": "x"}, {"t": schema})

    assert [problem.code for problem in found] == ([code] if code else [])
