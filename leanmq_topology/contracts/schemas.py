"""Message schemas: bundled into one self-contained schema, checked strictly, compiled once.

    bundle_schema   follows `$ref` into files below the topology's folder and makes one schema of them
    check_bundle    everything wrong with it, at once, each with its place
    compile_schema  a `MessageSchema` that judges data

A schema is compiled only after `check_bundle` found no error in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import eq
from typing import Any, Final

import msgspec

from leanmq_topology.contracts.bundling import Bundled, bundle_file, bundle_schema
from leanmq_topology.contracts.engine import InvalidSchemaError, Schema, build_engine
from leanmq_topology.contracts.explanation import explain
from leanmq_topology.contracts.payload import check_payload, read_plain, write_plain
from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.schema_rules import check_bundle, check_schema
from leanmq_topology.contracts.shapes import build_shape
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


MISFIT: Final[Any] = object()
"""Instead of data: it does not fit, or to tell takes more."""

REST: Final = 32
"""Messages that the engine judges after the shape of their schema did not take one. Where it takes none, as
each has a key that the schema does not name, to ask it first must not cost much."""

_UNUSUAL = (TypeError, ValueError, RecursionError)


class MessageSchema:
    """A compiled schema.

    Nearly every message is plain and fits: the ways called `…_fitting` find that out with the least effort,
    and say nothing of others. Data that is judged by the rest must have passed the payload rules
    (`encode_data`, `decode_data`) first.
    """

    __slots__ = ("_engine", "_read", "_resting", "is_valid")

    is_valid: Callable[[Any], bool]
    """Whether data fits; about a microsecond for a small message."""

    def __init__(self, schema: Schema) -> None:
        self._engine = build_engine(schema)
        self.is_valid = self._engine.is_valid
        shape = build_shape(schema)
        self._read: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode
        self._resting = math.inf if shape is None else 0.0
        """Messages until the shape is asked again."""

    def encode_fitting(self, data: Any) -> bytes | None:
        """What `encode_data` gives for data that fits."""
        if self._resting <= 0:
            try:
                raw = write_plain(data)
                if self._read(raw) == data:
                    return raw
            except _UNUSUAL:
                pass
            self._resting = REST
        self._resting -= 1
        try:
            raw = write_plain(data)
            return raw if read_plain(raw) == data and self.is_valid(data) else None
        except _UNUSUAL:
            return None

    def encode_all_fitting(self, items: Sequence[Any]) -> list[bytes] | None:
        """The same for many; None if one of them is not known to fit."""
        if self._resting <= 0:
            if (raws := _write_all(items, self._read)) is not None:
                return raws
            self._resting = REST
        self._resting -= len(items)
        raws = _write_all(items, read_plain)
        return raws if raws is not None and self._are_valid(items) else None

    def decode_fitting(self, raw: bytes) -> Any:
        """What `decode_data` gives for bytes that fit, as our own clients write them; else `MISFIT`."""
        if self._resting <= 0:
            try:
                data = self._read(raw)
                if write_plain(data) == raw:
                    return data
            except _UNUSUAL:
                pass
            self._resting = REST
        self._resting -= 1
        try:
            data = read_plain(raw)
            return data if write_plain(data) == raw and self.is_valid(data) else MISFIT
        except _UNUSUAL:
            return MISFIT

    def decode_all_fitting(self, raws: Sequence[bytes]) -> list[Any] | None:
        """The same for many; None if one of them is not known to fit."""
        if self._resting <= 0:
            if (data := _read_all(raws, self._read)) is not None:
                return data
            self._resting = REST
        self._resting -= len(raws)
        data = _read_all(raws, read_plain)
        return data if data is not None and self._are_valid(data) else None

    def _are_valid(self, items: Sequence[Any]) -> bool:
        try:
            return all(map(self.is_valid, items))
        except ValueError:  # the engine met something that is not JSON
            return False

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


def _write_all(items: Sequence[Any], read: Callable[[bytes], Any]) -> list[bytes] | None:
    try:
        raws = list(map(write_plain, items))
        return raws if all(map(eq, map(read, raws), items)) else None
    except _UNUSUAL:
        return None


def _read_all(raws: Sequence[bytes], read: Callable[[bytes], Any]) -> list[Any] | None:
    try:
        data = list(map(read, raws))
        return data if all(map(eq, map(write_plain, data), raws)) else None
    except _UNUSUAL:
        return None


def compile_schema(schema: Schema) -> MessageSchema:
    """Compile a self-contained schema; equal schemas share one result. Raises `InvalidSchemaError`."""
    return _compile(json.dumps(schema, sort_keys=True, separators=(",", ":")))


@lru_cache(maxsize=4096)
def _compile(text: str) -> MessageSchema:
    schema = json.loads(text)
    if isinstance(schema, dict):
        # The name of a schema is not part of its meaning, and must not move its references.
        schema.pop("$id", None)
    return MessageSchema(schema)
