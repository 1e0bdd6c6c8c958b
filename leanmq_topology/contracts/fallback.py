"""The pure Python engine, where jsonschema-rs has no wheel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry

from leanmq_topology.contracts import engine as engines


class SlowEngine:
    """`jsonschema` with an empty registry, so that nothing is ever fetched, and with formats asserted."""

    def __init__(self, schema: engines.Schema) -> None:
        draft7 = engines.read_dialect(schema) == engines.DRAFT_7
        kind = jsonschema.Draft7Validator if draft7 else jsonschema.Draft202012Validator
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise engines.InvalidSchemaError(error.message) from None
        # An empty registry: no reference leaves the schema.
        self._validator: Validator = kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
        self.is_valid: Callable[[Any], bool] = self._validator.is_valid

    def find_failure(self, data: Any) -> engines.Failure | None:
        error = best_match(self._validator.iter_errors(data))
        return None if error is None else _read_slow(error)

    def list_failures(self, data: Any) -> list[engines.Failure]:
        return [_read_slow(error) for error in self._validator.iter_errors(data)]


def _read_slow(error: jsonschema.ValidationError) -> engines.Failure:
    keyword = str(error.validator or "falseSchema")
    at = tuple(error.absolute_path)
    limit = _read_limit(keyword, error)
    branches: dict[int, list[engines.Failure]] = {}
    if keyword in ("anyOf", "oneOf"):
        for inner in error.context:
            branches.setdefault(int(inner.schema_path[0]), []).append(_read_slow(inner))
    found = tuple(tuple(branch) for branch in branches.values())
    several = keyword == "oneOf" and not found
    return engines.Failure("oneOfMany" if several else keyword, limit, at, error.instance, found)


def _read_limit(keyword: str, error: jsonschema.ValidationError) -> Any:
    """The same facts that jsonschema-rs gives with each keyword."""
    value: Any = error.validator_value
    instance: Any = error.instance
    if keyword == "type":
        return [value] if isinstance(value, str) else value
    if keyword == "required":
        return next((key for key in value if key not in instance), None)
    if keyword == "additionalProperties":
        declared = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        return [key for key in instance if key not in declared]
    return value
