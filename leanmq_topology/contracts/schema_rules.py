"""Everything that is wrong with a message schema, found before the first message is judged by it.

Stricter than the standard on purpose: a keyword that no code knows or a format that is not asserted would be
ignored silently, and a contract that checks less than it says is worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from leanmq_topology.contracts.bundling import Bundled
from leanmq_topology.contracts.engine import (
    DRAFT_7,
    DRAFT_2020_12,
    Engine,
    Failure,
    InvalidSchemaError,
    build_engine,
    read_dialect,
)
from leanmq_topology.contracts.explanation import FORMAT_WORDS, describe
from leanmq_topology.contracts.keywords import ELSEWHERE, REFUSED, list_keywords, walk_schemas
from leanmq_topology.contracts.loops import find_loops
from leanmq_topology.contracts.payload import check_payload
from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.references import (
    MISSING,
    find_reference_fault,
    find_target,
    report_missing,
    split_reference,
)
from leanmq_topology.contracts.violation import Pointer, parse_pointer, printable
from leanmq_topology.diagnostics import Severity, closest, did_you_mean

MAX_SCHEMA_SIZE = 512 * 1024
"""Bytes of a bundled schema as JSON."""

SAFE_UNIQUE_ITEMS = 100
"""`uniqueItems` up to here costs at most about 5 ms a list, whatever the items are.

Measured with jsonschema-rs 0.60 on neighbouring integers above 2^63, whose hashes collide; 1,000 of them cost
0.6 s, 10,000 cost 11 s. It judges `maxItems` first but `items` last, so declared types do not help.
"""
MAX_UNIQUE_ITEMS = 1000
"""Above this, one hostile list can stop a worker for seconds: an error instead of a warning."""

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_UNSUPPORTED_PATTERN = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<|\(\?>|[*+?}]\+")


def check_bundle(bundled: Bundled) -> list[SchemaProblem]:
    """Every problem of a bundled schema, those of its references too, each at its place in its own file."""
    found = list(bundled.problems)
    reported = {(problem.file, problem.pointer) for problem in found}
    placed = (bundled.place(problem) for problem in check_schema(bundled.schema))
    return found + [problem for problem in placed if (problem.file, problem.pointer) not in reported]


def check_schema(schema: Any) -> list[SchemaProblem]:
    """Every problem of a self-contained schema (see `bundle_schema`), errors and warnings.

    Pointers lead into this schema; `Bundled.place` turns them into places in files.
    """
    if isinstance(schema, bool):
        return [_report_boolean(schema)]
    blocking = _check_form(schema) or _check_size(schema)
    if blocking:
        return [blocking]
    dialect = read_dialect(schema)
    if dialect is None:
        return [_report_dialect(schema)]
    found = [
        *_check_meta_schema(schema, dialect),
        *_check_keywords(schema, dialect),
        *_check_references(schema, dialect),
    ]
    found = _drop_echoes(found)
    if not any(problem.is_error for problem in found):
        found += _check_engine(schema)
    return found


def _report_boolean(schema: bool) -> SchemaProblem:
    what = "accepts any data" if schema else "refuses all data"
    return SchemaProblem(
        "LMQ233",
        f"the schema `{str(schema).lower()}` {what}",
        suggestion="describe the data, at least `type: object` and its `properties`",
        severity=Severity.WARNING,
    )


def _check_form(schema: Any) -> SchemaProblem | None:
    if not isinstance(schema, dict):
        return SchemaProblem("LMQ220", "a schema must be a mapping, or true or false")
    violation = check_payload(schema)
    if violation is None:
        return None
    if "too deep" in violation.reason:
        return SchemaProblem("LMQ234", "the schema is nested deeper than 64 levels")
    at = parse_pointer(violation.path) or ()
    return SchemaProblem("LMQ220", f"the value cannot be used: it {violation.reason}", at)


def _check_size(schema: dict[str, Any]) -> SchemaProblem | None:
    size = len(json.dumps(schema, ensure_ascii=False).encode())
    if size <= MAX_SCHEMA_SIZE:
        return None
    return SchemaProblem("LMQ234", f"the schema has {size} bytes, more than {MAX_SCHEMA_SIZE}")


def _report_dialect(schema: dict[str, Any]) -> SchemaProblem:
    return SchemaProblem(
        "LMQ229",
        f"this dialect of JSON Schema is not supported: {printable(str(schema['$schema']))}",
        ("$schema",),
        suggestion=f"leave `$schema` out (2020-12), or write {DRAFT_7}#",
    )


@cache
def _meta_engine(dialect: str) -> Engine:
    return build_engine({"$schema": dialect, "$ref": dialect if dialect == DRAFT_2020_12 else f"{dialect}#"})


def _check_meta_schema(schema: dict[str, Any], dialect: str) -> Iterator[SchemaProblem]:
    for failure in _meta_engine(dialect).list_failures(schema):
        yield _report_failure(failure)


def _report_failure(failure: Failure) -> SchemaProblem:
    keyword = str(failure.at[-1]) if failure.at else "schema"
    if failure.at[-1:] == ("type",) and isinstance(failure.value, str | list):
        return _report_type(failure)
    return SchemaProblem("LMQ221", f"`{keyword}` {describe(failure)}", failure.at)


def _report_type(failure: Failure) -> SchemaProblem:
    names = failure.value if isinstance(failure.value, list) else [failure.value]
    wrong = next((name for name in names if name not in _TYPES), None)
    if wrong is None:
        return SchemaProblem("LMQ221", "`type` must list different types, at least one", failure.at)
    at = (*failure.at, names.index(wrong)) if isinstance(failure.value, list) else failure.at
    return SchemaProblem(
        "LMQ221",
        f"there is no type {wrong!r}; types are {', '.join(_TYPES)}",
        at,
        suggestion=did_you_mean(str(wrong), _TYPES),
    )


def _drop_echoes(found: list[SchemaProblem]) -> list[SchemaProblem]:
    """One finding a place: the meta-schema's word on what a rule of ours has explained adds nothing."""
    explained = {problem.pointer for problem in found if problem.code != "LMQ221"}
    kept = [problem for problem in found if problem.code != "LMQ221" or problem.pointer not in explained]
    # The 2020-12 meta-schema is made of vocabularies that each repeat some of its rules.
    return list(dict.fromkeys(kept))


def _check_keywords(schema: dict[str, Any], dialect: str) -> Iterator[SchemaProblem]:
    known = list_keywords(dialect)
    for at, current in walk_schemas(schema, dialect):
        if not isinstance(current, dict):
            continue
        for keyword in current:
            if keyword not in known and not str(keyword).startswith("x-"):
                yield _report_keyword(keyword, at, known)
        yield from _check_one(current, at, dialect)


def _report_keyword(keyword: str, at: Pointer, known: Iterable[str]) -> SchemaProblem:
    if keyword in REFUSED:
        return SchemaProblem(
            "LMQ228", f"`{keyword}` is not supported", (*at, keyword), suggestion=REFUSED[keyword]
        )
    suggestion = ELSEWHERE.get(keyword) or did_you_mean(keyword, known)
    if suggestion is None:
        suggestion = "remove it, or start it with `x-` if it is a note for other tools"
    return SchemaProblem(
        "LMQ222", f"there is no keyword `{printable(keyword)}`", (*at, keyword), suggestion=suggestion
    )


def _check_one(schema: dict[str, Any], at: Pointer, dialect: str) -> Iterator[SchemaProblem]:
    """The rules that look at one schema alone."""
    if at:
        yield from _check_rebasing(schema, at)
    yield from _check_format(schema, at)
    yield from _check_patterns(schema, at)
    yield from _check_costs(schema, at)
    if dialect == DRAFT_7:
        yield from _check_ignored(schema, at)


def _check_rebasing(schema: dict[str, Any], at: Pointer) -> Iterator[SchemaProblem]:
    for keyword in ("$id", "$schema"):
        if keyword in schema:
            message = f"`{keyword}` may only stand at the top of a schema: it changes what references mean"
            yield SchemaProblem("LMQ228", message, (*at, keyword), suggestion="remove it")


def _check_format(schema: dict[str, Any], at: Pointer) -> Iterator[SchemaProblem]:
    name = schema.get("format")
    if isinstance(name, str) and name not in FORMAT_WORDS:
        near = closest(name, FORMAT_WORDS)
        yield SchemaProblem(
            "LMQ223",
            f"the format {printable(name)!r} is not checked here, so it would promise nothing",
            (*at, "format"),
            suggestion=f"did you mean {near!r}?" if near else f"formats are {', '.join(FORMAT_WORDS)}",
        )


def _check_patterns(schema: dict[str, Any], at: Pointer) -> Iterator[SchemaProblem]:
    if isinstance(schema.get("pattern"), str):
        yield from _check_pattern(schema["pattern"], (*at, "pattern"))
    if isinstance(schema.get("patternProperties"), dict):
        for pattern in schema["patternProperties"]:
            yield from _check_pattern(pattern, (*at, "patternProperties", pattern))


def _check_pattern(pattern: str, at: Pointer) -> Iterator[SchemaProblem]:
    try:
        build_engine({"pattern": pattern})
    except InvalidSchemaError:
        shown = printable(pattern if len(pattern) <= 80 else pattern[:79] + "…")
        yield SchemaProblem(
            "LMQ230", f"the pattern {shown!r} cannot be used", at, suggestion=_mend_pattern(pattern)
        )


def _mend_pattern(pattern: str) -> str:
    if _UNSUPPORTED_PATTERN.search(pattern):
        return (
            "look-around, back-references, possessive and atomic groups are not supported, because they can "
            "take for ever; write it without them, or split it into several patterns under `allOf`"
        )
    return "close every bracket and escape special characters with a backslash; repetitions must stay small"


def _check_costs(schema: dict[str, Any], at: Pointer) -> Iterator[SchemaProblem]:
    if schema.get("uniqueItems") is True:
        yield from _check_unique(schema.get("maxItems"), (*at, "uniqueItems"))
    divisor = schema.get("multipleOf")
    if isinstance(divisor, float) and not divisor.is_integer():
        yield SchemaProblem(
            "LMQ232",
            f"`multipleOf: {divisor}` refuses computed fractions: 0.1 + 0.2 is not exactly 0.3 in a program",
            (*at, "multipleOf"),
            suggestion="send an integer in the smallest unit, such as cents",
            severity=Severity.WARNING,
        )


def _check_unique(limit: Any, at: Pointer) -> Iterator[SchemaProblem]:
    bounded = isinstance(limit, int | float)
    if bounded and limit <= SAFE_UNIQUE_ITEMS:
        return
    small = bounded and limit <= MAX_UNIQUE_ITEMS
    yield SchemaProblem(
        "LMQ231",
        f"`uniqueItems` needs a `maxItems` beside it, at most {SAFE_UNIQUE_ITEMS}: "
        "one hostile list could otherwise stop a worker",
        at,
        suggestion=f"add `maxItems: {SAFE_UNIQUE_ITEMS}`, or remove `uniqueItems`",
        severity=Severity.WARNING if small else Severity.ERROR,
    )


def _check_ignored(schema: dict[str, Any], at: Pointer) -> Iterator[SchemaProblem]:
    beside = [
        key for key in schema if key not in ("$ref", "$schema", "$id", "$comment", "definitions", "$defs")
    ]
    if "$ref" in schema and beside:
        yield SchemaProblem(
            "LMQ235",
            f"draft 7 ignores what stands beside `$ref`: {', '.join(beside[:5])}",
            (*at, beside[0]),
            suggestion="put both into `allOf`, or use 2020-12",
            severity=Severity.WARNING,
        )


def _check_references(schema: dict[str, Any], dialect: str) -> list[SchemaProblem]:
    found = [
        problem
        for at, current in walk_schemas(schema, dialect)
        if isinstance(current, dict) and "$ref" in current
        for problem in _check_reference(schema, current["$ref"], (*at, "$ref"))
    ]
    return found or find_loops(schema, dialect)


def _check_reference(schema: dict[str, Any], reference: Any, at: Pointer) -> Iterator[SchemaProblem]:
    fault = find_reference_fault(reference)
    if fault is None and split_reference(reference)[0]:
        fault = SchemaProblem("LMQ226", f"{printable(reference)!r} names a file, which is not possible here")
    if fault is None:
        fault = _check_target(schema, reference)
    if fault is not None:
        yield SchemaProblem(fault.code, fault.message, at, fault.suggestion)


def _check_target(schema: dict[str, Any], reference: str) -> SchemaProblem | None:
    tokens = parse_pointer(split_reference(reference)[1]) or ()
    target = find_target(schema, tokens)
    if target is MISSING:
        return report_missing(schema, tokens, where="this schema")
    if not isinstance(target, dict | bool):
        return SchemaProblem("LMQ226", f"what stands at {printable(reference)!r} is not a schema")
    return None


def _check_engine(schema: dict[str, Any]) -> list[SchemaProblem]:
    """The engine's own word, last: whatever it refuses is never a surprise at the first message."""
    try:
        build_engine({key: value for key, value in schema.items() if key != "$id"})
    except InvalidSchemaError as error:
        return [SchemaProblem("LMQ237", f"the schema cannot be compiled: {printable(str(error))}")]
    if not set(schema) - {"$schema", "$id", "$comment", "title", "description"}:
        return [_report_boolean(True)]
    return []
