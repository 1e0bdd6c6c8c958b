"""Document -> Topology: values read, defaults filled in, everything wrong reported at once.

The builder never stops: a value it cannot use is reported and left at its default, so that the rules can
still look at the rest. It expects nothing of the document's shape; where the shape is wrong, the topology's
JSON Schema has said so already, better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from leanmq_topology.contracts.schemas import Schema
from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.document.reader import Document
from leanmq_topology.topology import sections
from leanmq_topology.topology.fields import ValuePath, WrongItemsError, WrongValueError, read_text
from leanmq_topology.topology.model import (
    ROUTE_TYPES,
    Batch,
    BrokerSettings,
    DeadLetter,
    Deduplication,
    EphemeralRoute,
    Handler,
    Lifecycle,
    MessageType,
    Queue,
    RequestRoute,
    Retry,
    Route,
    Target,
    Topology,
)
from leanmq_topology.topology.places import diagnose
from leanmq_topology.topology.sections import Field, Fields, Section

Values = dict[str, Any]
T = TypeVar("T")

UNNAMED = "unnamed"
"""Stands for a name that is missing or unusable, so that the rest of the file is looked at all the same."""

_RETRY_FORMULA = ("backoff", "delay_ms", "max_delay_ms")


def build_topology(
    document: Document, schemas: Mapping[str, Schema] | None = None, *, files: tuple[Path, ...] = ()
) -> tuple[Topology, list[Diagnostic]]:
    """The topology a document describes, as far as its values can be used, and every value that cannot.

    `schemas` holds the self-contained schema of each message type, `files` what they were read from; a type
    without a schema accepts anything.
    """
    builder = _Builder(document)
    return builder.build(schemas or {}, files), builder.found


class _Builder:
    """One walk over one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.found: list[Diagnostic] = []

    def build(self, schemas: Mapping[str, Schema], files: tuple[Path, ...]) -> Topology:
        root = {"name": UNNAMED, **self._read(self.document.values, sections.ROOT, ())}
        queues = self._queues()
        return Topology(
            **root,
            broker=self._broker(root["name"]),
            messages=self._messages(schemas),
            queues=queues,
            routes=self._routes(queues),
            handlers=self._handlers(),
            moved=self._moved(),
            folder=self.document.folder,
            files=tuple(dict.fromkeys((*self.document.files, *files))),
        )

    def _broker(self, name: str) -> BrokerSettings:
        given = self._read(self._mapping("broker"), sections.BROKER, ("broker",))
        return BrokerSettings(**{"namespace": name, **given})

    def _messages(self, schemas: Mapping[str, Schema]) -> dict[str, MessageType]:
        built = {}
        for name, entry in self._entries("messages"):
            given = self._read(entry, sections.MESSAGE, ("messages", name))
            built[name] = MessageType(name=name, schema=schemas.get(name, True), **given)
        return built

    def _queues(self) -> dict[str, Queue]:
        defaults = self._read(self._mapping("defaults", "queue"), sections.QUEUE, ("defaults", "queue"))
        built = {}
        for name, entry in self._entries("queues"):
            own = self._read(entry, sections.QUEUE, ("queues", name))
            built[name] = self._queue(name, _overlay(defaults, own))
        return built

    def _queue(self, name: str, given: Values) -> Queue:
        parts: Values = {}
        if "retry" in given:
            parts["retry"] = Retry(**given["retry"])
        if "dead_letter" in given:
            parts["dead_letter"] = DeadLetter(**given["dead_letter"])
        if "lifecycle" in given:
            parts["lifecycle"] = Lifecycle(**given["lifecycle"])
        if "deduplication" in given:
            window = given["deduplication"].get("window_ms")
            parts["deduplication"] = Deduplication(**given["deduplication"]) if window else None
        return Queue(name=name, **{**given, **parts})

    def _routes(self, queues: Mapping[str, Queue]) -> dict[str, Route]:
        built: dict[str, Route] = {}
        for name, entry in self._entries("routes"):
            route = self._route(name, entry, queues)
            if route is not None:
                built[name] = route
        return built

    def _route(self, name: str, entry: Values, queues: Mapping[str, Queue]) -> Route | None:
        given = self._read(entry, sections.ROUTE, ("routes", name))
        kind = ROUTE_TYPES.get(entry["type"]) if isinstance(entry.get("type"), str) else None
        if kind is RequestRoute:
            parts = ("request", "reply", "queue", "error", "timeout_ms")
            required = all(part in given for part in parts[:3])
            return RequestRoute(name=name, **_pick(given, parts)) if required else None
        if kind is EphemeralRoute:
            return EphemeralRoute(name=name, **_pick(given, ("accepts",)))
        if kind is None or kind is RequestRoute:
            return None
        targets = self._targets(name, entry.get("to"))
        accepts = given.get("accepts") or common_types(targets, queues)
        return kind(name=name, accepts=accepts, to=targets)  # type: ignore[call-arg]

    def _targets(self, route: str, given: Any) -> tuple[Target, ...]:
        built = []
        for queue in sorted(_as_mapping(given)):
            path = ("routes", route, "to", queue)
            built.append(Target(queue=queue, **self._read(given[queue], sections.TARGET, path)))
        return tuple(built)

    def _handlers(self) -> dict[str, Handler]:
        place = ("defaults", "handler")
        defaults = self._read(self._mapping(*place), sections.HANDLER, place)
        built = {}
        for name, entry in self._entries("handlers"):
            own = self._read(entry, sections.HANDLER, ("handlers", name))
            given = _overlay(defaults, own)
            if "batch" in given:
                given["batch"] = Batch(**given["batch"]) if "size" in given["batch"] else None
            if "queue" in given and "call" in given:
                built[name] = Handler(name=name, **given)
        return built

    def _moved(self) -> dict[str, str]:
        moved = {}
        for old, new in self._mapping("moved").items():
            read = self._try(read_text, new, ("moved", old))
            if read is not None:
                moved[old] = read
        return moved

    def _entries(self, section: str) -> Iterable[tuple[str, Values]]:
        for name, entry in self._mapping(section).items():
            yield name, _as_mapping(entry)

    def _mapping(self, *path: str) -> Values:
        value: Any = self.document.values
        for key in path:
            value = _as_mapping(value).get(key)
        return _as_mapping(value)

    def _read(self, entry: Any, fields: Fields, path: ValuePath) -> Values:
        """What the keys of one mapping come to, by attribute of the model; wrong ones are left out."""
        given: Values = {}
        for key, value in _as_mapping(entry).items():
            match fields.get(key):
                case Field(attribute, read):
                    self._keep(given, attribute, read, value, (*path, key))
                case Section(attribute, below):
                    given[attribute] = self._read(value, below, (*path, key))
                case None:
                    pass
        return given

    def _keep(
        self, given: Values, attribute: str, read: Callable[[Any], Any], value: Any, path: ValuePath
    ) -> None:
        wrong_before = len(self.found)
        result = self._try(read, value, path)
        if len(self.found) == wrong_before:
            given[attribute] = result

    def _try(self, read: Callable[[Any], T], value: Any, path: ValuePath) -> T | None:
        try:
            return read(value)
        except WrongValueError as wrong:
            self._report(wrong, path)
        except WrongItemsError as several:
            for item in several.wrong:
                self._report(item, path)
        return None

    def _report(self, wrong: WrongValueError, path: ValuePath) -> None:
        place = (*path, *wrong.at)
        self.found.append(
            diagnose(self.document, wrong.code, wrong.message, place, suggestion=wrong.suggestion)
        )


def common_types(targets: Iterable[Target], queues: Mapping[str, Queue]) -> tuple[str, ...]:
    """The message types every target accepts, in the first one's order; empty when all accept anything."""
    lists = [queues[target.queue].accepts for target in targets if target.queue in queues]
    choosy = [accepts for accepts in lists if accepts]
    if not choosy:
        return ()
    return tuple(name for name in choosy[0] if all(name in accepts for accepts in choosy[1:]))


def _overlay(defaults: Values, own: Values) -> Values:
    """Maps merge, all else is replaced. Retry steps and formula exclude each other: the nearer one wins."""
    merged = {**defaults, **own}
    for key, value in own.items():
        below = defaults.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and key != "match":
            merged[key] = {**_without_rival(below, value), **value}
    return merged


def _without_rival(below: Values, value: Values) -> Values:
    if "steps_ms" in value:
        return {key: kept for key, kept in below.items() if key not in _RETRY_FORMULA}
    if any(key in value for key in _RETRY_FORMULA):
        return {key: kept for key, kept in below.items() if key != "steps_ms"}
    return below


def _pick(given: Values, names: Iterable[str]) -> Values:
    return {name: given[name] for name in names if name in given}


def _as_mapping(value: Any) -> Values:
    return value if isinstance(value, dict) else {}
