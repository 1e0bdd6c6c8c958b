"""Which fields of a resource differ, said in the words of the topology file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leanmq_topology.topology.specs import Spec
from leanmq_topology.topology.values import format_duration, format_size

_SIZES = frozenset({"max_message_size"})
_UNSET = {"prefetch": "auto", "accepts": "any"}
_LONGEST_VALUE = 72


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()
"""Stands for a field that one side does not have."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, before and after, both as a reader of the file would write them."""

    path: str
    before: str
    after: str


def compare_fields(before: Spec, after: Spec) -> list[FieldChange]:
    """Every leaf that differs, in the order of `after`; fields that went away come last."""
    old, new = dict(_leaves(_as_written(before))), dict(_leaves(_as_written(after)))
    paths = [*new, *(path for path in old if path not in new)]
    return [
        _describe(path, old.get(path, ABSENT), new.get(path, ABSENT))
        for path in paths
        if old.get(path, ABSENT) != new.get(path, ABSENT)
    ]


def _describe(path: tuple[str, ...], before: Any, after: Any) -> FieldChange:
    written = path[-1].removesuffix("_ms")
    name = ".".join([*path[:-1], written])
    return FieldChange(name, format_value(path[-1], before), format_value(path[-1], after))


def format_value(key: str, value: Any) -> str:
    """A recorded value as the file spells it: `ttl_ms` 86400000 is `1d`."""
    if value is ABSENT or value is None or value == []:
        return _UNSET.get(key, "none")
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return _shorten(f"[{', '.join(format_value(key, item) for item in value)}]")
    if key.endswith("_ms") and isinstance(value, int):
        return format_duration(value)
    if key in _SIZES and isinstance(value, int):
        return format_size(value)
    return _shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _as_written(spec: Spec) -> dict[str, Any]:
    """Targets as the map the file has, so that one more target is one more line."""
    if not isinstance(spec.get("to"), list | tuple):
        return spec
    targets = {
        target["queue"]: {key: value for key, value in target.items() if key != "queue" and value}
        for target in spec["to"]
    }
    return {**spec, "to": targets}


def _leaves(value: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        path = (*above, str(key))
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, path)
        else:
            yield path, list(inner) if isinstance(inner, tuple) else inner
