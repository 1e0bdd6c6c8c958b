"""A file as a tree of nodes that know where they stand.

The tree is built from the parser's events by a loop of our own, not by PyYAML's composer: that one follows
nesting with the C stack, and a hundred thousand open brackets end the process. Here every limit is checked
before a node is made, in the same pass. Scalars are the parser's own events, so they cost nothing extra.
"""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import yaml

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.document.scalars import OutOfRangeError, resolve_plain
from leanmq_topology.document.source import Source
from leanmq_topology.document.syntax import explain_syntax

MAX_DEPTH = 32
MAX_NODES = 1_000_000
MAX_ALIASED_NODES = 50_000

ScalarNode = yaml.ScalarEvent
"""`value`, `style` (empty when plain), `start_mark` and `end_mark`."""


class CollectionNode:
    """A mapping or a sequence, and from where to where it stands."""

    __slots__ = ("end_mark", "height", "size", "start_mark")

    def __init__(self, start_mark: yaml.Mark, end_mark: yaml.Mark) -> None:
        self.start_mark, self.end_mark = start_mark, end_mark
        self.height = self.size = 1


class MappingNode(CollectionNode):
    """Keys are unique strings; each entry keeps the key's own node for its place."""

    __slots__ = ("entries",)

    def __init__(self, start_mark: yaml.Mark, end_mark: yaml.Mark) -> None:
        super().__init__(start_mark, end_mark)
        self.entries: dict[str, tuple[ScalarNode, Node]] = {}


class SequenceNode(CollectionNode):
    __slots__ = ("items",)

    def __init__(self, start_mark: yaml.Mark, end_mark: yaml.Mark) -> None:
        super().__init__(start_mark, end_mark)
        self.items: list[Node] = []


Node = ScalarNode | MappingNode | SequenceNode


class _Stop(Exception):  # noqa: N818 - not an error: the file cannot be read any further, and it was said why
    pass


@contextmanager
def paused_collection() -> Iterator[None]:
    """No garbage collection meanwhile: a big tree is all live, and looking for garbage in it costs 5 times more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compose(source: Source) -> tuple[Node | None, list[Diagnostic]]:
    """The root node of a file (None if it is empty or unreadable), and everything wrong with its text."""
    with paused_collection():
        return _Composer(source).compose()


def node_span(source: Source, node: Node) -> Span:
    return source.span(node.start_mark.index, node.end_mark.index)


class _Stream(io.StringIO):
    """Gives every mark the file's name."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.text)
        self.name = source.name


class _Composer:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: list[Diagnostic] = []
        self._root: Node | None = None
        self._open: list[CollectionNode] = []
        self._keys: list[ScalarNode | CollectionNode | None] = []
        """For each open mapping the key that waits for its value."""
        self._anchors: dict[str, Node | None] = {}
        """None while the anchored collection is still open."""
        self._anchor_of: dict[int, str] = {}
        self._nodes = self._aliased = 0

    def compose(self) -> tuple[Node | None, list[Diagnostic]]:
        try:
            self._read_events()
        except _Stop:
            return None, self._found
        except yaml.YAMLError as error:
            self._found.append(explain_syntax(error, self._source))
            return None, self._found
        return self._root, self._found

    def _read_events(self) -> None:
        actions: dict[type, Any] = {
            yaml.MappingStartEvent: self._start_mapping,
            yaml.SequenceStartEvent: self._start_sequence,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._add_alias,
            yaml.DocumentStartEvent: self._start_document,
        }
        scalar, add_scalar, next_action = yaml.ScalarEvent, self._add_scalar, actions.get
        for event in _read_events(self._source):
            if type(event) is scalar:
                add_scalar(event)
            elif action := next_action(type(event)):
                action(event)

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        if self._root is not None:
            self._stop(
                "LMQ106",
                "a second document starts here; a file holds one",
                event,
                "move it to a file of its own and name both: -f a.yaml -f b.yaml",
            )

    def _add_scalar(self, event: ScalarNode) -> None:
        self._count(event)
        if event.tag is not None:
            self._refuse_tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = event
        self._attach(event)

    def _start_mapping(self, event: yaml.MappingStartEvent) -> None:
        self._start(MappingNode(event.start_mark, event.end_mark), event)

    def _start_sequence(self, event: yaml.SequenceStartEvent) -> None:
        self._start(SequenceNode(event.start_mark, event.end_mark), event)

    def _start(self, node: CollectionNode, event: yaml.CollectionStartEvent) -> None:
        self._count(event)
        if event.tag is not None:
            self._refuse_tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
            self._anchor_of[id(node)] = event.anchor
        if len(self._open) >= MAX_DEPTH:
            self._stop_deep(event)
        node.size = self._nodes
        self._open.append(node)
        self._keys.append(None)

    def _end(self, event: yaml.CollectionEndEvent) -> None:
        node = self._open.pop()
        self._keys.pop()
        node.end_mark = event.end_mark
        node.size = self._nodes - node.size + 1
        anchor = self._anchor_of.get(id(node))
        if anchor is not None:
            self._anchors[anchor] = cast(Node, node)
        if self._open:
            self._open[-1].height = max(self._open[-1].height, node.height + 1)
        self._attach(cast(Node, node))

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor
        node = self._anchors.get(name)
        if node is None:
            if name in self._anchors:
                self._stop("LMQ110", f"*{name} stands inside the value it names, so it never ends", event)
            hint = f"define it above with &{name}"
            self._stop("LMQ110", f"no anchor named &{name} stands above this", event, hint)
        if isinstance(node, CollectionNode):
            self._expand(node, event)
        else:
            self._count(event)
        self._attach(node, event)

    def _expand(self, node: CollectionNode, event: yaml.AliasEvent) -> None:
        self._nodes += node.size
        self._aliased += node.size
        if self._aliased > MAX_ALIASED_NODES:
            self._stop(
                "LMQ111",
                f"aliases expand to more than {MAX_ALIASED_NODES:,} values",
                event,
                "write the values out, or put what they share into `defaults:`",
            )
        if len(self._open) + node.height > MAX_DEPTH:
            self._stop_deep(event)
        if self._open:
            self._open[-1].height = max(self._open[-1].height, node.height + 1)

    def _attach(self, node: Node, alias: yaml.AliasEvent | None = None) -> None:
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if type(parent) is SequenceNode:
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = node
        else:
            self._keys[-1] = None
            self._add_entry(cast(MappingNode, parent), key, node)

    def _add_entry(self, mapping: MappingNode, key: ScalarNode | CollectionNode, node: Node) -> None:
        """Adds `key: node`, or says why not and leaves it out."""
        if type(key) is not ScalarNode:
            self._refuse_key(key, "a list or a mapping")
            return
        name = key.value
        if not key.style and not self._is_string_key(key):
            return
        if name in mapping.entries:
            first = node_span(self._source, mapping.entries[name][0])
            what = f"{_shorten(name)!r} is written twice; first in line {first.line}"
            self._say("LMQ107", what, key, "keep one of the two")
            return
        mapping.entries[name] = (key, node)

    def _is_string_key(self, key: ScalarNode) -> bool:
        if key.value == "<<":
            hint = "put what is shared into `defaults:`, or repeat it; a plain alias (key: *name) is allowed"
            self._say("LMQ109", "merge keys (<<) are not allowed", key, hint)
            return False
        try:
            value = resolve_plain(key.value)
        except OutOfRangeError:
            value = 0
        if type(value) is str:
            return True
        self._refuse_key(key, _name_kind(value))
        return False

    def _refuse_key(self, key: ScalarNode | CollectionNode, kind: str) -> None:
        shown = f"'{_shorten(key.value)}'" if isinstance(key, ScalarNode) and key.value else None
        hint = f"put it in quotes: {shown}" if shown else "write a name before the colon"
        self._say("LMQ112", f"a key must be a string, and this is {kind}", key, hint)

    def _refuse_tag(self, event: yaml.NodeEvent) -> None:
        name = _shorten(str(event.tag).replace("tag:yaml.org,2002:", "!!"))
        hint = "remove it; the value's form decides its type, quotes make a string"
        self._say("LMQ108", f"tags are not allowed ({name})", event, hint)

    def _count(self, event: yaml.NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            hint = "split the file by namespace"
            self._stop("LMQ111", f"the file holds more than {MAX_NODES:,} values", event, hint)

    def _stop_deep(self, event: yaml.NodeEvent) -> None:
        hint = "nothing in a topology needs that; look for brackets that are never closed"
        self._stop("LMQ111", f"values are nested more than {MAX_DEPTH} deep", event, hint)

    def _stop(self, code: str, message: str, event: Any, hint: str | None = None) -> None:
        self._say(code, message, event, hint)
        raise _Stop

    def _say(self, code: str, message: str, event: Any, hint: str | None = None) -> None:
        span = self._source.span(event.start_mark.index, event.end_mark.index)
        self._found.append(Diagnostic(code, message, suggestion=hint, span=span))


def _read_events(source: Source) -> Iterator[yaml.Event]:
    """libyaml's parser, or PyYAML's own where libyaml is missing; both give the same places."""
    loader = getattr(yaml, "CLoader", yaml.Loader)
    return cast(Iterator[yaml.Event], yaml.parse(_Stream(source), Loader=loader))


def _name_kind(value: object) -> str:
    if value is None:
        return "empty"
    return "true or false" if isinstance(value, bool) else "a number"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
