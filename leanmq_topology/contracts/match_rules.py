"""What is wrong with a `match`: forms that cannot be read, and conditions that no message can meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from leanmq_topology.contracts.algebra import can_both_hold
from leanmq_topology.contracts.conditions import read_path, require, write_condition
from leanmq_topology.contracts.engine import DRAFT_2020_12, Schema, build_engine
from leanmq_topology.contracts.explanation import join_names
from leanmq_topology.contracts.keywords import walk_schemas
from leanmq_topology.contracts.payload import check_payload
from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.schema_rules import check_schema
from leanmq_topology.contracts.standing import Standing, find_declared, find_standing
from leanmq_topology.contracts.violation import Pointer, parse_pointer, printable
from leanmq_topology.diagnostics import Severity, closest, did_you_mean

_NUMBER_RULES = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})


def check_match(match: Any, schemas: Mapping[str, Schema]) -> list[SchemaProblem]:
    """Every problem of a `match`, each at its pointer in it.

    `schemas` holds the self-contained, faultless schema of each message type that the route accepts; empty
    means any JSON object. A condition that holds for no type is an error; that no type declares, a warning.
    """
    if not isinstance(match, dict):
        return [SchemaProblem("LMQ246", "`match` must be a mapping of paths to values")]
    found = [problem for path, value in match.items() for problem in _check_form(path, value)]
    if any(problem.is_error for problem in found):
        return found
    candidates = {name: schema for name, schema in schemas.items() if _fits_type(match, name)}
    if schemas and not candidates:
        return [*found, *_report_types(match, schemas)]
    found += [problem for path in match for problem in _check_path(path, candidates)]
    if candidates and not any(problem.is_error for problem in found):
        found += _check_satisfiable(match, candidates)
    return found


def _check_form(path: str, value: Any) -> Iterator[SchemaProblem]:
    try:
        tokens = read_path(path)
    except ValueError as error:
        yield SchemaProblem("LMQ245", f"the path {printable(path)!r} cannot be used: a path {error}", (path,))
        return
    violation = check_payload(value)
    if violation is not None:
        at = (path, *(parse_pointer(violation.path) or ()))
        yield SchemaProblem("LMQ246", f"the value cannot be used: it {violation.reason}", at)
        return
    yield from _check_value(value, (path,), is_text=tokens[0] != "data")


def _check_value(value: Any, at: Pointer, *, is_text: bool) -> Iterator[SchemaProblem]:
    if isinstance(value, dict):
        yield from _check_fragment(value, at, is_text=is_text)
    elif isinstance(value, list) and len(at) == 1:
        if not value:
            yield SchemaProblem(
                "LMQ246", "an empty list matches nothing", at, suggestion="list what may match"
            )
        for index, item in enumerate(value):
            yield from _check_value(item, (*at, index), is_text=is_text)
    elif is_text and not isinstance(value, str):
        yield SchemaProblem(
            "LMQ246",
            "types and headers are text, so this value never matches",
            at,
            suggestion=f"write it in quotes: {str(value).lower()!r}"
            if isinstance(value, int | float)
            else None,
        )


def _check_fragment(fragment: dict[str, Any], at: Pointer, *, is_text: bool) -> Iterator[SchemaProblem]:
    for tokens, schema in walk_schemas(fragment, DRAFT_2020_12):
        for keyword in ("$ref", "$schema", "$id"):
            if isinstance(schema, dict) and keyword in schema:
                message = f"`{keyword}` cannot be used in a `match`"
                yield SchemaProblem(
                    "LMQ246", message, (*at, *tokens, keyword), suggestion="write the rule out here"
                )
                return
    for keyword in fragment.keys() & _NUMBER_RULES if is_text else ():
        message = f"types and headers are text, so `{keyword}` would hold for any of them"
        yield SchemaProblem("LMQ246", message, (*at, keyword), suggestion="use `pattern`, `const` or `enum`")
    for problem in check_schema(fragment):
        # An empty fragment is of use here: it asks that something stands at the path.
        if problem.code != "LMQ233":
            yield replace(problem, pointer=(*at, *problem.pointer))


def _fits_type(match: Mapping[str, Any], name: str) -> bool:
    values = [value for path, value in match.items() if read_path(path) == ("type",)]
    return all(build_engine(write_condition(value)).is_valid(name) for value in values)


def _report_types(match: Mapping[str, Any], schemas: Mapping[str, Schema]) -> Iterator[SchemaProblem]:
    for path, value in match.items():
        if read_path(path) == ("type",):
            names = ", ".join(sorted(schemas))
            yield SchemaProblem(
                "LMQ249",
                f"no accepted message type fits; accepted here: {names}",
                (path,),
                suggestion=did_you_mean(value, schemas) if isinstance(value, str) else None,
            )


def _check_path(path: str, schemas: Mapping[str, Schema]) -> Iterator[SchemaProblem]:
    tokens = read_path(path)
    if tokens[0] != "data" or not schemas:
        return
    standings = [find_standing(schema, tokens[1:]) for schema in schemas.values()]
    shown, owners = ".".join(str(token) for token in tokens[1:]), _name_schemas(schemas)
    near = _find_closest(schemas, tokens[1:])
    suggestion = f"did you mean {near!r}?" if near else None
    if all(standing is Standing.CLOSED for standing in standings):
        message = f"never matches: {shown!r} is not allowed by {owners}"
        yield SchemaProblem("LMQ247", message, (path,), suggestion=suggestion)
    elif Standing.DECLARED not in standings:
        message = f"{shown!r} is not declared by {owners}: nothing promises that it is ever there"
        mend = suggestion or "declare the property in the message schema"
        yield SchemaProblem("LMQ248", message, (path,), suggestion=mend, severity=Severity.WARNING)


def _check_satisfiable(match: Mapping[str, Any], schemas: Mapping[str, Schema]) -> Iterator[SchemaProblem]:
    """Conditions that contradict every schema: one alone, or else all together."""
    paths = [path for path in match if read_path(path)[0] == "data"]
    conditions = {path: require(read_path(path)[1:], write_condition(match[path])) for path in paths}
    owners = _name_schemas(schemas)
    alone = [path for path, condition in conditions.items() if _contradicts(condition, schemas)]
    for path in alone:
        yield SchemaProblem("LMQ250", f"never matches: no such value is allowed by {owners}", (path,))
    if not alone and len(conditions) > 1 and _contradicts({"allOf": [*conditions.values()]}, schemas):
        message = f"never matches: these conditions cannot hold together under {owners}"
        yield SchemaProblem("LMQ250", message)


def _name_schemas(schemas: Mapping[str, Schema]) -> str:
    names = [repr(name) for name in schemas]
    shown = join_names(names if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"], last="and")
    return f"the schema of {shown}" if len(names) == 1 else f"the schemas of {shown}"


def _contradicts(condition: Schema, schemas: Mapping[str, Schema]) -> bool:
    return all(can_both_hold(schema, condition) is False for schema in schemas.values())


def _find_closest(schemas: Mapping[str, Schema], tokens: Pointer) -> str | None:
    """A path like this one whose last name is declared."""
    for schema in schemas.values():
        parent = find_declared(schema, schema, tokens[:-1])
        declared = parent.get("properties") if isinstance(parent, dict) else None
        near = closest(str(tokens[-1]), declared) if isinstance(declared, dict) else None
        if near:
            return ".".join(["data", *(str(token) for token in tokens[:-1]), near])
    return None
