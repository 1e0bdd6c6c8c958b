"""D27-D36 of the catalogue of bad input: what is wrong with a message schema, each with its place."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from leanmq_topology.contracts.explanation import FORMAT_WORDS
from leanmq_topology.contracts.schemas import check_schema, compile_schema
from leanmq_topology.diagnostics import Severity, explain_code

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DEEP: dict[str, Any] = {}
for _ in range(100):
    DEEP = {"items": DEEP}

WRONG_SCHEMAS = [
    ({"type": "strng"}, "LMQ221", ("type",), "did you mean 'string'?"),
    ({"type": ["string", "nul"]}, "LMQ221", ("type", 1), "did you mean 'null'?"),
    ({"minimum": "5"}, "LMQ221", ("minimum",), None),
    ({"required": "total"}, "LMQ221", ("required",), None),
    ({"properties": []}, "LMQ221", ("properties",), None),
    ({"requried": ["total"]}, "LMQ222", ("requried",), "did you mean 'required'?"),
    ({"items": {"maxlength": 3}}, "LMQ222", ("items", "maxlength"), "did you mean 'maxLength'?"),
    ({"nullable": True}, "LMQ222", ("nullable",), "write `type: [string, 'null']`"),
    ({"prefixItems": [], "$schema": DRAFT_7}, "LMQ222", ("prefixItems",), "draft 7 writes `items: [...]`"),
    ({"format": "emial"}, "LMQ223", ("format",), "did you mean 'email'?"),
    ({"format": "int32"}, "LMQ223", ("format",), None),
    ({"$ref": "https://example.com/a.json"}, "LMQ224", ("$ref",), None),
    ({"$ref": "HTTP://example.com/a.json"}, "LMQ224", ("$ref",), None),
    ({"$ref": "//example.com/a.json"}, "LMQ224", ("$ref",), None),
    ({"$ref": "file:///etc/passwd"}, "LMQ224", ("$ref",), None),
    ({"$ref": "urn:example:a"}, "LMQ224", ("$ref",), None),
    ({"$ref": "/etc/passwd"}, "LMQ225", ("$ref",), None),
    ({"$ref": "#/$defs/mony", "$defs": {"money": {}}}, "LMQ226", ("$ref",), "did you mean 'money'?"),
    ({"$ref": "#/title", "title": "x"}, "LMQ226", ("$ref",), None),
    ({"$ref": "#"}, "LMQ227", ("$ref",), None),
    ({"$ref": "#/"}, "LMQ226", ("$ref",), None),
    ({"properties": {"a": {"$dynamicRef": "#x"}}}, "LMQ228", ("properties", "a", "$dynamicRef"), None),
    ({"$anchor": "x"}, "LMQ228", ("$anchor",), None),
    ({"$ref": "#x"}, "LMQ228", ("$ref",), None),
    ({"items": {"$id": "other.json"}}, "LMQ228", ("items", "$id"), "remove it"),
    ({"$schema": "http://json-schema.org/draft-04/schema#"}, "LMQ229", ("$schema",), None),
    ({"$schema": 5}, "LMQ229", ("$schema",), None),
    ({"pattern": "("}, "LMQ230", ("pattern",), None),
    ({"pattern": "(?<=a)b"}, "LMQ230", ("pattern",), None),
    ({"pattern": r"(a)\1"}, "LMQ230", ("pattern",), None),
    ({"pattern": "(a{1,1000}){1,1000}"}, "LMQ230", ("pattern",), None),
    ({"patternProperties": {"(?=a)": {}}}, "LMQ230", ("patternProperties", "(?=a)"), None),
    ({"uniqueItems": True}, "LMQ231", ("uniqueItems",), None),
    ({"uniqueItems": True, "maxItems": 3000}, "LMQ231", ("uniqueItems",), None),
    ([], "LMQ220", (), None),
    ("string", "LMQ220", (), None),
    (None, "LMQ220", (), None),
    ({"minimum": math.nan}, "LMQ220", ("minimum",), None),
    ({"const": 2**70}, "LMQ220", ("const",), None),
    (DEEP, "LMQ234", (), None),
    ({"enum": ["x" * 1024] * 1024}, "LMQ234", (), None),
]


@pytest.mark.parametrize(("schema", "code", "pointer", "suggestion"), WRONG_SCHEMAS)
def test_wrong_schema_is_an_error_at_its_place(
    schema: Any, code: str, pointer: tuple[str | int, ...], suggestion: str | None
) -> None:
    started = time.process_time()

    found = check_schema(schema)

    assert [(problem.code, problem.pointer, problem.severity) for problem in found] == [
        (code, pointer, Severity.ERROR)
    ]
    assert suggestion is None or found[0].suggestion == suggestion
    assert explain_code(code) is not None
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("schema", "code", "pointer"),
    [
        (True, "LMQ233", ()),
        (False, "LMQ233", ()),
        ({}, "LMQ233", ()),
        ({"title": "Anything"}, "LMQ233", ()),
        ({"multipleOf": 0.1}, "LMQ232", ("multipleOf",)),
        ({"uniqueItems": True, "maxItems": 500}, "LMQ231", ("uniqueItems",)),
        (
            {
                "$schema": DRAFT_7,
                "items": {"$ref": "#/definitions/a", "minLength": 1},
                "definitions": {"a": {}},
            },
            "LMQ235",
            ("items", "minLength"),
        ),
    ],
)
def test_doubtful_schema_is_a_warning(schema: Any, code: str, pointer: tuple[str, ...]) -> None:
    found = check_schema(schema)

    assert [(problem.code, problem.pointer, problem.severity) for problem in found] == [
        (code, pointer, Severity.WARNING)
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"const": {"requried": 1, "$ref": "https://example.com"}},
        {"type": "string", "examples": [{"type": "strng"}], "x-owner": {"type": "strng"}},
        {"properties": {"requried": {"type": "string"}, "$ref": {"type": "string"}}},
        {"$id": "https://example.com/order.json", "type": "string"},
        {"uniqueItems": True, "maxItems": 100},
        {"uniqueItems": False},
        {"multipleOf": 0.0 + 5},
        {"pattern": r"^(a+)+$"},
        {"pattern": r"^\p{Lu}[\w-]{1,40}$"},
        {
            "$schema": DRAFT_7,
            "items": [{"type": "string"}],
            "additionalItems": False,
            "dependencies": {"a": ["b"]},
        },
        {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "string"}}},
        {"prefixItems": [{"$ref": "#/prefixItems/1"}, {"type": "string"}]},
        *({"type": "string", "format": name} for name in FORMAT_WORDS),
    ],
)
def test_sound_schema_has_no_findings_and_compiles(schema: dict[str, Any]) -> None:
    assert check_schema(schema) == []
    compile_schema(schema)


def test_several_mistakes_are_reported_at_once() -> None:
    schema = {
        "requried": ["a"],
        "properties": {"a": {"type": "strng", "pattern": "("}, "b": {"$ref": "http://x/y", "format": "emal"}},
    }

    found = {(problem.code, problem.pointer) for problem in check_schema(schema)}

    assert found == {
        ("LMQ222", ("requried",)),
        ("LMQ221", ("properties", "a", "type")),
        ("LMQ230", ("properties", "a", "pattern")),
        ("LMQ224", ("properties", "b", "$ref")),
        ("LMQ223", ("properties", "b", "format")),
    }


def test_loop_of_two_references_is_shown_as_a_path() -> None:
    schema = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}},
    }

    (problem,) = check_schema(schema)

    assert problem.code == "LMQ227"
    assert "#/$defs/a → #/$defs/a/allOf/0 → #/$defs/b → #/$defs/a" in problem.message


def test_long_chain_of_references_is_no_loop() -> None:
    chain = {str(number): {"$ref": f"#/$defs/{number + 1}"} for number in range(3000)}
    schema = {"$ref": "#/$defs/0", "$defs": chain | {"3000": {"type": "string"}}}

    assert check_schema(schema) == []


def test_references_that_multiply_are_refused_in_no_time() -> None:
    bomb = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)} | {
        "60": {"type": "string"}
    }
    started = time.process_time()

    (problem,) = check_schema({"$ref": "#/$defs/0", "$defs": bomb})

    assert problem.code == "LMQ234"
    assert time.process_time() - started < 1


def test_checking_opens_no_file_and_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("something was opened")

    compile_schema({"type": "string"})  # whatever is loaded once is loaded now
    check_schema({"type": "string"})
    check_schema({"$schema": DRAFT_7, "type": "string"})
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)

    for reference in (
        "http://127.0.0.1:1/a",
        "https://example.com/a",
        "file:///etc/passwd",
        "urn:a:b",
        "other.json",
    ):
        assert [problem.is_error for problem in check_schema({"items": {"$ref": reference}})] == [True]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(x+x+)+y", "^([a-zA-Z0-9])(([a-zA-Z0-9])*)*$"])
def test_regular_expression_bomb_answers_at_once(pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    assert check_schema(schema) == []
    judge = compile_schema(schema)
    hostile = ["a" * 5000 + "!", "x" * 5000]
    started = time.process_time()

    for text in hostile:
        judge.is_valid(text)

    assert time.process_time() - started < 0.05


def test_hostile_unique_list_within_the_limit_answers_at_once() -> None:
    judge = compile_schema({"type": "array", "uniqueItems": True, "maxItems": 100})
    started = time.process_time()

    assert judge.find_violation([2**63 + number for number in range(100)]) is None
    assert judge.find_violation([2**63 + number for number in range(40_000)]) is not None

    assert time.process_time() - started < 0.5
