"""A violation of the topology's JSON Schema, in words that help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic, Span, closest
from leanmq_topology.document.content import ValuePath, format_address

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

    from leanmq_topology.document.reader import Document

# What the same thing is called elsewhere.
_SYNONYMS = {
    "acks_late": "on_false",
    "dead_letters": "dead_letter",
    "dlq": "dead_letter",
    "dead_letter_queue": "dead_letter",
    "lease": "visibility_timeout",
    "ack_timeout": "visibility_timeout",
    "max_attempt": "max_deliveries",
    "max_attempts": "max_deliveries",
    "max_retries": "max_deliveries",
    "max_retry": "max_deliveries",
    "retries": "max_deliveries",
    "backoff": "retry",
    "max_size": "max_length",
    "maxlen": "max_length",
    "expire": "ttl",
    "expires": "ttl",
    "workers": "concurrency",
    "handler": "call",
    "function": "call",
    "targets": "to",
    "subscribers": "to",
    "events": "messages",
    "types": "messages",
    "version": "leanmq",
    "consumers": "handlers",
    "namespace": "broker",
}
_BOOLEAN_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""Words that older YAML took for booleans, and people still write."""

_TYPE_WORDS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}
_UNITS = {"duration": "s", "lifetime": "s", "size": "B"}
_EXAMPLES = {
    "name": "name: shop",
    "schema": "schema: schemas/order.schema.json",
    "queue": "queue: billing",
    "call": 'call: "package.module:function"',
    "type": "type: fanout, topic, request or ephemeral",
    "to": "to: {billing: {}}",
    "request": "request: quote.asked",
    "reply": "reply: quote.given",
    "topics": 'topics: ["orders.#"]',
    "window": "window: 10m",
    "size": "size: 100",
}
"""What a missing key might look like."""

_TITLE_WORDS = {
    "duration": "a duration such as 30s or 7d",
    "lifetime": "a duration such as 30s or 7d, or none",
    "size": "a size such as 64KiB or 1MiB",
    "message schema": "a path or a JSON Schema",
    "call": "a string such as package.module:function",
    "durability": "memory, disk, replicated:N or replicated_disk:N",
}


class _Violation(Struct, frozen=True):
    """What `jsonschema` found, as plain values."""

    rule: str
    """The keyword of the schema that is broken."""
    limit: Any
    """What the schema says there."""
    schema: dict[str, Any]
    value: Any
    path: ValuePath
    branches: tuple[_Violation, ...] = ()
    """Why none of several forms fits."""
    is_secret: bool = False

    @property
    def key(self) -> str:
        """The last key of the path, with the place in the list behind it: `accepts[0]`."""
        for at in range(len(self.path) - 1, -1, -1):
            if isinstance(self.path[at], str):
                return format_address(self.path[at:])
        return "the file"

    @property
    def owner(self) -> str:
        """The address, without the environment that it may stand in: whichever it is, the place shows."""
        return format_address(self.path[2:] if self.path[:1] == ("environments",) else self.path)


Explanation = tuple[str, str, str | None]
"""Code, message, what mends it."""


def explain_violation(document: Document, error: ValidationError, at: ValuePath) -> Iterator[Diagnostic]:
    """The findings one violation comes to. `at` is the path of the values that were checked."""
    path = (*at, *error.absolute_path)
    violation = _read_violation(error, path, is_secret=path in document.secrets)
    match violation.rule:
        case "additionalProperties":
            yield from _explain_unknown(document, violation)
        case "required":
            yield from _explain_missing(document, violation)
        case _:
            code, message, hint = _explain_value(violation)
            # An empty value stands nowhere one would look; its key does.
            span = (error.instance is not None and document.span(path)) or document.nearest_span(path)
            yield Diagnostic(code, message, format_address(path), hint, span=span)


def _read_violation(error: Any, path: ValuePath, *, is_secret: bool) -> _Violation:
    branches = tuple(_read_violation(nested, path, is_secret=is_secret) for nested in error.context or ())
    return _Violation(
        error.validator, error.validator_value, error.schema, error.instance, path, branches, is_secret
    )


def _explain_unknown(document: Document, found: _Violation) -> Iterator[Diagnostic]:
    known = list(found.schema.get("properties", {}))
    for key in found.value:
        if key in known or key.startswith("x-"):
            continue
        place = (*found.path, key)
        meant = _guess_key(key, known)
        hint = f"did you mean {meant!r}?" if meant else _list_keys(known, found.value)
        message = f"unknown key {_shorten(key)!r}{_name_owner(found)}"
        yield Diagnostic("LMQ203", message, format_address(place), hint, span=document.key_span(place))


def _guess_key(key: str, known: list[str]) -> str | None:
    plain = key.lower().replace("-", "_")
    if plain in known:
        return plain
    synonym = _SYNONYMS.get(plain)
    return synonym if synonym in known else closest(plain, known)


def _list_keys(known: list[str], given: Iterable[str]) -> str:
    free = [key for key in known if key not in given]
    return f"allowed here: {', '.join(free or known)}; keys that start with x- are free"


def _name_owner(found: _Violation) -> str:
    match found.path:
        case ("routes", _) if isinstance(found.value.get("type"), str):
            return f" in a route of type {found.value['type']}"
    return f" in {found.owner}" if found.owner else ""


def _explain_missing(document: Document, found: _Violation) -> Iterator[Diagnostic]:
    """Every key that is missing. `jsonschema` comes here once for each; repeats are dropped later."""
    address = format_address(found.path)
    span = document.nearest_span(found.path) if found.path else _start(document.span(()))
    for key in found.limit:
        if key in found.value or (*found.path, key) in document.broken:
            continue
        if key == "leanmq":
            message, hint = "the version of the format is missing", "write leanmq: 1 at the top"
            yield Diagnostic("LMQ202", message, address, hint, span=span)
            continue
        message = f"{found.owner} needs the key {key!r}" if address else f"the key {key!r} is missing"
        hint = f"add {_EXAMPLES.get(key, key + ': …')}"
        yield Diagnostic("LMQ204", message, address, hint, span=span)


def _start(span: Span | None) -> Span | None:
    return span and Span(span.file, span.line, span.column, 1, span.source)


def _explain_value(found: _Violation) -> Explanation:
    match found.rule:
        case "type":
            message = f"{found.key} must be {_word_schema(found.schema)}, not {_word_value(found.value)}"
            return "LMQ205", message, _suggest_value(found.schema, found)
        case "anyOf":
            return _explain_choice(found)
        case "enum":
            return _explain_enum(found)
        case "minimum" | "maximum":
            return _explain_range(found)
        case "minItems" | "minProperties" | "minLength":
            return "LMQ208", f"{found.key} must not be empty", None
        case "uniqueItems":
            return "LMQ208", f"{found.key} lists something twice", "keep each item once"
    return "LMQ205", f"{found.key} does not have the expected form", None


def _explain_choice(found: _Violation) -> Explanation:
    """None of several forms fits: where one fits but for its range, say that; else name them all."""
    for branch in found.branches:
        if branch.rule in {"minimum", "maximum"}:
            return _explain_range(branch)
    schemas = [branch.schema for branch in found.branches if branch.schema.get("title") != "variable"]
    words = _TITLE_WORDS.get(found.schema.get("title", "")) or " or ".join(map(_word_schema, schemas))
    hints = [hint for schema in schemas if (hint := _suggest_value(schema, found))]
    message = f"{found.key} must be {words}, not {_word_value(found.value)}"
    return "LMQ205", message, hints[0] if hints and "title" not in found.schema else None


def _explain_enum(found: _Violation) -> Explanation:
    words = [str(word) for word in found.limit]
    value = found.value
    shown = "this value" if found.is_secret else _show(value)
    meant = closest(value.lower().replace("-", "_"), words) if isinstance(value, str) else None
    hint = f"did you mean {meant!r}?" if meant else None
    return "LMQ206", f"{found.key} must be one of {', '.join(words)}, not {shown}", hint


def _explain_range(found: _Violation) -> Explanation:
    least, most = found.schema.get("minimum"), found.schema.get("maximum")
    allowed = f"from {least:,} to {most:,}" if most is not None else f"{least:,} or more"
    nearest = most if found.rule == "maximum" else least
    return "LMQ207", f"{found.key} must be {allowed}, not {found.value:,}", f"write {nearest}"


def _word_schema(schema: dict[str, Any]) -> str:
    title = _TITLE_WORDS.get(schema.get("title", ""))
    if title:
        return title
    if "enum" in schema:
        return " or ".join(str(word) for word in schema["enum"])
    return _TYPE_WORDS.get(schema.get("type", ""), "something else")


def _suggest_value(schema: dict[str, Any], found: _Violation) -> str | None:
    """What to write instead, where the value tells what was meant."""
    value, title, kind = found.value, schema.get("title"), schema.get("type")
    if isinstance(value, str):
        return _suggest_for_text(kind, value)
    if value is None:
        return f"write {found.path[-1]}: {{}}" if kind == "object" and found.path else None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and title in _UNITS:
        return f"write {value}{_UNITS[title]}"
    is_text = kind == "string" and title in {None, "name"}
    return "put it in quotes" if is_text and isinstance(value, bool | int | float) else None


def _suggest_for_text(kind: str | None, value: str) -> str | None:
    if kind == "array":
        return f"write [{_shorten(value)}]"
    if kind == "integer" and value.isdecimal():
        return "remove the quotes"
    if kind == "boolean":
        meant = _BOOLEAN_WORDS.get(value.lower())
        return f"write {meant}" if meant else "remove the quotes" if value in {"true", "false"} else None
    return None


def _word_value(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case float() if not value.is_integer():
            return f"{value}"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
    return "a mapping"


def _show(value: Any) -> str:
    return repr(_shorten(value)) if isinstance(value, str) else _word_value(value)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
