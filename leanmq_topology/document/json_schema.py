"""The topology's JSON Schema, and whether a document has that shape.

jsonschema-rs decides. Only when it says no is `jsonschema` imported to explain why, and it looks at nothing
but the resources that are wrong, so that one typo among ten thousand queues costs no more than one among ten.

The published schema serves editors, which see `${VAR}` where we see its value, and knows patterns for what
is written in a string. Both are left out of what is checked here: the topology layer reads those strings, and
says better what is wrong with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from leanmq_topology.diagnostics import Diagnostic, sort_diagnostics
from leanmq_topology.document.reader import Document
from leanmq_topology.document.shape_words import explain_violation

FORMAT = 1
"""The version of the topology language that is read."""

_NAMES = ("properties", "patternProperties", "definitions")
"""Keywords whose keys are names, not keywords."""
_IGNORED = frozenset(
    {"pattern", "propertyNames", "markdownDescription", "defaultSnippets", "examples", "default"}
)
_VARIABLE = {"$ref": "#/definitions/variable"}

ValuePath = tuple[str | int, ...]


def topology_schema() -> dict[str, Any]:
    """The published schema (draft-07), as a fresh copy."""
    schema: dict[str, Any] = json.loads(topology_schema_text())
    return schema


def topology_schema_text() -> str:
    """The published schema as it is written, for whoever wants a copy beside a topology."""
    return _schema_file().read_text(encoding="utf-8")


def check_shape(document: Document) -> list[Diagnostic]:
    """Everything in which a document departs from the schema, in file order. Empty if it conforms."""
    version = _check_version(document)
    if version:
        return [version]
    found = list(_check_values(document, document.values, (), _checked_schema()))
    if document.environments is not None:
        found += _check_values(document, document.environments, ("environments",), _environment_schema())
    return sort_diagnostics(_without_repeats(found))


def _check_version(document: Document) -> Diagnostic | None:
    """A file of another format is judged by nothing else: what this one does not know may be right there."""
    if "leanmq" not in document.values:
        return None
    version = document.values["leanmq"]
    if version == FORMAT and type(version) is int:
        return None
    span = document.span(("leanmq",))
    if type(version) is int:
        message, hint = f"format {version} is unknown; this LeanMQ reads format {FORMAT}", "upgrade LeanMQ"
        hint = hint if version > FORMAT else f"write leanmq: {FORMAT}"
    else:
        message, hint = (
            f"leanmq must be the number {FORMAT}, the version of the format",
            f"write leanmq: {FORMAT}",
        )
    return Diagnostic("LMQ202", message, "leanmq", hint, span=span)


def _check_values(
    document: Document, values: Any, at: ValuePath, schema: dict[str, Any]
) -> Iterator[Diagnostic]:
    validator = _compile(at)
    if validator.is_valid(values):
        return
    wrong = {tuple(error.instance_path[:2]) for error in validator.iter_errors(values)}
    from jsonschema import Draft7Validator

    for violation in Draft7Validator(schema).iter_errors(_narrow(values, wrong)):
        yield from explain_violation(document, violation, at)


def _narrow(values: Any, wrong: set[tuple[str | int, ...]]) -> Any:
    """The same values without the resources that are right, wherever the section itself is right."""
    if not isinstance(values, dict) or () in wrong:
        return values
    narrowed = dict(values)
    for section, content in values.items():
        names = {place[1] for place in wrong if len(place) == 2 and place[0] == section}
        if isinstance(content, dict) and (section,) not in wrong:
            narrowed[section] = {name: content[name] for name in content if name in names}
    return narrowed


def _without_repeats(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The chosen environment is checked twice; what is said of it where it was merged is kept."""
    unique: dict[object, Diagnostic] = {}
    for item in found:
        unique.setdefault((item.code, item.span or item.address, item.message), item)
    return list(unique.values())


@cache
def _compile(at: ValuePath) -> jsonschema_rs.Draft7Validator:
    schema = _environment_schema() if at else _checked_schema()
    return jsonschema_rs.Draft7Validator(schema, offline=True)


@cache
def _checked_schema() -> dict[str, Any]:
    schema: dict[str, Any] = _simplify(topology_schema(), with_variables=False)
    return schema


@cache
def _environment_schema() -> dict[str, Any]:
    """For `environments:` as written: only the chosen one has its variables filled in."""
    schema = _simplify(topology_schema(), with_variables=True)
    environments: dict[str, Any] = schema["properties"]["environments"]
    return {**environments, "definitions": schema["definitions"]}


def _simplify(schema: Any, *, with_variables: bool) -> Any:
    """A schema without what only editors need."""
    if isinstance(schema, list):
        return [
            _simplify(item, with_variables=with_variables)
            for item in schema
            if with_variables or item != _VARIABLE
        ]
    if not isinstance(schema, dict):
        return schema
    simple = {}
    for keyword, value in schema.items():
        if keyword in _NAMES:
            simple[keyword] = {
                name: _simplify(below, with_variables=with_variables) for name, below in value.items()
            }
        elif keyword not in _IGNORED or (schema.get("title") == "variable" and keyword == "pattern"):
            simple[keyword] = _simplify(value, with_variables=with_variables)
    branches = simple.get("anyOf")
    if branches is not None and len(branches) == 1:
        del simple["anyOf"]
        simple |= branches[0]
    return simple


def _schema_file() -> Path:
    """In a wheel the schema stands inside the package, in a checkout beside it; it is the same file."""
    package = Path(__file__).parents[1]
    inside = package / "schemas" / "topology.schema.json"
    return inside if inside.is_file() else package.parent / "schemas" / "topology.schema.json"
