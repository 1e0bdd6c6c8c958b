"""What data a message may carry: JSON that reads back as exactly what was sent.

Refused, with the place: NaN and infinities, integers beyond 64 bits, text that is not Unicode (lone
surrogates), keys that are not text or stand twice, nesting deeper than 64, and every Python type that JSON
does not have (sets, bytes, Decimal, dates). Nothing is converted silently; tuples count as lists.

The way in and the way out are both hot, so a plain message is accepted by three calls into C: data is
encoded, read back by a decoder that refuses what is deep or large, and compared; bytes are read by that
decoder, written again and compared. What this does not accept may still be good: then the bytes are searched
for what could break a rule, and at last an exact walk in Python decides and finds the place.
"""

from __future__ import annotations

import json
import math
from enum import Enum
from typing import Annotated, Any

import msgspec

from leanmq_topology.contracts.engine import build_engine
from leanmq_topology.contracts.violation import Pointer, Violation, format_pointer, printable
from leanmq_topology.errors import InvalidMessageError

MAX_DEPTH = 64
"""Objects and lists inside one another; a lone object has depth 1."""
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
"""Integers stay exact in 64 bits, signed or unsigned."""
MOST_SIGNED = 2**63 - 1

PLAIN_DEPTH = 6
"""Data no deeper than this is checked while it is decoded; the type for it doubles with every level."""


def build_plain_type(depth: int) -> Any:
    """JSON no deeper than this, with signed integers of 64 bits: it decodes as fast as `Any`."""
    integer = Annotated[int, msgspec.Meta(ge=MIN_INTEGER, le=MOST_SIGNED)]
    scalar = integer | float | str | bool | None
    plain: Any = scalar
    for _ in range(depth):
        plain = scalar | list[plain] | dict[str, plain]
    return plain


write_plain = msgspec.json.Encoder().encode
"""Keeps the rules for what `read_plain`, or a decoder of a narrower type, makes equal data of."""
read_plain = msgspec.json.Decoder(build_plain_type(PLAIN_DEPTH)).decode
_decode = msgspec.json.Decoder().decode

# Every digit becomes 0, so one substring search finds a run of digits that may not fit in 64 bits.
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_NINETEEN_DIGITS = b"0" * 19
_TWENTY_DIGITS = b"0" * 20

# A stand-in for an integer too long to build.
_BEYOND = MAX_INTEGER + 1


def encode_data(data: Any) -> bytes:
    """Data as compact UTF-8 JSON that `decode_data` turns back into equal data.

    Raises `InvalidMessageError` with the place of the first value that cannot be sent.
    """
    try:
        raw = write_plain(data)
        if read_plain(raw) == data:
            return raw
    except (TypeError, ValueError, RecursionError):
        pass
    return _encode_unusual(data)


def decode_data(raw: bytes) -> Any:
    """The data that these bytes hold.

    Raises `InvalidMessageError` for anything that is not strict JSON in UTF-8, and for what breaks the
    payload rules: a message may come from a program that does not know them.
    """
    try:
        data = read_plain(raw)
        # Our own encoder wrote almost every message. Bytes that differ may hold a key twice.
        if write_plain(data) == raw:
            return data
    except (ValueError, RecursionError):
        pass
    return _decode_unusual(raw)


def check_payload(data: Any) -> Violation | None:
    """The first rule that data breaks, or None. Independent of any schema."""
    try:
        encode_data(data)
    except InvalidMessageError as error:
        return Violation(error.path, error.reason)
    return None


def _encode_unusual(data: Any) -> bytes:
    """Deep or with large integers, holding tuples, or wrong."""
    raw = b""
    try:
        raw = write_plain(data)
        if _decode(raw) == data and not _needs_walk(raw, data):
            return raw
    except (TypeError, ValueError, RecursionError):
        pass
    violation = _walk(data, (), 1)
    if violation is not None:
        raise InvalidMessageError(violation.path, violation.reason)
    return raw or write_plain(data)


def _decode_unusual(raw: bytes) -> Any:
    """Deep or with large integers, written by another program, or wrong."""
    try:
        data = _decode(raw)
        if write_plain(data) == raw and not _needs_walk(raw, data):
            return data
    except (ValueError, RecursionError):
        found = _find_raw_violation(raw) or Violation("", "is not valid JSON")
        raise InvalidMessageError(found.path, found.reason) from None
    violation = _find_raw_violation(raw)
    if violation is not None:
        raise InvalidMessageError(violation.path, violation.reason)
    return data


def _needs_walk(raw: bytes, data: Any) -> bool:
    """Whether the data may be too deep or hold an integer too large; False is certain."""
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and not _is_shallow(data):
        return True
    zeros = raw.translate(_DIGITS_TO_ZERO)
    if zeros.find(_NINETEEN_DIGITS) < 0:
        return False
    # Nineteen digits fit without a sign; nanosecond clocks have as many.
    return _TWENTY_DIGITS in zeros or b"-" + _NINETEEN_DIGITS in zeros


def _build_depth_schema() -> dict[str, Any]:
    """A schema that holds for data of at most `MAX_DEPTH`: the engine descends far faster than Python."""
    levels: dict[str, Any] = {"0": {"not": {"type": ["object", "array"]}}}
    for level in range(1, MAX_DEPTH + 1):
        below = {"$ref": f"#/$defs/{level - 1}"}
        levels[str(level)] = {"items": below, "additionalProperties": below}
    return {"$ref": f"#/$defs/{MAX_DEPTH}", "$defs": levels}


_is_shallow = build_engine(_build_depth_schema()).is_valid


class _RepeatedKey(dict[str, Any]):
    """An object whose text held a key twice."""

    key: str = ""


def _walk(value: Any, at: Pointer, depth: int) -> Violation | None:
    if isinstance(value, dict):
        return _too_deep(at, depth) or _walk_object(value, at, depth)
    if isinstance(value, list | tuple):
        return _too_deep(at, depth) or _walk_list(value, at, depth)
    reason = _find_scalar_fault(value)
    return Violation(format_pointer(at), reason) if reason else None


def _too_deep(at: Pointer, depth: int) -> Violation | None:
    if depth <= MAX_DEPTH:
        return None
    return Violation(format_pointer(at), f"is nested too deep: at most {MAX_DEPTH} levels are allowed")


def _walk_object(value: dict[Any, Any], at: Pointer, depth: int) -> Violation | None:
    if isinstance(value, _RepeatedKey):
        return Violation(format_pointer((*at, value.key)), "stands twice in the same object")
    for key, item in value.items():
        reason = _find_key_fault(key)
        if reason:
            return Violation(format_pointer((*at, str(key))), reason)
        found = _walk(item, (*at, key), depth + 1)
        if found:
            return found
    return None


def _walk_list(value: list[Any] | tuple[Any, ...], at: Pointer, depth: int) -> Violation | None:
    for index, item in enumerate(value):
        found = _walk(item, (*at, index), depth + 1)
        if found:
            return found
    return None


def _find_key_fault(key: Any) -> str | None:
    if not isinstance(key, str):
        return f"has a key that is not text but {_name_type(key)}; write it as text"
    return "has a key that is not Unicode text (a lone surrogate)" if _has_surrogate(key) else None


def _find_scalar_fault(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, Enum) and not isinstance(value, str | int):
        return f"is {_name_type(value)}, which JSON does not have; convert it before sending"
    if isinstance(value, str):
        return "is not Unicode text (a lone surrogate)" if _has_surrogate(value) else _find_type_fault(value)
    if isinstance(value, int):
        return _find_integer_fault(value)
    if isinstance(value, float):
        return _find_float_fault(value)
    return f"is {_name_type(value)}, which JSON does not have; convert it before sending"


def _find_integer_fault(value: int) -> str | None:
    if MIN_INTEGER <= value <= MAX_INTEGER:
        return _find_type_fault(value)
    return "is an integer beyond 64 bits, which other programs cannot keep exact; send it as text"


def _find_float_fault(value: float) -> str | None:
    if not math.isfinite(value):
        return "must be a finite number: JSON has no NaN or infinity, and a double ends at about 1.8e308"
    return _find_type_fault(value)


def _find_type_fault(value: Any) -> str | None:
    """Subclasses of text and numbers may be anything: they must read back as what they are."""
    if type(value) in (str, int, float):
        return None
    try:
        if _decode(write_plain(value)) == value:
            return None
    except (TypeError, ValueError):
        pass
    return f"is {_name_type(value)}, which JSON does not have; convert it before sending"


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _name_type(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _find_raw_violation(raw: bytes) -> Violation | None:
    """Read once more with the reader of the standard library, which lets every oddity be seen."""
    try:
        data = json.loads(
            str(raw, "utf-8"),
            parse_int=_read_integer,
            object_pairs_hook=_read_object,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        return Violation("", f"is not UTF-8 text (byte {error.start})")
    except RecursionError:
        return Violation("", f"is nested too deep: at most {MAX_DEPTH} levels are allowed")
    except json.JSONDecodeError as error:
        return Violation("", f"is not valid JSON: {printable(error.msg)} (character {error.pos})")
    return _walk(data, (), 1)


def _read_integer(text: str) -> int:
    return int(text) if len(text) <= len(_TWENTY_DIGITS) + 1 else _BEYOND


def _refuse_constant(name: str) -> float:
    return math.nan


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = _RepeatedKey(found)
    seen: set[str] = set()
    repeated.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeated
