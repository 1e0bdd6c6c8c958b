"""One field of the file, read: what it may hold, and the exact words when it holds something else.

A reader takes the plain value of the document and gives the model's value (milliseconds, bytes,
enumerations). It raises `WrongValueError`, which the builder turns into a diagnostic with its place. Bounds
are those of the language's reference table; both ends are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NoReturn

from leanmq_topology.contracts.topics import find_pattern_problem
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.topology.durability import FORMS, WORDS, Durability, ReplicaCountError
from leanmq_topology.topology.values import format_duration, format_size, parse_duration, parse_size

ValuePath = tuple[str | int, ...]
Reader = Callable[[Any], Any]

MAX_COUNT = 2**53
"""The largest integer that every JSON reader and the server's Lua hold exactly."""

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")


class WrongValueError(ValueError):
    """A value that a field cannot hold. `at` is the path below the field, for items of a list."""

    def __init__(self, code: str, message: str, *, suggestion: str | None = None, at: ValuePath = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.suggestion, self.at = code, message, suggestion, at


class WrongItemsError(ValueError):
    """A list with items it cannot hold, all of them."""

    def __init__(self, wrong: tuple[WrongValueError, ...]) -> None:
        super().__init__("; ".join(item.message for item in wrong))
        self.wrong = wrong


def read_text(value: Any) -> str:
    return value if isinstance(value, str) and value else _refuse("a string that is not empty", value)


def read_flag(value: Any) -> bool:
    return value if isinstance(value, bool) else _refuse("true or false", value)


def read_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else _refuse("a mapping", value)


def read_list(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else _refuse("a list", value)


def list_of(read: Reader) -> Reader:
    """A list whose items are all read the same way; each wrong item is reported at its own place."""

    def read_items(value: Any) -> tuple[Any, ...]:
        items, wrong = [], []
        for at, item in enumerate(read_list(value)):
            try:
                items.append(read(item))
            except WrongValueError as failure:
                failure.at = (at, *failure.at)
                wrong.append(failure)
        if wrong:
            raise WrongItemsError(tuple(wrong))
        return tuple(items)

    return read_items


def choice(kind: type[StrEnum]) -> Reader:
    """One of the words of an enumeration."""
    words = {member.value: member for member in kind}

    def read_word(value: Any) -> StrEnum:
        if isinstance(value, str) and value in words:
            return words[value]
        hint = did_you_mean(value, words) if isinstance(value, str) else None
        return _refuse(f"one of {', '.join(words)}", value, hint)

    return read_word


def duration(least: str, most: str) -> Reader:
    """A duration in milliseconds, from `least` to `most`."""
    least_ms, most_ms = parse_duration(least), parse_duration(most)

    def read_duration(value: Any) -> int:
        duration_ms = _parse(parse_duration, value, "LMQ402", "a duration with a unit, such as 30s")
        if least_ms <= duration_ms <= most_ms:
            return duration_ms
        shown = f"{value} is out of range; {_spoken(least_ms)} to {_spoken(most_ms)} is allowed"
        nearest = format_duration(min(max(duration_ms, least_ms), most_ms))
        raise WrongValueError("LMQ404", shown, suggestion=f"write {nearest}")

    return read_duration


def size(least: str, most: str) -> Reader:
    """A size in bytes, from `least` to `most`."""
    least_bytes, most_bytes = parse_size(least), parse_size(most)

    def read_size(value: Any) -> int:
        found = _parse(parse_size, value, "LMQ403", "a size with a unit, such as 64KiB")
        if least_bytes <= found <= most_bytes:
            return found
        shown = f"{value} is out of range; {least} to {most} is allowed"
        nearest = format_size(min(max(found, least_bytes), most_bytes))
        raise WrongValueError("LMQ404", shown, suggestion=f"write {nearest}")

    return read_size


def count(least: int, most: int = MAX_COUNT) -> Reader:
    """A whole number from `least` to `most`; true and false are not numbers."""

    def read_count(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            return _refuse("a whole number", value)
        if least <= value <= most:
            return value
        allowed = f"{least:,} or more" if most == MAX_COUNT else f"{least:,} to {most:,}"
        nearest = min(max(value, least), most)
        raise WrongValueError(
            "LMQ404", f"{value} is out of range; {allowed} is allowed", suggestion=f"write {nearest}"
        )

    return read_count


def word_or(word: str, meaning: Any, read: Reader) -> Reader:
    """`word` stands for `meaning`; everything else is read by `read`."""

    def read_either(value: Any) -> Any:
        return meaning if value == word else read(value)

    return read_either


def read_pointer(value: Any) -> str:
    """A JSON Pointer into the data, such as `/order_id`."""
    if not isinstance(value, str) or not _POINTER.fullmatch(value):
        hint = f"write /{value}" if isinstance(value, str) and not value.startswith("/") else None
        return _refuse("a JSON Pointer such as /order_id", value, hint)
    return value


def read_durability(value: Any) -> str:
    """`memory`, `disk`, `replicated:N` or `replicated_disk:N`."""
    try:
        return str(Durability.parse(value if isinstance(value, str) else ""))
    except ReplicaCountError as failure:
        raise WrongValueError("LMQ404", str(failure)) from None
    except ValueError:
        pass
    word = value.partition(":")[0] if isinstance(value, str) else ""
    hint = f"write {word}:1" if word in WORDS[2:] else did_you_mean(word, WORDS)
    return _refuse(FORMS, value, hint)


def read_topic(value: Any) -> str:
    """A topic pattern: words joined by dots, `*` for one word, `#` for any number."""
    if not isinstance(value, str) or not value:
        return _refuse("a topic pattern such as user.* or orders.#", value)
    problem = find_pattern_problem(value)
    if problem is not None:
        raise WrongValueError("LMQ426", problem, suggestion="write it like user.* or orders.#")
    return value


def show_value(value: Any) -> str:
    """A value as the user may have written it, cut short; never a whole mapping."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return repr(value if len(value) <= 40 else value[:40] + "…")
        case _:
            return str(value)


def _spoken(duration_ms: int) -> str:
    """As in the reference table: `10y` rather than `3650d`, where that is exact and how people think."""
    years, rest = divmod(duration_ms, 365 * 86_400_000)
    return f"{years} years" if years > 1 and not rest else format_duration(duration_ms)


def _parse(parse: Callable[[str], int], value: Any, code: str, form: str) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _refuse(form, value, code=code)
    try:
        # A bare number is refused by `parse` too, in the words that say which unit to add.
        return parse(value if isinstance(value, str) else str(value))
    except ValueError as failure:
        raise WrongValueError(code, str(failure)) from None


def _refuse(allowed: str, value: Any, suggestion: str | None = None, *, code: str = "LMQ405") -> NoReturn:
    raise WrongValueError(code, f"expected {allowed}, found {show_value(value)}", suggestion=suggestion)
