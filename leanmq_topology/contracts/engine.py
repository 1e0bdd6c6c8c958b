"""The JSON Schema engine, behind one small face.

One engine decides everywhere a message is judged: jsonschema-rs, with formats asserted, no retrieval of any
kind and a regular-expression engine that never backtracks. Where it cannot be imported, the pure Python
`jsonschema` stands in, with one visible warning: it is a hundred times slower and differs in the corners that
`tests/unit/contracts/test_engine.py` lists.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from msgspec import Struct, field

from leanmq_topology.contracts.violation import Pointer

fast_engine_found: bool
try:
    import jsonschema_rs
except ImportError:  # a platform without a wheel; tests turn the flag instead
    fast_engine_found = False
else:
    fast_engine_found = True

Schema = dict[str, Any] | bool

DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema"
"""Both also with a trailing `#`."""


class Failure(Struct, frozen=True):
    """One keyword that did not hold: what `explanation` turns into a sentence."""

    keyword: str
    limit: Any
    """What the keyword asks for; for `additionalProperties` the keys that are too many."""
    at: Pointer
    """The place in the data."""
    value: Any = None
    branches: tuple[tuple[Failure, ...], ...] = field(default=())
    """For `anyOf` and `oneOf`: what failed in each alternative."""


class Engine(Protocol):
    """A compiled schema."""

    @property
    def is_valid(self) -> Callable[[Any], bool]: ...

    def find_failure(self, data: Any) -> Failure | None: ...

    def list_failures(self, data: Any) -> list[Failure]: ...


class InvalidSchemaError(ValueError):
    """The engine refuses a schema. Never seen by users: `check_schema` finds the reason first."""


def build_engine(schema: Schema) -> Engine:
    """Compile a self-contained schema. Raises `InvalidSchemaError`."""
    if not fast_engine_found:
        return _build_slow_engine(schema)
    try:
        return FastEngine(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise InvalidSchemaError(str(error).partition("\n")[0]) from None


class FastEngine:
    """jsonschema-rs. Data must be no deeper than the payload rules allow: the engine recurses natively."""

    __slots__ = ("_validator", "is_valid")

    def __init__(self, schema: Schema) -> None:
        self._validator = jsonschema_rs.validator_for(
            schema,
            offline=True,
            validate_formats=True,
            # `check_schema` refuses unlisted formats; draft 7 itself does not know `uuid` and `duration`.
            ignore_unknown_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
        self.is_valid: Callable[[Any], bool] = self._validator.is_valid

    def find_failure(self, data: Any) -> Failure | None:
        try:
            # The first failure only: a list of all would judge `uniqueItems` of a list over its `maxItems`.
            self._validator.validate(data)
        except jsonschema_rs.ValidationError as error:
            return _read_fast(error)
        return None

    def list_failures(self, data: Any) -> list[Failure]:
        return [_read_fast(error) for error in self._validator.iter_errors(data)]


def _read_fast(error: jsonschema_rs.ValidationError) -> Failure:
    kind = error.kind
    at = tuple(error.instance_path)
    if kind.name in ("anyOf", "oneOf"):
        branches = tuple(tuple(_read_fast(inner) for inner in branch) for branch in kind.value)
        return Failure(_name_alternative(kind), None, at, error.instance, branches)
    if kind.name == "propertyNames":
        return Failure(kind.name, _read_fast(kind.value), at, error.instance)
    return Failure(kind.name, kind.value, at, error.instance)


def _name_alternative(kind: jsonschema_rs.ValidationErrorKind) -> str:
    several = isinstance(kind, jsonschema_rs.ValidationErrorKind.OneOfMultipleValid)
    return "oneOfMany" if several else kind.name


@cache
def _warn_once() -> None:
    warnings.warn(
        "jsonschema-rs is not installed here: messages are checked by the much slower jsonschema, "
        "and regular expressions of schemas can take long on hostile text",
        RuntimeWarning,
        stacklevel=4,
    )


def _build_slow_engine(schema: Schema) -> Engine:
    _warn_once()
    from leanmq_topology.contracts.fallback import SlowEngine

    return SlowEngine(schema)


def read_dialect(schema: Any) -> str | None:
    """The dialect a schema names, 2020-12 where it names none, or None for one that is not spoken here."""
    named = schema.get("$schema", DRAFT_2020_12) if isinstance(schema, dict) else DRAFT_2020_12
    if not isinstance(named, str):
        return None
    named = named.removesuffix("#")
    return named if named in (DRAFT_2020_12, DRAFT_7) else None
