"""Plain values as YAML that reads back as the same values, under YAML 1.2 and under older readers.

What fits on a line is written in one, as people do by hand. A string is quoted as soon as any reader could
take it for something else.
"""

from __future__ import annotations

import json
import re
from typing import Any

from leanmq_topology.document.scalars import resolve_plain

WIDTH = 100

_SAFE = re.compile(r"[A-Za-z0-9_./$][A-Za-z0-9_./$+-]*")
# YAML 1.1 reads the words as true or false, and `1_000` and `2026-01-31` as a number and a date.
_OLD_WORDS = frozenset({"y", "yes", "n", "no", "on", "off"})
_OLD_NUMBER = re.compile(r"[-+.0-9][0-9_.eE+-]*|0[xob][0-9a-fA-F_]+")


def write_yaml(values: dict[str, Any]) -> str:
    """One document; sections are set apart by an empty line."""
    sections = ["\n".join(_write_entry(key, value, "")) for key, value in values.items()]
    text = ""
    for section in sections:
        apart = "\n" if "\n" in section and text else ""
        text += f"{apart}{section}\n"
    return text


def _write_entry(key: str, value: Any, indent: str) -> list[str]:
    flow = _write_line(f"{indent}{_scalar(key)}: ", value)
    return [flow] if flow else [f"{indent}{_scalar(key)}:", *_write_block(value, indent + "  ")]


def _write_item(item: Any, indent: str) -> list[str]:
    flow = _write_line(f"{indent}- ", item)
    if flow:
        return [flow]
    first, *rest = _write_block(item, indent + "  ")
    return [f"{indent}- {first.lstrip(' ')}", *rest]


def _write_block(value: Any, indent: str) -> list[str]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _write_entry(key, item, indent)]
    return [line for item in value for line in _write_item(item, indent)]


def _write_line(start: str, value: Any) -> str | None:
    """The value behind `start` on one line, or None where several lines read better."""
    if not isinstance(value, dict | list) or not value:
        return start + _flow(value)
    line = start + _flow(value) if _is_flat(value) else None
    return line if line and len(line) <= WIDTH else None


def _is_flat(value: Any) -> bool:
    """Whether nothing in it holds more than one level of its own: such a value reads well on one line."""
    items = value.values() if isinstance(value, dict) else value
    return not any(isinstance(item, dict | list) and item and not _is_plain_list(item) for item in items)


def _is_plain_list(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)


def _flow(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_flow(item) for item in value) + "]"
        case _:
            return _scalar(value)


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _SAFE.fullmatch(value) and resolve_plain(value) is value and not _is_old(value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_printable, text))


def _is_old(text: str) -> bool:
    return text.lower() in _OLD_WORDS or _OLD_NUMBER.fullmatch(text) is not None


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
