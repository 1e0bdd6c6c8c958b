"""What the language has and this version does not do yet: refused plainly, never accepted silently.

This is the one table. Whoever makes a key work takes its row out; `validate`, `render` and the tests follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.document.reader import Document
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.places import diagnose

ANY = "*"
_HOLDERS = frozenset({"queues", "routes", "handlers", "defaults"})
"""Sections whose second key is the name of a resource."""


class Unsupported(Struct, frozen=True):
    """A key that is refused. `values` narrows that to these values; `meanwhile` says what to do today."""

    path: tuple[str, ...]
    meanwhile: str
    values: frozenset[str] | None = None

    def concerns(self, value: Any) -> bool:
        """A list of words is concerned by any word before a colon: `replicated:1` is `replicated`."""
        if self.values is None:
            return True
        return isinstance(value, str) and value.partition(":")[0] in self.values


_LEAVE_OUT = "leave it out"

UNSUPPORTED: tuple[Unsupported, ...] = (Unsupported(("moved",), _LEAVE_OUT),)


def check_support(document: Document) -> list[Diagnostic]:
    """One error for each value that asks for what does not work yet."""
    return [
        _refusal(document, place, value, entry)
        for entry in UNSUPPORTED
        for place, value in _find(document.values, entry.path)
        if entry.concerns(value)
    ]


def without_unsupported(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a document's values that asks for nothing unsupported, as defaults spelt out would."""
    kept: dict[str, Any] = _copy(values)
    for entry in UNSUPPORTED:
        for place, value in list(_find(kept, entry.path)):
            if entry.concerns(value):
                _remove(kept, place)
    return kept


def _refusal(document: Document, place: ValuePath, value: Any, entry: Unsupported) -> Diagnostic:
    key = ".".join(map(str, place[2:] if place[0] in _HOLDERS else place))
    what = key if entry.values is None else f"{key}: {value}"
    return diagnose(
        document,
        "LMQ401",
        f"`{what}` is not supported yet",
        place,
        suggestion=entry.meanwhile,
        at_key=entry.values is None,
    )


def _find(values: Any, path: tuple[str, ...], at: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """Every place a pattern means, with its value."""
    if not path:
        yield at, values
        return
    if not isinstance(values, dict):
        return
    first, *rest = path
    for key in values if first == ANY else (first,):
        if key in values:
            yield from _find(values[key], tuple(rest), (*at, key))


def _copy(values: Any) -> Any:
    return {key: _copy(value) for key, value in values.items()} if isinstance(values, Mapping) else values


def _remove(values: dict[str, Any], place: ValuePath) -> None:
    *above, last = place
    for key in above:
        values = values[str(key)]
    del values[str(last)]
