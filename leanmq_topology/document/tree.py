"""Work on node trees: look a path up, lay one tree over another. Nodes are never changed, only shared."""

from __future__ import annotations

from collections.abc import Sequence

from leanmq_topology.document.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = Sequence[str | int]


def find_node(root: Node, path: Path) -> Node | None:
    node: Node | None = root
    for step in path:
        node = _step(node, step)
        if node is None:
            return None
    return node


def find_key(root: Node, path: Path) -> ScalarNode | None:
    """The node of the last step's key; None for list items and for what is not there."""
    parent = find_node(root, path[:-1]) if path else None
    if not isinstance(parent, MappingNode):
        return None
    entry = parent.entries.get(str(path[-1]))
    return entry and entry[0]


def overlay(below: Node, above: Node) -> Node:
    """`above` laid over `below`: mappings merge, everything else is replaced."""
    if not (isinstance(below, MappingNode) and isinstance(above, MappingNode)):
        return above
    merged = copy_mapping(below)
    for name, (key, value) in above.entries.items():
        earlier = merged.entries.get(name)
        merged.entries[name] = (key, overlay(earlier[1], value) if earlier else value)
    return merged


def copy_mapping(node: MappingNode, *, without: str | None = None) -> MappingNode:
    copy = MappingNode(node.file, node.start, node.end)
    copy.entries = {name: entry for name, entry in node.entries.items() if name != without}
    return copy


def _step(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, MappingNode):
        entry = node.entries.get(str(step))
        return entry and entry[1]
    if isinstance(node, SequenceNode) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None
