"""What is wrong with one piece of data, and where."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

Pointer = tuple[str | int, ...]
"""A place in data: keys and list positions from the root; `()` is the whole."""


class Violation(Struct, frozen=True):
    """One reason why data is refused. No value of the data is repeated in it, only its keys."""

    path: str
    """JSON Pointer into the data; `""` is the whole."""
    reason: str
    """A sentence without its subject: "must be a number, not a string"."""


def format_pointer(pointer: Iterable[str | int]) -> str:
    """`("items", 0, "a/b")` as the JSON Pointer `/items/0/a~1b`. It can always be printed."""
    return "".join("/" + printable(str(token)).replace("~", "~0").replace("/", "~1") for token in pointer)


def parse_pointer(text: str) -> tuple[str, ...] | None:
    """The tokens of a JSON Pointer, or None if it is not one."""
    if text == "":
        return ()
    if not text.startswith("/"):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


def printable(text: str) -> str:
    """The text with what no terminal or log can take (lone surrogates, controls) written as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
