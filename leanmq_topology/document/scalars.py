"""What a plain scalar means: the core types of YAML 1.2, and nothing else.

`on`, `no`, `1:30` and dates stay strings, `010` is ten, `1e3` is a number. PyYAML's own table is YAML 1.1,
where `on` is true and `1:30` is ninety.
"""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC_STARTS = frozenset("-+.0123456789")
_MOST_DIGITS = 40
"""No number in range is longer without padding; Python refuses to convert very long ones."""


class OutOfRangeError(ValueError):
    """A number that no JSON number of 64 bits can hold."""


def resolve_plain(text: str) -> Scalar:
    """The value of an unquoted scalar; raises `OutOfRangeError` for a number nothing can hold exactly."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        return _read_integer(text)
    if _FLOAT.fullmatch(text):
        return _read_float(text)
    if _NOT_FINITE.fullmatch(text):
        raise OutOfRangeError(f"{text} is not a finite number")
    return text


def _read_integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    digits = text[2:] if base != 10 else text
    sign, digits = (digits[0], digits[1:]) if digits[0] in "+-" else ("", digits)
    digits = digits.lstrip("0") or "0"
    number = int(sign + digits, base) if len(digits) <= _MOST_DIGITS else None
    if number is None or not MIN_INTEGER <= number <= MAX_INTEGER:
        shown = text if len(text) <= _MOST_DIGITS else f"an integer of {len(digits):,} digits"
        raise OutOfRangeError(f"{shown} is out of range: an integer is from -2^63 to 2^63-1")
    return number


def _read_float(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        shown = text if len(text) <= _MOST_DIGITS else f"a number of {len(text):,} characters"
        raise OutOfRangeError(f"{shown} is out of range: a number is at most about 1.8e308")
    return number
