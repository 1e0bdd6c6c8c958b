"""Durations and sizes as people write them: `1h30m`, `64k`.

A duration is whole numbers with the units `d h m s ms`, largest first, each at most once. A week or a year is
written in days, because their length depends on whom one asks. A size is one whole number with a unit; every
unit is a power of 1024, whether written `k`, `KB` or `KiB`. A bare number is refused: its unit would be a
guess.
"""

from __future__ import annotations

import re
from functools import lru_cache

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

_DURATION = re.compile(
    r"(?:([0-9]{1,12})d)?(?:([0-9]{1,12})h)?(?:([0-9]{1,12})m(?!s))?(?:([0-9]{1,12})s)?(?:([0-9]{1,12})ms)?"
)
_SIZE = re.compile(r"([0-9]{1,15})(b|[kmg](?:i?b?))", re.IGNORECASE)
_SIZE_UNITS = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE_NAMES = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))

# Spellings from elsewhere, so that the refusal can say what to write here.
_WORDS_MS = {
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400_000),
    **dict.fromkeys(("y", "yr", "year", "years"), 365 * 86_400_000),
}
_LOOSE_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([a-z]+)")
_CLOCK = re.compile(r"[0-9]{1,4}:[0-9]{1,2}(?::[0-9]{1,2})?")
_NO_LAST_UNIT = re.compile(r"((?:[0-9]{1,9}[dhm])*[0-9]{1,9}([dhm]))([0-9]{1,9})")
_NEXT_UNIT = {"d": "h", "h": "m", "m": "s"}
_FORM = "a duration is a whole number with a unit, such as 500ms, 30s, 5m, 24h, 7d or 1h30m"
_SIZE_FORM = "a size is a whole number with a unit, such as 512B, 64KiB or 1MiB"
_SHOWN = 40


@lru_cache(maxsize=4096)
def parse_duration(text: str) -> int:
    """Milliseconds. Raises `ValueError` whose message says what to write instead."""
    found = _DURATION.fullmatch(text)
    if not found or not text:
        raise ValueError(_explain_duration(text))
    return sum(
        int(count) * unit for count, unit in zip(found.groups(), UNITS_MS.values(), strict=True) if count
    )


@lru_cache(maxsize=4096)
def parse_size(text: str) -> int:
    """Bytes. Raises `ValueError` whose message says what to write instead."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(_explain_size(text))
    return int(found[1]) * _SIZE_UNITS[found[2][0].lower()]


def format_duration(duration_ms: int) -> str:
    """The shortest spelling that `parse_duration` reads back: 5400000 is `1h30m`."""
    if duration_ms == 0:
        return "0s"
    parts = []
    for unit, size in UNITS_MS.items():
        count, duration_ms = divmod(duration_ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def format_size(size: int) -> str:
    """The largest unit that divides evenly: 65536 is `64KiB`, 1000 is `1000B`."""
    for name, unit in _SIZE_NAMES:
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def _explain_duration(text: str) -> str:
    word = text.strip().lower()
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
    if word.startswith("-"):
        return f"{shown} is negative; a duration cannot be"
    if re.fullmatch(r"[0-9]{1,12}", word):
        return f"{shown} has no unit; write {word}s, {word}m or {word}h"
    if _CLOCK.fullmatch(word):
        first, second, *third = [str(int(part)) for part in word.split(":")]
        if third:
            return f"{shown} is a clock time, not a duration; write {first}h{second}m{third[0]}s"
        return f"{shown} could mean two things; write {first}m{second}s or {first}h{second}m"
    if found := _NO_LAST_UNIT.fullmatch(word):
        return f"the last number in {shown} has no unit; write {word}{_NEXT_UNIT[found[2]]}"
    meant = _guess_ms(word)
    return f"{shown} is not a duration; write {format_duration(meant)}" if meant else f"{shown}: {_FORM}"


def _guess_ms(word: str) -> int | None:
    """What `10 minutes`, `0.5s`, `2w` or `PT5M` most likely meant."""
    word = word.replace(" and ", " ").replace(",", " ")
    if iso := re.fullmatch(r"p([0-9]+d)?t?(.*)", word):
        word = (iso[1] or "") + iso[2]
    parts = _LOOSE_PART.findall(word)
    rest = _LOOSE_PART.sub("", word).strip()
    if not parts or rest or any(unit not in _WORDS_MS for _, unit in parts):
        return None
    return round(sum(float(count) * _WORDS_MS[unit] for count, unit in parts)) or None


def _explain_size(text: str) -> str:
    word = text.strip()
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
    if word.startswith("-"):
        return f"{shown} is negative; a size cannot be"
    if re.fullmatch(r"[0-9]{1,15}", word):
        return f"{shown} has no unit; write {format_size(int(word))}"
    if found := re.fullmatch(r"([0-9]{1,9}\.[0-9]{1,6})\s*([kmg])i?b?", word.lower()):
        size = round(float(found[1]) * _SIZE_UNITS[found[2]])
        return f"{shown} is not a whole number; write {format_size(size)}"
    tight = re.sub(r"\s+", "", word).lower().replace("bytes", "b").replace("byte", "b")
    if found := _SIZE.fullmatch(tight):
        return f"{shown} is not a size; write {format_size(parse_size(tight))}"
    return f"{shown}: {_SIZE_FORM}"
