"""The keywords of the two dialects spoken here, and the walk over all subschemas of a schema.

Only places where a dialect puts a schema are walked: what stands in `const`, `enum`, `default` or `examples`
is data, whatever it looks like.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from leanmq_topology.contracts.engine import DRAFT_7
from leanmq_topology.contracts.violation import Pointer


class Holds(Enum):
    """What stands under a keyword."""

    VALUE = auto()
    SCHEMA = auto()
    LIST = auto()
    MAP = auto()


_VALUES = (
    "$schema $id $ref $comment title description default deprecated readOnly writeOnly examples format "
    "contentEncoding contentMediaType type const enum multipleOf maximum exclusiveMaximum minimum "
    "exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems maxProperties minProperties "
    "required"
)
_SCHEMAS = "items contains additionalProperties propertyNames if then else not"
_LISTS = "allOf anyOf oneOf"
_MAPS = "properties patternProperties $defs definitions"

_SHARED = (
    dict.fromkeys(_VALUES.split(), Holds.VALUE)
    | dict.fromkeys(_SCHEMAS.split(), Holds.SCHEMA)
    | dict.fromkeys(_LISTS.split(), Holds.LIST)
    | dict.fromkeys(_MAPS.split(), Holds.MAP)
)
_ONLY_2020_12 = {
    "prefixItems": Holds.LIST,
    "dependentSchemas": Holds.MAP,
    "dependentRequired": Holds.VALUE,
    "unevaluatedItems": Holds.SCHEMA,
    "unevaluatedProperties": Holds.SCHEMA,
    "contentSchema": Holds.SCHEMA,
    "minContains": Holds.VALUE,
    "maxContains": Holds.VALUE,
}
_ONLY_DRAFT_7 = {"additionalItems": Holds.SCHEMA, "dependencies": Holds.MAP}

IN_PLACE = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"}
)
"""Keywords whose subschemas judge the same value, one level no deeper."""

REFUSED = {
    "$dynamicRef": "point with `$ref` to '#/$defs/NAME'",
    "$dynamicAnchor": "name the part under `$defs` and point with `$ref`",
    "$recursiveRef": "point with `$ref` to '#' or to '#/$defs/NAME'",
    "$recursiveAnchor": "point with `$ref` to '#' or to '#/$defs/NAME'",
    "$anchor": "name the part under `$defs` and point to '#/$defs/NAME'",
    "$vocabulary": "remove it",
}
"""Keywords of the standard that would make a reference mean something else than the path it shows."""

ELSEWHERE = {
    "nullable": "write `type: [string, 'null']`",
    "discriminator": "use `oneOf` with a `const` in each form",
    "id": "write `$id`",
    "example": "write `examples: [...]`",
    "dependencies": "write `dependentRequired` or `dependentSchemas`",
    "additionalItems": "write `prefixItems` and `items`",
    "prefixItems": "draft 7 writes `items: [...]`",
    "divisibleBy": "write `multipleOf`",
    "extends": "write `allOf`",
}
"""Keywords of other dialects, and what says the same here."""


def list_keywords(dialect: str) -> dict[str, Holds]:
    """Every keyword of a dialect."""
    return _SHARED | (_ONLY_DRAFT_7 if dialect == DRAFT_7 else _ONLY_2020_12)


def list_children(schema: Any, dialect: str) -> Iterator[tuple[Pointer, Any]]:
    """The schemas directly below one, each with the tokens that lead to it."""
    if not isinstance(schema, dict):
        return
    keywords = list_keywords(dialect)
    for keyword, value in schema.items():
        yield from _list_below(keyword, value, keywords.get(keyword, Holds.VALUE))


def _list_below(keyword: str, value: Any, holds: Holds) -> Iterator[tuple[Pointer, Any]]:
    if isinstance(value, list) and (holds is Holds.LIST or keyword == "items"):
        yield from (((keyword, index), item) for index, item in enumerate(value))
    elif holds is Holds.MAP and isinstance(value, dict):
        # Draft 7's `dependencies` may also list keys.
        yield from (((keyword, key), item) for key, item in value.items() if not isinstance(item, list))
    elif holds is Holds.SCHEMA:
        yield (keyword,), value


def walk_schemas(schema: Any, dialect: str) -> Iterator[tuple[Pointer, Any]]:
    """The schema and every schema inside it, outer ones first."""
    waiting: list[tuple[Pointer, Any]] = [((), schema)]
    while waiting:
        at, current = waiting.pop()
        yield at, current
        below = [((*at, *tokens), child) for tokens, child in list_children(current, dialect)]
        waiting.extend(reversed(below))
