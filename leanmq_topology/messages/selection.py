"""Which dead letters are meant: by id, reason, error, data and age. All that is given must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from leanmq_topology.contracts.conditions import read_index
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.contracts.violation import parse_pointer
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.codec import DeadLetter
from leanmq_topology.messages.outcome import DeadReason

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """The data has this value at this place. `expected` is the text given, read as JSON where it is."""

    pointer: tuple[str, ...]
    text: str
    expected: Any

    def holds(self, data: Any) -> bool:
        """Text matches as it is written, so that `/code=42` finds the number and the text alike."""
        found = _find(data, self.pointer)
        return found == self.text if isinstance(found, str) else _same(found, self.expected)


def parse_condition(text: str) -> Condition:
    """`/pointer=value` as a condition. Raises `ValueError` with a sentence that mends."""
    path, sign, value = text.partition("=")
    pointer = parse_pointer(path)
    if not sign or pointer is None:
        raise ValueError(f"{text!r} is not of the form /pointer=value, such as /customer/country=DE")
    try:
        expected = msgspec.json.decode(value)
    except msgspec.DecodeError:
        expected = value
    return Condition(pointer, value, expected)


def all_hold(conditions: Sequence[Condition], raw: bytes) -> bool:
    """Whether this data meets every condition; what is no JSON meets none."""
    if not conditions:
        return True
    try:
        data = decode_data(raw)
    except InvalidMessageError:
        return False
    return all(condition.holds(data) for condition in conditions)


@dataclass(frozen=True, slots=True)
class Selection:
    """The default selects every dead letter."""

    ids: frozenset[str] = frozenset()
    """Stable ids, or entry ids."""
    reasons: frozenset[DeadReason] = frozenset()
    error: str | None = None
    """Part of `Type: message`, in any case of letters."""
    where: tuple[Condition, ...] = ()
    older_than_ms: int | None = None
    """Died longer ago than this. `as_of` says what that comes to."""
    before_ms: int | None = None
    """Died before then, by the server's clock."""

    def as_of(self, now_ms: int) -> Selection:
        """The same at this time of the server's clock: it gave the dead letters their entry ids."""
        before_ms = None if self.older_than_ms is None else now_ms - self.older_than_ms
        return replace(self, before_ms=before_ms)

    def includes(self, letter: DeadLetter, entry_id: str) -> bool:
        """Whether this dead letter, the entry of this id, is meant."""
        if self.ids and not self.ids & {letter.envelope.id, entry_id}:
            return False
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.before_ms is not None and int(entry_id.partition("-")[0]) >= self.before_ms:
            return False
        failure = f"{letter.failure.type}: {letter.failure.message}".casefold()
        if self.error is not None and self.error.casefold() not in failure:
            return False
        return all_hold(self.where, letter.envelope.data)


def _find(data: Any, pointer: tuple[str, ...]) -> Any:
    for token in pointer:
        if isinstance(data, dict):
            data = data.get(token, _ABSENT)
        elif isinstance(data, list):
            index = read_index(token)
            data = data[index] if index is not None and index < len(data) else _ABSENT
        else:
            return _ABSENT
    return data


def _same(found: Any, expected: Any) -> bool:
    """As JSON has it: `true` is not 1."""
    return isinstance(found, bool) == isinstance(expected, bool) and bool(found == expected)
