"""A file as a tree of nodes that know where they stand. Nodes are never changed once the tree is built."""

from __future__ import annotations


class Node:
    """A value in a file. `start` and `end` are offsets in code points; `file` is the name of its source."""

    __slots__ = ("end", "file", "start")

    def __init__(self, file: str, start: int, end: int) -> None:
        self.file, self.start, self.end = file, start, end


class ScalarNode(Node):
    """`text` is what the file says, quotes and escapes resolved; only plain text may mean a number."""

    __slots__ = ("is_plain", "text")

    def __init__(self, file: str, start: int, end: int, text: str, is_plain: bool) -> None:
        self.file, self.start, self.end = file, start, end
        self.text, self.is_plain = text, is_plain


class CollectionNode(Node):
    """`height` counts the levels of nesting in it, `size` the nodes, those of aliases each time."""

    __slots__ = ("height", "size")

    def __init__(self, file: str, start: int, end: int) -> None:
        super().__init__(file, start, end)
        self.height = self.size = 1


class MappingNode(CollectionNode):
    """Keys are unique strings; each entry keeps the key's own node for its place."""

    __slots__ = ("entries",)

    def __init__(self, file: str, start: int, end: int) -> None:
        super().__init__(file, start, end)
        self.entries: dict[str, tuple[ScalarNode, Node]] = {}


class SequenceNode(CollectionNode):
    __slots__ = ("items",)

    def __init__(self, file: str, start: int, end: int) -> None:
        super().__init__(file, start, end)
        self.items: list[Node] = []
