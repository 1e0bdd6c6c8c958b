"""`${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${file:path}` and `$$` in one value.

What a variable holds is taken as it is and never read again, so nothing can expand without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

MAX_LENGTH = 1024 * 1024
"""Code points that one value may have once its variables are filled in."""

MAX_NESTING = 10

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERAL = re.compile(r"[^$]+")
_LITERAL_INSIDE = re.compile(r"[^$}]+")
_FORMS = "write ${NAME}, ${NAME:-default}, ${NAME:?message} or ${file:path}; $$ is a dollar sign"


class MalformedError(ValueError):
    """`${…}` that cannot be read. `at` is the offset in the value."""

    def __init__(self, message: str, at: int, hint: str = _FORMS) -> None:
        super().__init__(message)
        self.at, self.hint = at, hint


class UnsetError(ValueError):
    """Variables that are used and not set. `names` holds them; `message` is the file author's own, if any."""

    def __init__(self, names: tuple[str, ...], message: str | None = None) -> None:
        super().__init__(", ".join(names))
        self.names, self.message = names, message


class Interpolated(Struct, frozen=True):
    text: str
    is_secret: bool
    """Some of it came from `${file:…}`."""


def interpolate(text: str, environ: Mapping[str, str], read_secret: Callable[[str], str]) -> Interpolated:
    """Fill in the variables of one value. Raises `MalformedError` or `UnsetError`."""
    return _Reader(text, environ, read_secret).read()


class _Reader:
    def __init__(self, text: str, environ: Mapping[str, str], read_secret: Callable[[str], str]) -> None:
        self._text, self._environ, self._read_secret = text, environ, read_secret
        self._at = self._depth = self._length = 0
        self._is_secret = False
        self._unset: list[str] = []
        self._message: str | None = None

    def read(self) -> Interpolated:
        filled = self._read_text(_LITERAL, used=True)
        if self._unset:
            raise UnsetError(tuple(dict.fromkeys(self._unset)), self._message)
        return Interpolated(filled, self._is_secret)

    def _read_text(self, literal: re.Pattern[str], *, used: bool) -> str:
        """Up to the end, or up to the closing brace. Unless `used`, it is only skipped."""
        parts: list[str] = []
        while self._at < len(self._text):
            if found := literal.match(self._text, self._at):
                self._at = found.end()
                parts.append(found[0])
            elif self._text[self._at] == "}":
                break
            else:
                parts.append(self._read_dollar(used=used))
        return "".join(parts)

    def _read_dollar(self, *, used: bool) -> str:
        following = self._text[self._at + 1 : self._at + 2]
        if following == "{":
            return self._read_expression(used=used)
        self._at += 2 if following == "$" else 1
        return "$"

    def _read_expression(self, *, used: bool) -> str:
        start = self._at
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise MalformedError(f"variables are nested more than {MAX_NESTING} deep", start)
        name = self._read_name(start)
        operator = self._text[self._at : self._at + 2]
        if operator in {":-", ":?"}:
            value = self._read_alternative(name, operator, start, used=used)
        elif name == "file" and operator.startswith(":"):
            value = self._read_file(start, used=used)
        else:
            value = self._look_up(name, used=used)
        self._close(start, name)
        self._depth -= 1
        return value

    def _read_name(self, start: int) -> str:
        found = _NAME.match(self._text, start + 2)
        if not found:
            raise MalformedError("a variable's name must follow ${", start)
        self._at = found.end()
        return found[0]

    def _read_alternative(self, name: str, operator: str, start: int, *, used: bool) -> str:
        self._at += 2
        value = self._environ.get(name, "")
        is_message = operator == ":?"
        other = self._read_text(_LITERAL_INSIDE, used=used and not value and not is_message)
        if used and is_message and not value:
            self._unset.append(name)
            self._message = self._message or other.strip() or None
        return self._measure(value) or ("" if is_message else other)

    def _read_file(self, start: int, *, used: bool) -> str:
        end = self._text.find("}", self._at)
        if end < 0:
            raise MalformedError("this ${ is never closed", start)
        path = self._text[self._at + 1 : end].strip()
        self._at = end
        if not used:
            return ""
        self._is_secret = True
        return self._measure(self._read_secret(path))

    def _look_up(self, name: str, *, used: bool) -> str:
        value = self._environ.get(name)
        if value is None and used:
            self._unset.append(name)
        return self._measure(value or "")

    def _measure(self, value: str) -> str:
        self._length += len(value)
        if self._length > MAX_LENGTH:
            hint = "shorten what the variables hold"
            raise MalformedError(f"this value grows to more than {MAX_LENGTH:,} characters", 0, hint)
        return value

    def _close(self, start: int, name: str) -> None:
        if self._text[self._at : self._at + 1] == "}":
            self._at += 1
            return
        if "}" not in self._text[self._at :]:
            raise MalformedError("this ${ is never closed", start)
        if self._text[self._at] == "-":
            raise MalformedError("a default starts with :-", self._at, f"write ${{{name}:-…}}")
        raise MalformedError(f"this cannot follow the name {name}", self._at)
