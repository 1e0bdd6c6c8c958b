"""Text to nodes, within limits that hold before anything is built.

The tree is built from the parser's events by a loop of our own, not by PyYAML's composer: that one follows
nesting with the C stack, and a hundred thousand open brackets end the process. Here every limit is checked
before a node is made, in the same pass.
"""

from __future__ import annotations

import io
from typing import Any, NoReturn

import yaml

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.document.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode
from leanmq_topology.document.scalars import OutOfRangeError, resolve_plain
from leanmq_topology.document.source import Source
from leanmq_topology.document.syntax import explain_syntax
from leanmq_topology.garbage import paused_collection

MAX_DEPTH = 32
MAX_NODES = 1_000_000
MAX_ALIASED_NODES = 50_000


class _Stop(Exception):  # noqa: N818 - not an error: the file cannot be read any further, and it was said why
    pass


def compose(source: Source) -> tuple[Node | None, list[Diagnostic]]:
    """The root node of a file (None if it is empty or unreadable), and everything wrong with its text."""
    with paused_collection():
        return _Composer(source).compose()


def node_span(source: Source, node: Node) -> Span:
    return source.span(node.start, node.end)


class _Composer:
    """One pass over one file's events."""

    def __init__(self, source: Source) -> None:
        self._source, self._file = source, source.name
        self._found: list[Diagnostic] = []
        self._root: Node | None = None
        self._open: list[CollectionNode] = []
        self._keys: list[Node | None] = []
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
            yaml.ScalarEvent: self._add_scalar,
            yaml.MappingStartEvent: self._start_mapping,
            yaml.SequenceStartEvent: self._start_sequence,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._add_alias,
            yaml.DocumentStartEvent: self._start_document,
        }
        parser = _open_parser(self._source)
        next_event, find_action = parser.get_event, actions.get
        try:
            while (event := next_event()) is not None:
                if action := find_action(type(event)):
                    action(event)
        finally:
            parser.dispose()

    def _start_document(self, event: Any) -> None:
        if self._root is not None:
            self._stop(
                "LMQ106",
                "a second document starts here; a file holds one",
                event,
                "move it to a file of its own and name both: -f a.yaml -f b.yaml",
            )

    def _add_scalar(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop_large(event)
        node = ScalarNode(
            self._file, event.start_mark.index, event.end_mark.index, event.value, not event.style
        )
        if event.tag is not None:
            self._refuse_tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node)

    def _start_mapping(self, event: Any) -> None:
        self._start(MappingNode(self._file, event.start_mark.index, event.end_mark.index), event)

    def _start_sequence(self, event: Any) -> None:
        self._start(SequenceNode(self._file, event.start_mark.index, event.end_mark.index), event)

    def _start(self, node: CollectionNode, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop_large(event)
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

    def _end(self, event: Any) -> None:
        node = self._open.pop()
        self._keys.pop()
        node.end = event.end_mark.index
        node.size = self._nodes - node.size + 1
        anchor = self._anchor_of.get(id(node))
        if anchor is not None:
            self._anchors[anchor] = node
        self._raise_height(node)
        self._attach(node)

    def _add_alias(self, event: Any) -> None:
        name = event.anchor
        node = self._anchors.get(name)
        if node is None:
            self._refuse_alias(name, event)
        self._expand(node, event)
        self._attach(node)

    def _refuse_alias(self, name: str, event: Any) -> NoReturn:
        if name in self._anchors:
            self._stop("LMQ110", f"*{name} stands inside the value it names, so it never ends", event)
        hint = f"define it above with &{name}, or put the value in quotes"
        self._stop("LMQ110", f"no anchor named &{name} stands above this", event, hint)

    def _expand(self, node: Node, event: Any) -> None:
        """Counts what an alias stands for, as if it were written out."""
        size, height = (node.size, node.height) if isinstance(node, CollectionNode) else (1, 0)
        self._nodes += size
        self._aliased += size
        if self._aliased > MAX_ALIASED_NODES:
            hint = "write the values out, or put what they share into `defaults:`"
            self._stop("LMQ111", f"aliases expand to more than {MAX_ALIASED_NODES:,} values", event, hint)
        if len(self._open) + height > MAX_DEPTH:
            self._stop_deep(event)
        if isinstance(node, CollectionNode):
            self._raise_height(node)

    def _raise_height(self, node: CollectionNode) -> None:
        if self._open:
            self._open[-1].height = max(self._open[-1].height, node.height + 1)

    def _attach(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if type(parent) is SequenceNode:
            parent.items.append(node)
        elif type(parent) is MappingNode:
            key, self._keys[-1] = self._keys[-1], None
            if key is None:
                self._keys[-1] = node
            else:
                self._add_entry(parent, key, node)

    def _add_entry(self, mapping: MappingNode, key: Node, value: Node) -> None:
        """Adds `key: value`, or says why not and leaves it out."""
        if not isinstance(key, ScalarNode):
            self._refuse_key(key, "a list or a mapping")
        elif key.is_plain and not self._is_string_key(key):
            pass
        elif key.text in mapping.entries:
            first = node_span(self._source, mapping.entries[key.text][0])
            message = f"{_shorten(key.text)!r} is written twice; first in line {first.line}"
            self._say("LMQ107", message, self._span(key), "keep one of the two")
        else:
            mapping.entries[key.text] = (key, value)

    def _is_string_key(self, key: ScalarNode) -> bool:
        if key.text == "<<":
            hint = "put what is shared into `defaults:`, or repeat it; a plain alias (key: *name) is allowed"
            self._say("LMQ109", "merge keys (<<) are not allowed", self._span(key), hint)
            return False
        try:
            value = resolve_plain(key.text)
        except OutOfRangeError:
            value = 0
        if isinstance(value, str):
            return True
        self._refuse_key(key, _name_kind(value))
        return False

    def _refuse_key(self, key: Node, kind: str) -> None:
        text = key.text if isinstance(key, ScalarNode) else ""
        hint = f"put it in quotes: '{_shorten(text)}'" if text else "write a name before the colon"
        self._say("LMQ112", f"a key must be a string, and this is {kind}", self._span(key), hint)

    def _refuse_tag(self, event: Any) -> None:
        name = _shorten(event.tag.replace("tag:yaml.org,2002:", "!!"))
        hint = "remove it; the value's form decides its type, and quotes make a string"
        self._say("LMQ108", f"tags are not allowed ({name})", self._event_span(event), hint)

    def _stop_large(self, event: Any) -> NoReturn:
        message = f"the file holds more than {MAX_NODES:,} values"
        self._stop("LMQ111", message, event, "split it by namespace")

    def _stop_deep(self, event: Any) -> NoReturn:
        hint = "nothing in a topology needs that; look for brackets that are never closed"
        self._stop("LMQ111", f"values are nested more than {MAX_DEPTH} deep", event, hint)

    def _stop(self, code: str, message: str, event: Any, hint: str | None = None) -> NoReturn:
        self._say(code, message, self._event_span(event), hint)
        raise _Stop

    def _say(self, code: str, message: str, span: Span, hint: str | None) -> None:
        self._found.append(Diagnostic(code, message, suggestion=hint, span=span))

    def _span(self, node: Node) -> Span:
        return node_span(self._source, node)

    def _event_span(self, event: Any) -> Span:
        return self._source.span(event.start_mark.index, event.end_mark.index)


def _open_parser(source: Source) -> Any:
    """libyaml's parser, or PyYAML's own where libyaml is missing; both give the same places."""
    if hasattr(yaml, "CLoader"):
        return yaml.CLoader(source.text)
    return yaml.Loader(io.StringIO(source.text))


def _name_kind(value: object) -> str:
    if value is None:
        return "empty"
    return "true or false" if isinstance(value, bool) else "a number"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
