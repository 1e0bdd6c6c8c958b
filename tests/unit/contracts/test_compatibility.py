"""Comparing an old schema with a new one: what breaks, shown by an example."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.contracts.compatibility import Answer, compare
from leanmq_topology.contracts.schemas import compile_schema

TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
TREE = {"type": "object", "properties": {"next": {"$ref": "#"}, "name": TEXT}}


def make(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


@pytest.mark.parametrize(
    ("old", "new", "backward", "forward"),
    [
        pytest.param(make({"a": TEXT}), make({"a": TEXT}), True, True, id="unchanged"),
        pytest.param(
            make({"a": TEXT}), make({"a": TEXT, "b": NUMBER}), True, True, id="optional property added"
        ),
        pytest.param(
            make({"a": TEXT}, additionalProperties=False),
            make({"a": TEXT, "b": NUMBER}, additionalProperties=False),
            True,
            False,
            id="optional property added to a closed object",
        ),
        pytest.param(
            make({"a": TEXT}), make({"a": TEXT, "b": TEXT}, "b"), False, True, id="required property added"
        ),
        pytest.param(make({"a": TEXT}), make({"a": TEXT}, "a"), False, True, id="property became required"),
        pytest.param(make({"a": TEXT}, "a"), make({"a": TEXT}), True, False, id="property became optional"),
        pytest.param(
            make({"a": TEXT, "b": TEXT}), make({"a": TEXT}), True, True, id="optional property removed"
        ),
        pytest.param(
            make({"a": TEXT}), make({"a": TEXT}, additionalProperties=False), False, True, id="object closed"
        ),
        pytest.param(make({"a": INTEGER}), make({"a": NUMBER}), True, False, id="integer widened to number"),
        pytest.param(make({"a": TEXT}), make({"a": NUMBER}), False, False, id="type changed"),
        pytest.param(
            make({"a": TEXT}), make({"a": {"type": ["string", "null"]}}), True, False, id="made nullable"
        ),
        pytest.param({"enum": ["a"]}, {"enum": ["a", "b"]}, True, False, id="alternative added"),
        pytest.param({**NUMBER, "minimum": 0}, {**NUMBER, "minimum": 1}, False, True, id="limit raised"),
        pytest.param({**TEXT, "maxLength": 5}, {**TEXT, "maxLength": 9}, True, False, id="limit loosened"),
        pytest.param(
            make({"a": TEXT}), make({"a": {**TEXT, "pattern": "^x"}}), False, True, id="pattern added"
        ),
        pytest.param(
            make({"a": TEXT}), make({"a": {**TEXT, "format": "email"}}), False, True, id="format added"
        ),
        pytest.param(
            make({"c": make({"a": TEXT})}),
            make({"c": make({"a": TEXT, "b": NUMBER})}),
            True,
            True,
            id="nested property",
        ),
        pytest.param(
            {"$ref": "#/$defs/a", "$defs": {"a": make({"x": TEXT})}},
            {"$ref": "#/$defs/a", "$defs": {"a": make({"x": TEXT, "y": NUMBER})}},
            True,
            True,
            id="property behind a reference",
        ),
        pytest.param(
            {"type": "array", "items": make({"x": TEXT})},
            {"type": "array", "items": make({"x": TEXT, "y": NUMBER})},
            True,
            True,
            id="property of the items",
        ),
        pytest.param(TREE, {**TREE, "title": "A tree", "examples": [{}]}, True, True, id="better described"),
        pytest.param(make({"a": TEXT}), True, True, False, id="anything allowed"),
        pytest.param(True, make({"a": TEXT}), False, True, id="described at last"),
        pytest.param(
            {"type": "object", "anyOf": [{"required": ["p"]}, {"required": ["q"]}]},
            {
                "type": "object",
                "anyOf": [{"required": ["p"]}, {"required": ["q"]}],
                "properties": {"p": TEXT},
            },
            False,
            True,
            id="key that was mentioned gets a type",
        ),
        pytest.param(
            {"$schema": "http://json-schema.org/draft-07/schema#", **make({"a": TEXT})},
            make({"a": TEXT}),
            True,
            True,
            id="dialect changed",
        ),
    ],
)
def test_change_is_judged_in_both_directions(old: Any, new: Any, backward: bool, forward: bool) -> None:
    assert compare(old, new, "backward").is_compatible is backward
    assert compare(old, new, "forward").is_compatible is forward
    assert compare(old, new, "full").is_compatible is (backward and forward)
    assert compare(old, new, "none").is_compatible


def test_incompatible_change_is_explained_with_an_example_that_really_breaks() -> None:
    old, new = make({"c": make({"total": NUMBER})}), make({"c": make({"total": INTEGER})})

    verdict = compare(old, new, "backward")

    assert verdict.answer is Answer.INCOMPATIBLE
    assert verdict.path == "/c/total"
    assert "must be an integer" in verdict.reason
    assert compile_schema(old).is_valid(verdict.example)
    assert not compile_schema(new).is_valid(verdict.example)


def test_what_cannot_be_proven_says_so_and_counts_as_incompatible() -> None:
    verdict = compare(TREE, {**TREE, "properties": {**TREE["properties"], "size": NUMBER}}, "backward")

    assert verdict.answer is Answer.UNKNOWN
    assert not verdict.is_compatible
    assert "could not be proven" in verdict.reason


def test_recursive_schema_that_breaks_is_still_caught_by_example() -> None:
    verdict = compare(TREE, {**TREE, "required": ["name"]}, "backward")

    assert verdict.answer is Answer.INCOMPATIBLE
    assert verdict.reason.endswith("is missing required key 'name'")


def test_without_a_proof_engine_nothing_is_called_compatible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanmq_topology.contracts.algebra.engine.fast_engine_found", False)

    with pytest.warns(RuntimeWarning):
        verdict = compare(make({"a": TEXT}), make({"a": {"type": ["string", "null"]}}), "backward")

    assert verdict.answer is Answer.UNKNOWN


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="backward"):
        compare(True, True, "sideways")
