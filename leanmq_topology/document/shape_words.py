"""A violation of the topology's JSON Schema, in words that help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

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
_TITLE_WORDS = {
    "duration": "a duration such as 30s or 7d",
    "lifetime": "a duration such as 30s or 7d, or none",
    "size": "a size such as 64KiB or 1MiB",
    "message schema": "a path or a JSON Schema",
    "call": "a string such as package.module:function",
    "durability": "memory, disk, replicated:N or replicated_disk:N",
}


def explain_violation(document: Document, error: ValidationError, at: ValuePath) -> Iterator[Diagnostic]:
    """The findings one violation comes to. `at` is the path of the values that were checked."""
    path = (*at, *error.absolute_path)
    if path in document.broken:
        return
    match error.validator:
        case "additionalProperties":
            yield from _explain_unknown(document, error, path)
        case "required":
            yield from _explain_missing(document, error, path)
        case _:
            code, message, hint = _explain_value(error, path, is_secret=path in document.secrets)
            span = document.span(path) or document.nearest_span(path)
            yield Diagnostic(code, message, format_address(path), hint, span=span)


def _explain_unknown(document: Document, error: ValidationError, path: ValuePath) -> Iterator[Diagnostic]:
    known = list(error.schema.get("properties", {}))
    for key in error.instance:
        if key in known or key.startswith("x-"):
            continue
        place = (*path, key)
        meant = _guess_key(key, known)
        hint = f"did you mean {meant!r}?" if meant else _list_keys(known, error.instance)
        message = f"unknown key {_shorten(key)!r}{_name_owner(path, error.instance)}"
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


def _name_owner(path: ValuePath, instance: dict[str, Any]) -> str:
    match path:
        case ["routes", _] if isinstance(instance.get("type"), str):
            return f" in a route of type {instance['type']}"
        case []:
            return ""
    return f" in {format_address(path)}"


def _explain_missing(document: Document, error: ValidationError, path: ValuePath) -> Iterator[Diagnostic]:
    key = error.message.split("'")[1]
    if (*path, key) in document.broken:
        return
    span = document.nearest_span(path) if path else _start(document.span(()))
    address = format_address(path)
    if path == () and key == "leanmq":
        message = "the version of the format is missing"
        yield Diagnostic("LMQ202", message, address, "write leanmq: 1 at the top", span=span)
        return
    what = f"{address} needs the key {key!r}" if path else f"the key {key!r} is missing"
    yield Diagnostic("LMQ204", what, address, _describe_missing(error, path, key), span=span)


def _start(span: Span | None) -> Span | None:
    return span and Span(span.file, span.line, span.column, 1, span.source)


def _describe_missing(error: ValidationError, path: ValuePath, key: str) -> str:
    examples = {
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
    return f"add {examples.get(key, key + ': …')}"


def _explain_value(
    error: ValidationError, path: ValuePath, *, is_secret: bool
) -> tuple[str, str, str | None]:
    key = _name_key(path)
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "type":
            wanted, hint = _word_type(error.schema, limit), _suggest_value(error.schema, value, path)
            return "LMQ205", f"{key} must be {wanted}, not {_word_value(value)}", hint
        case "anyOf":
            return _explain_choice(error, key, path)
        case "enum":
            return _explain_enum(key, value, limit, is_secret=is_secret)
        case "minimum" | "maximum":
            return _explain_range(key, value, error.schema)
        case "minItems" | "minProperties" | "minLength":
            return "LMQ208", f"{key} must not be empty", None
        case "uniqueItems":
            return "LMQ208", f"{key} lists something twice", "keep each item once"
    return "LMQ205", f"{key} does not have the expected form", None


def _explain_choice(error: ValidationError, key: str, path: ValuePath) -> tuple[str, str, str | None]:
    """None of several forms fits: say the one that was meant, if its type fits, else name them all."""
    branches = [branch for branch in error.validator_value if branch.get("$ref") != "#/definitions/variable"]
    for nested in error.context or ():
        if nested.validator in {"minimum", "maximum"}:
            return _explain_range(key, error.instance, nested.schema)
    if title := _TITLE_WORDS.get(error.schema.get("title", "")):
        return "LMQ205", f"{key} must be {title}, not {_word_value(error.instance)}", None
    schemas = [nested.schema for nested in error.context or () if nested.validator in {"type", "enum"}]
    wanted = " or ".join(
        dict.fromkeys(_word_schema(schema) for schema in schemas if schema.get("pattern") is None)
    )
    hint = next(
        (found for branch in branches if (found := _suggest_value(branch, error.instance, path))), None
    )
    return "LMQ205", f"{key} must be {wanted or 'something else'}, not {_word_value(error.instance)}", hint


def _explain_enum(
    key: str, value: Any, allowed: list[Any], *, is_secret: bool
) -> tuple[str, str, str | None]:
    words = [str(word) for word in allowed]
    shown = "this value" if is_secret else _show(value)
    meant = closest(value.lower().replace("-", "_"), words) if isinstance(value, str) else None
    hint = f"did you mean {meant!r}?" if meant else None
    return "LMQ206", f"{key} must be one of {', '.join(words)}, not {shown}", hint


def _explain_range(key: str, value: Any, schema: dict[str, Any]) -> tuple[str, str, str | None]:
    least, most = schema.get("minimum"), schema.get("maximum")
    allowed = f"from {least:,} to {most:,}" if most is not None else f"{least:,} or more"
    nearest = least if value < (least or 0) else most
    return "LMQ207", f"{key} must be {allowed}, not {value:,}", f"write {nearest}"


def _word_schema(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(str(word) for word in schema["enum"])
    return _word_type(schema, schema.get("type", "string"))


def _word_type(schema: dict[str, Any], wanted: str | list[str]) -> str:
    title = _TITLE_WORDS.get(schema.get("title", ""))
    if title:
        return title
    kinds = [wanted] if isinstance(wanted, str) else wanted
    return " or ".join(_TYPE_WORDS[kind] for kind in kinds)


def _suggest_value(schema: dict[str, Any], value: Any, path: ValuePath) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    match schema.get("title"), schema.get("type"):
        case (("duration" | "lifetime"), _) if is_number and value >= 0:
            return f"write {value}s"
        case "size", _ if is_number and value >= 0:
            return f"write {value}B"
        case ((None | "name"), "string") if isinstance(value, bool | int | float):
            return "put it in quotes"
        case _, "array" if isinstance(value, str):
            return f"write [{_shorten(value)}]"
        case _, "object" if value is None:
            return f"write {path[-1]}: {{}}" if path else None
        case _, "integer" if isinstance(value, str) and value.isdecimal():
            return "remove the quotes"
        case _, "boolean" if isinstance(value, str):
            meant = _BOOLEAN_WORDS.get(value.lower())
            return f"write {meant}" if meant else "remove the quotes" if value in {"true", "false"} else None
    return None


def _word_value(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
    return "a mapping"


def _show(value: Any) -> str:
    return repr(_shorten(value)) if isinstance(value, str) else _word_value(value)


def _name_key(path: ValuePath) -> str:
    """The last key of a path, with the place in the list behind it: `accepts[0]`."""
    for at in range(len(path) - 1, -1, -1):
        if isinstance(path[at], str):
            return format_address(path[at:])
    return "the file"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
