"""`match`: which messages of a route a target gets.

All conditions must hold. A path starts with `data.` or `headers.`, or is `type`; a name that holds a dot
needs a JSON Pointer (`/data/a.b`). A number in a path also steps into a list. A value is a literal, a list
(any of) or a JSON Schema fragment (a mapping); a path that is absent never matches.

The conditions become one schema over `{type, headers, data}`, so that a message is matched by one call into
the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from leanmq_topology.contracts.conditions import write_schema
from leanmq_topology.contracts.engine import build_engine
from leanmq_topology.contracts.match_rules import check_match

__all__ = ["Matcher", "check_match", "compile_match"]


class Matcher:
    """A compiled `match`. Data must have passed the payload rules."""

    __slots__ = ("_is_valid",)

    def __init__(self, is_valid: Callable[[Any], bool]) -> None:
        self._is_valid = is_valid

    def matches(self, *, type: str, headers: Mapping[str, str] | None, data: Any) -> bool:
        return self._is_valid({"type": type, "headers": headers or {}, "data": data})


def compile_match(match: Mapping[str, Any] | None) -> Matcher:
    """Compile a `match` that `check_match` found no error in; equal ones share one result.

    None and an empty mapping match every message. Raises `ValueError` for a path that cannot be read.
    """
    return _compile(json.dumps(match or {}, sort_keys=True))


@lru_cache(maxsize=4096)
def _compile(text: str) -> Matcher:
    match = json.loads(text)
    if not match:
        return Matcher(_match_all)
    return Matcher(build_engine(write_schema(match)).is_valid)


def _match_all(message: Any) -> bool:
    return True
