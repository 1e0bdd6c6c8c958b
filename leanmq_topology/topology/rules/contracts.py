"""Examples against their schemas, and `match` against the schemas it looks into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leanmq_topology.contracts.matching import check_match
from leanmq_topology.contracts.payload import check_payload
from leanmq_topology.contracts.schemas import Schema, SchemaProblem
from leanmq_topology.contracts.violation import Violation, parse_pointer
from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.model import FanoutRoute, Target, TopicRoute
from leanmq_topology.topology.places import diagnose


def check_examples(draft: Draft) -> Findings:
    """An example that its own schema refuses would mislead everybody who reads it."""
    for message in draft.topology.messages.values():
        contract = draft.contracts.get(message.name)
        for at, example in enumerate(message.examples):
            violation = check_payload(example) or (contract and contract.find_violation(example))
            if violation:
                yield _refused_example(draft, ("messages", message.name, "examples", at), violation)


def check_matches(draft: Draft) -> Findings:
    """Each `match`, compiled; what its message schemas close out is an error, what they leave open warns."""
    for route, target in _matching_targets(draft):
        schemas = _schemas_of(draft, route)
        place: ValuePath = ("routes", route.name, "to", target.queue, "match")
        for problem in check_match(target.match or {}, schemas):
            yield _match_problem(draft, place, problem)


def _refused_example(draft: Draft, place: ValuePath, violation: Violation) -> Diagnostic:
    pointer = _follow(draft.document.values, place, parse_pointer(violation.path) or ())
    where = f" at {violation.path}" if violation.path else ""
    return draft.error(
        "LMQ421",
        f"the example breaks its own schema{where}: {violation.reason}",
        (*place, *pointer),
        suggestion="correct the example, or the schema if the example is right",
    )


def _match_problem(draft: Draft, place: ValuePath, problem: SchemaProblem) -> Diagnostic:
    return diagnose(
        draft.document,
        problem.code,
        problem.message,
        (*place, *problem.pointer),
        suggestion=problem.suggestion,
        severity=problem.severity,
    )


def _matching_targets(draft: Draft) -> Iterator[tuple[FanoutRoute | TopicRoute, Target]]:
    for route in draft.topology.routes.values():
        if isinstance(route, FanoutRoute | TopicRoute):
            yield from ((route, target) for target in route.to if target.match)


def _schemas_of(draft: Draft, route: FanoutRoute | TopicRoute) -> dict[str, Schema]:
    """The schemas of what a route accepts; none, which means anything, if one of them is not sound."""
    if not all(name in draft.contracts for name in route.accepts):
        return {}
    return {name: draft.topology.messages[name].schema for name in route.accepts}


def _follow(values: Any, place: ValuePath, tokens: tuple[str, ...]) -> ValuePath:
    """The tokens of a pointer with list positions as numbers, as far as the data goes."""
    for key in place:
        values = values[key]
    path: list[str | int] = []
    for token in tokens:
        step: str | int = int(token) if isinstance(values, list) and token.isdecimal() else token
        path.append(step)
        values = values[step] if _has(values, step) else None
    return tuple(path)


def _has(values: Any, key: str | int) -> bool:
    if isinstance(values, dict):
        return key in values
    return isinstance(values, list) and isinstance(key, int) and key < len(values)
