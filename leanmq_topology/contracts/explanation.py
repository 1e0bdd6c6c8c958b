"""A failed keyword as one plain sentence, with keys and limits but never a value of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leanmq_topology.contracts.engine import Failure
from leanmq_topology.contracts.violation import Violation, format_pointer, printable

_TYPE_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "null": "null",
}

FORMAT_WORDS = {
    "date": "a date such as 2026-01-31",
    "date-time": "a date and time with offset, such as 2026-01-31T12:00:00Z",
    "time": "a time with offset, such as 12:00:00Z",
    "duration": "an ISO 8601 duration such as P1DT12H",
    "email": "an e-mail address",
    "idn-email": "an e-mail address",
    "hostname": "a host name",
    "idn-hostname": "a host name",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "uri": "a URI with a scheme",
    "uri-reference": "a URI or a relative reference",
    "iri": "an IRI with a scheme",
    "iri-reference": "an IRI or a relative reference",
    "uri-template": "a URI template",
    "uuid": "a UUID",
    "json-pointer": "a JSON Pointer",
    "relative-json-pointer": "a relative JSON Pointer",
    "regex": "a regular expression",
}
"""Every format that is asserted; any other is refused when the schema is read."""

_SHOWN = 10
"""How many alternatives a sentence lists."""


def explain(failure: Failure) -> Violation:
    """The sentence for one failure, at the most telling place."""
    failure = _descend(failure)
    return Violation(format_pointer(failure.at), describe(failure))


def describe(failure: Failure) -> str:
    sentence = _SENTENCES.get(failure.keyword)
    return sentence(failure) if sentence else f"breaks the rule {failure.keyword!r} of its schema"


def join_names(names: Iterable[str], *, last: str = "or") -> str:
    """`a, b or c`."""
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end


def name_kind(value: Any) -> str:
    """What a value is, in JSON's words: `a string`, `a number`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    words = ((str, "a string"), (int | float, "a number"), (dict, "an object"))
    return next((word for kind, word in words if isinstance(value, kind)), "a list")


def _descend(failure: Failure) -> Failure:
    """Into the one alternative whose type fits: its complaint says more than "fits none"."""
    while failure.branches:
        fitting = [branch for branch in failure.branches if branch and not _is_wrong_kind(branch[0], failure)]
        if len(fitting) != 1:
            return failure
        failure = fitting[0][0]
    return failure


def _is_wrong_kind(inner: Failure, outer: Failure) -> bool:
    return inner.at == outer.at and inner.keyword in ("type", "const", "enum")


def _describe_type(failure: Failure) -> str:
    return f"must be {_list_types(failure.limit)}, not {name_kind(failure.value)}"


def _list_types(types: Sequence[str]) -> str:
    ordered = [word for name, word in _TYPE_WORDS.items() if name in types]
    return join_names(ordered) if ordered else "of no type at all"


def _describe_alternatives(failure: Failure) -> str:
    firsts = [branch[0] for branch in failure.branches if branch]
    if firsts and all(first.keyword == "type" and first.at == failure.at for first in firsts):
        names = dict.fromkeys(name for first in firsts for name in first.limit)
        return f"must be {_list_types(list(names))}, not {name_kind(failure.value)}"
    return f"fits none of the {len(failure.branches)} forms that its schema allows"


def _describe_keys(failure: Failure) -> str:
    keys = [repr(printable(key)) for key in failure.limit]
    return f"has a key that is not declared: {keys[0]}" if len(keys) == 1 else _describe_several(keys)


def _describe_several(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"has keys that are not declared: {', '.join(keys[:_SHOWN])}{more}"


def _describe_names(failure: Failure) -> str:
    inner = failure.limit
    name = repr(printable(str(inner.value))) if isinstance(inner, Failure) else ""
    return (
        f"has a key that is not allowed: {name}, which {describe(inner)}" if name else "has a key not allowed"
    )


def _describe_choice(failure: Failure) -> str:
    shown = [_show(value) for value in failure.limit[:_SHOWN]]
    more = f", … ({len(failure.limit)} in all)" if len(failure.limit) > _SHOWN else ""
    return f"must be {join_names(shown)}{more}" if shown else "is not allowed: its schema lists no value"


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _count(one: str, many: str, word: str) -> Callable[[Failure], str]:
    def sentence(failure: Failure) -> str:
        return f"must have {word} {failure.limit} {one if failure.limit == 1 else many}"

    return sentence


def _format(template: str) -> Callable[[Failure], str]:
    def sentence(failure: Failure) -> str:
        return template.format(limit=failure.limit)

    return sentence


_SENTENCES: dict[str, Callable[[Failure], str]] = {
    "type": _describe_type,
    "required": lambda failure: f"is missing required key {printable(str(failure.limit))!r}",
    "additionalProperties": _describe_keys,
    "unevaluatedProperties": _describe_keys,
    "propertyNames": _describe_names,
    "enum": _describe_choice,
    "const": lambda failure: f"must be {_show(failure.limit)}",
    "anyOf": _describe_alternatives,
    "oneOf": _describe_alternatives,
    "oneOfMany": _format("fits more than one of the forms of which exactly one must fit"),
    "not": _format("has a form that its schema excludes"),
    "falseSchema": _format("is not allowed here"),
    "format": lambda failure: f"must be {FORMAT_WORDS.get(failure.limit, failure.limit)}",
    "pattern": lambda failure: f"must match the pattern {printable(failure.limit)}",
    "minimum": _format("must be at least {limit}"),
    "maximum": _format("must be at most {limit}"),
    "exclusiveMinimum": _format("must be more than {limit}"),
    "exclusiveMaximum": _format("must be less than {limit}"),
    "multipleOf": _format("must be a multiple of {limit}"),
    "minLength": _count("character", "characters", "at least"),
    "maxLength": _count("character", "characters", "at most"),
    "minItems": _count("item", "items", "at least"),
    "maxItems": _count("item", "items", "at most"),
    "additionalItems": _count("item", "items", "at most"),
    "minProperties": _count("key", "keys", "at least"),
    "maxProperties": _count("key", "keys", "at most"),
    "uniqueItems": _format("must not hold the same item twice"),
    "contains": _format("does not hold the items that its schema asks for"),
    "unevaluatedItems": _format("has more items than are declared"),
    "contentEncoding": _format("must be encoded as {limit}"),
    "contentMediaType": _format("must hold {limit}"),
}
