"""`leanmq explain`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from leanmq_topology.cli import path_words
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.diagnostics import Explanation, closest, explain_code
from leanmq_topology.document.reader import Document
from leanmq_topology.errors import InvalidTopologyError
from leanmq_topology.topology.loading import check_files
from leanmq_topology.topology.masking import mask_url
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.sections import QUEUE
from leanmq_topology.topology.support import without_unsupported
from leanmq_topology.topology.written import write_topology

_CODE = re.compile(r"[A-Za-z]{2,4}-?[0-9]+")
_SECTIONS = ("queues", "routes", "handlers", "messages")
_UNSET: dict[str, dict[str, str]] = {
    "queues": {"accepts": "any JSON object", "max_length": "unlimited"},
}
"""What a key means that has no value of its own."""
_QUIET = frozenset({"schema", "examples"})
"""Too long for one line; `leanmq render` prints them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a resource, and where it was decided."""

    key: str
    value: Any
    origin: str
    """`file:line`, or `default`."""


@click.command("explain")
@click.argument("subject", metavar="CODE|ADDRESS")
@common_options()
def command(call: Invocation, subject: str) -> None:
    """Explain a code (LMQ305) or an address (queues.billing, queues.billing.retry).

    Of an address it shows every value with the place that decided it, and what becomes of a message there.
    """
    if _CODE.fullmatch(subject):
        _explain_code(call, subject)
    else:
        _explain_address(call, subject)


def _explain_code(call: Invocation, code: str) -> None:
    found = explain_code(code)
    if found is None:
        raise click.UsageError(f"there is no code {code.upper()!r}")
    call.output.data("explain", asdict(found), _render_code(found))


def _render_code(found: Explanation) -> str:
    return f"{found.code}: {found.title}\n\n{found.text}\n\nTo mend it\n\n{found.mend}"


def _explain_address(call: Invocation, address: str) -> None:
    checked = check_files(
        call.topology_files(), environment=call.settings.environment, environ=call.settings.environ
    )
    if checked.topology is None or checked.document is None:
        raise InvalidTopologyError(checked.found)
    section, name, rest = _find_resource(checked.topology, address)
    settings = list(_list_settings(checked.document, checked.topology, section, name, rest))
    if not settings:
        raise click.UsageError(f"{f'{section}.{name}'.lstrip('.')} has no key {'.'.join(rest)!r}")
    steps = list(_describe(checked.topology, section, name))
    payload = {"address": address, "settings": [asdict(item) for item in settings], "path": steps}
    call.output.data("explain", payload, _render_address(address, settings, steps))


def _find_resource(topology: Topology, address: str) -> tuple[str, str, tuple[str, ...]]:
    """Section, name and the keys below; names may hold dots, so the longest known name wins."""
    section, _, rest = address.partition(".")
    if section in {"name", "broker"}:
        return "", section, tuple(rest.split(".")) if rest else ()
    if section not in _SECTIONS:
        holders = [f"{known}.{address}" for known in _SECTIONS if address in getattr(topology, known)]
        hint = f"did you mean {holders[0]}?" if holders else "write queues.NAME, routes.NAME or the like"
        raise click.UsageError(f"{address!r} is neither a code nor an address; {hint}")
    names = getattr(topology, section)
    words = rest.split(".")
    for end in range(len(words), 0, -1):
        name = ".".join(words[:end])
        if name in names:
            return section, name, tuple(words[end:])
    if not rest:
        raise click.UsageError(f"{section!r} is a section; name one of it, as in {section}.NAME")
    near = closest(rest, names)
    raise click.UsageError(
        f"there is no {section}.{rest}" + (f"; did you mean {section}.{near}?" if near else "")
    )


def _list_settings(
    document: Document, topology: Topology, section: str, name: str, below: tuple[str, ...]
) -> Iterator[Setting]:
    """Every value at or below an address, with its origin."""
    path = (section, name) if section else (name,)
    values = _values(topology, path)
    for keys, value in _flatten(values, ()):
        if keys[: len(below)] == below and keys[:1] not in {(key,) for key in _QUIET}:
            yield Setting(".".join(keys), value, _origin(document, path, keys))


def _values(topology: Topology, path: tuple[str, ...]) -> Any:
    values: Any = without_unsupported(write_topology(topology))
    for key in path:
        values = values[key]
    if path == ("broker",) and "url" in values:
        values = {**values, "url": mask_url(topology.broker.url or "")}
    return _in_order(path[0], values) if isinstance(values, dict) else values


def _in_order(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """With what has no value of its own, in the order of the language's reference."""
    told = {**_UNSET.get(section, {}), **values}
    order = list(QUEUE if section == "queues" else told)
    return {key: told[key] for key in order if key in told}


def _flatten(values: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict) and values and at[-1:] != ("match",):
        for key, value in values.items():
            yield from _flatten(value, (*at, key))
    else:
        yield at, values


def _origin(document: Document, path: tuple[str, ...], keys: tuple[str, ...]) -> str:
    fallback = ("defaults", path[0].removesuffix("s"))
    for base, note in ((path, ""), (fallback, " (defaults)")):
        span = document.key_span((*base, *keys)) if keys else document.span(base)
        if span is not None:
            return f"{span.file}:{span.line}{note}"
    if path[0] == "routes" and keys == ("accepts",):
        return "what its queues have in common"
    return "default"


def _describe(topology: Topology, section: str, name: str) -> Iterator[str]:
    match section:
        case "queues":
            yield from path_words.describe_queue(topology, topology.queues[name])
        case "routes":
            yield from path_words.describe_route(topology.routes[name])
        case "handlers":
            yield from path_words.describe_handler(topology, topology.handlers[name])
        case "messages":
            yield from path_words.describe_message(topology, topology.messages[name])


def _render_address(address: str, settings: list[Setting], steps: list[str]) -> str:
    rows = [(item.key or address, _show(item.value), item.origin) for item in settings]
    widths = [max(len(row[at]) for row in rows) for at in range(2)]
    lines = [f"  {key:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for key, value, origin in rows]
    return "\n".join([address, "", *lines, *(["", *steps] if steps else [])])


def _show(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(map(_show, value))
        case dict():
            return json.dumps(value, ensure_ascii=False) if value else "everything"
        case _:
            return str(value)
