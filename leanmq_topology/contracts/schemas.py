"""Message schemas: bundled into one self-contained schema, checked strictly, compiled once.

    bundle_schema   follows `$ref` into files below the topology's folder and makes one schema of them
    check_bundle    everything wrong with it, at once, each with its place
    compile_schema  a `MessageSchema` that judges data

A schema is compiled only after `check_bundle` found no error in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from leanmq_topology.contracts.bundling import Bundled, bundle_file, bundle_schema
from leanmq_topology.contracts.engine import Engine, InvalidSchemaError, Schema, build_engine
from leanmq_topology.contracts.explanation import explain
from leanmq_topology.contracts.payload import check_payload
from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.schema_rules import check_bundle, check_schema
from leanmq_topology.contracts.violation import Violation

__all__ = [
    "Bundled",
    "InvalidSchemaError",
    "MessageSchema",
    "Schema",
    "SchemaProblem",
    "Violation",
    "bundle_file",
    "bundle_schema",
    "check_bundle",
    "check_schema",
    "compile_schema",
]


class MessageSchema:
    """A compiled schema. Data must have passed the payload rules (`encode_data`, `decode_data`) first."""

    __slots__ = ("_engine", "is_valid")

    is_valid: Callable[[Any], bool]
    """Whether data fits; about a microsecond for a small message."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.is_valid = engine.is_valid

    def find_violation(self, data: Any) -> Violation | None:
        """What breaks the schema first, or None. Only a refusal pays for its explanation."""
        try:
            if self.is_valid(data):
                return None
            failure = self._engine.find_failure(data)
        except ValueError as error:
            # The engine met something that is not JSON.
            return check_payload(data) or Violation("", f"cannot be checked: {error}")
        return Violation("", "breaks its schema") if failure is None else explain(failure)


def compile_schema(schema: Schema) -> MessageSchema:
    """Compile a self-contained schema; equal schemas share one result. Raises `InvalidSchemaError`."""
    return _compile(json.dumps(schema, sort_keys=True, separators=(",", ":")))


@lru_cache(maxsize=4096)
def _compile(text: str) -> MessageSchema:
    schema = json.loads(text)
    if isinstance(schema, dict):
        # The name of a schema is not part of its meaning, and must not move its references.
        schema.pop("$id", None)
    return MessageSchema(build_engine(schema))
