"""Proofs about schemas: does one admit all that another admits, can two hold at once.

Answers are yes, no, or `None` where the engine cannot tell (recursive schemas, some patterns). Without
jsonschema-rs every answer is `None`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from leanmq_topology.contracts import engine
from leanmq_topology.contracts.engine import DRAFT_7, Schema, read_dialect
from leanmq_topology.contracts.keywords import walk_schemas

if engine.fast_engine_found:
    import jsonschema_rs

ANNOTATIONS = frozenset(
    {"$id", "$comment", "title", "description", "default", "deprecated", "readOnly", "writeOnly", "examples"}
)
"""Keywords that judge nothing."""


@lru_cache(maxsize=1024)
def _canonicalize_text(text: str, draft: int) -> jsonschema_rs.CanonicalSchema:
    return jsonschema_rs.canonicalize(
        json.loads(text),
        draft=draft,
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(),
        offline=True,
    )


def _canonicalize(schema: Schema, like: Schema) -> jsonschema_rs.CanonicalSchema:
    """In the dialect of `like`: only schemas of one dialect can be compared."""
    stripped: Any = strip_annotations(schema)
    if isinstance(stripped, dict):
        stripped.pop("$schema", None)
    draft = jsonschema_rs.Draft7 if read_dialect(like) == DRAFT_7 else jsonschema_rs.Draft202012
    return _canonicalize_text(json.dumps(stripped, sort_keys=True), draft)


def covers(wide: Schema, narrow: Schema) -> bool | None:
    """Whether `wide` admits every value that `narrow` admits."""
    if wide == narrow or wide is True or narrow is False:
        return True
    if not engine.fast_engine_found:
        return None
    try:
        answer = _canonicalize(wide, wide).covers(_canonicalize(narrow, wide))
    except ValueError:
        return None
    return {"yes": True, "no": False}.get(str(answer))


def can_both_hold(schema: Schema, condition: Schema) -> bool | None:
    """Whether some value fits both."""
    if not engine.fast_engine_found:
        return None
    try:
        answer = _canonicalize(schema, schema).intersect(_canonicalize(condition, schema)).satisfiability()
    except ValueError:
        return None
    return {"yes": True, "no": False}.get(str(answer))


def strip_annotations(schema: Schema) -> Schema:
    """The schema without what judges nothing, so that a better description is no change."""
    copy: Any = _copy(schema)
    dialect = read_dialect(copy)
    if dialect is None:
        return schema
    for _, current in walk_schemas(copy, dialect):
        for key in list(current) if isinstance(current, dict) else ():
            if key in ANNOTATIONS or key.startswith("x-"):
                del current[key]
    return copy  # type: ignore[no-any-return]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
