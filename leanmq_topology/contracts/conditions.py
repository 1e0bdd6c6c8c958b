"""The conditions of a `match`, each read into a path and a schema for the value there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanmq_topology.contracts.engine import Schema
from leanmq_topology.contracts.violation import Pointer, parse_pointer

MAX_INDEX = 100
"""Positions of a list that a path can reach."""


def write_schema(match: Mapping[str, Any]) -> Schema:
    """The schema over `{type, headers, data}` that says the same as the conditions."""
    conditions = [require(read_path(path), write_condition(value)) for path, value in match.items()]
    return conditions[0] if len(conditions) == 1 else {"allOf": conditions}


def read_path(text: str) -> Pointer:
    """The tokens of a path, `data.total` or `/data/a.b`. Raises `ValueError` with a sentence that mends."""
    tokens = parse_pointer(text) if text.startswith("/") else tuple(text.split("."))
    if tokens == ("type",):
        return tokens
    if not tokens or tokens[0] not in ("data", "headers"):
        raise ValueError("starts with `data.` or `headers.`, or is `type`")
    if len(tokens) == 1 or (not text.startswith("/") and "" in tokens):
        raise ValueError(f"needs a name after every dot, such as `{tokens[0]}.name`")
    if tokens[0] == "headers" and len(tokens) > 2:
        name = ".".join(str(token) for token in tokens[1:])
        raise ValueError(f"into headers has one level; for a name with dots write `/headers/{name}`")
    return tokens


def write_condition(value: Any) -> Schema:
    """A literal, a list of alternatives or a fragment, as a schema for the value at the path."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return {"const": value}
    if any(isinstance(item, dict) for item in value):
        return {
            "anyOf": [write_condition(item) if isinstance(item, dict) else {"const": item} for item in value]
        }
    return {"enum": value}


def require(tokens: Pointer, condition: Schema) -> Schema:
    """A schema that holds where something stands at the path and fits."""
    for token in reversed(tokens):
        condition = _require_one(str(token), condition)
    return condition


def _require_one(token: str, condition: Schema) -> Schema:
    key: dict[str, Any] = {"type": "object", "required": [token], "properties": {token: condition}}
    index = read_index(token)
    if index is None:
        return key
    before = [True] * index
    item = {"type": "array", "minItems": index + 1, "prefixItems": [*before, condition]}
    return {"anyOf": [key, item]}


def read_index(token: str) -> int | None:
    """The list position that a token may mean besides a key."""
    if not (token.isascii() and token.isdigit()) or (len(token) > 1 and token[0] == "0"):
        return None
    index = int(token) if len(token) < 4 else MAX_INDEX
    return index if index < MAX_INDEX else None
