"""Every key of a namespace, in one place. The kind comes before the queue, so no queue name can collide.

What belongs to the namespace carries its hash tag: the applied topology, the lock, the index of what is due,
producers' markers, inboxes, and the record of each queue, which must be found before anything else is known.
All other keys of a queue carry the tag that its record names. That is the namespace too, until somebody
places a queue elsewhere: one namespace is one slot, so an operation over several queues is atomic on a single
server, under Sentinel and in a cluster alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

T = TypeVar("T")

GROUP = "g"
"""The consumer group of every queue; its name never changes (readers would break at a purge)."""

NOBODY = "-"
"""Who holds what was handed back until somebody claims it; no worker is called so."""

SUSPECTS = "!"
"""Who holds, until somebody claims it, what may have taken its worker down: it is run alone in a process."""

MOST_REMEMBERED: Final = 10_000
"""Ready-made lists of keys that are kept, so that a sender makes none for each message."""

_MISPLACED = re.compile(r"MISPLACED \{([^{}]+)\}\{[^{}]*\}:m:([^:]*)")
"""What `lua/shared/placement.lua` says of a queue: its tag and, in its record's key, its name."""

_ESCAPES = str.maketrans({"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"})


def escape(name: str) -> str:
    """A classic name may hold `:` `%` `{` `}`; a key must not."""
    return name if name.isalnum() else name.translate(_ESCAPES)


def unescape(name: str) -> str:
    """What `escape` was given."""
    for character, code in (("}", "%7D"), ("{", "%7B"), (":", "%3A"), ("%", "%25")):
        name = name.replace(code, character)
    return name


def relocate(keys: tuple[str, ...], said: str) -> tuple[str, ...] | None:
    """Keys as they were given, those of the queue that lies elsewhere made anew.

    `said` is the server's error reply. None: it says no such thing of any of these keys.
    """
    found = _MISPLACED.fullmatch(said)
    if found is None:
        return None
    tag, queue = found.groups()
    theirs = re.compile(rf"\{{[^{{}}]*\}}(:[abcdqtuz]:{re.escape(queue)}(?::.*)?)")
    moved = tuple(f"{{{tag}}}{own[1]}" if (own := theirs.fullmatch(key)) else key for key in keys)
    return moved if moved != keys else None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace, and what its connections heard of queues that lie elsewhere."""

    namespace: str
    _tags: dict[str, str] = field(default_factory=dict[str, str], compare=False, repr=False)
    """Hash tag of such a queue, by its escaped name."""
    _remembered: dict[object, Any] = field(default_factory=dict[object, Any], compare=False, repr=False)

    def learn(self, said: str) -> None:
        """Take in where a queue lies, from the server's error reply: its keys are made so from now on."""
        if found := _MISPLACED.fullmatch(said):
            tag, queue = found.groups()
            self._tags[queue] = tag
            self._remembered.clear()

    def remember(self, what: object, make: Callable[[], T]) -> T:
        """Keys, or what is made of some: once, and again after a queue turned out to lie elsewhere."""
        found: T | None = self._remembered.get(what)
        if found is None:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[what] = make()
        return found

    def recall(self, what: object) -> Any:
        """What is remembered so, or None."""
        return self._remembered.get(what)

    def _key(self, rest: str) -> str:
        return f"{{{self.namespace}}}:{rest}"

    def tag(self, queue: str) -> str:
        """The hash tag of a queue, as far as is known."""
        return self._tags.get(escape(queue), self.namespace)

    def _own(self, kind: str, name: str, rest: str = "") -> str:
        """A key of a queue itself."""
        queue = escape(name)
        return f"{{{self.tag(name)}}}:{kind}:{queue}{rest}"

    @property
    def topology(self) -> str:
        """hash: owner, format, generation, epoch, and one field per applied resource and address digest"""
        return self._key("topology")

    @property
    def lock(self) -> str:
        """string PX: who applies right now"""
        return self._key("lock")

    @property
    def plan(self) -> str:
        """string: intent of an apply that has not finished"""
        return self._key("plan")

    @property
    def history(self) -> str:
        """stream: applied revisions"""
        return self._key("history")

    @property
    def pairs(self) -> str:
        """hash: pair that no topology declares by when it was made, in ms, and what is left of it"""
        return self._key("pairs")

    @property
    def sent(self) -> str:
        """hash: how many messages several queues got together, by the `counter` in the record of each"""
        return self._key("sent")

    @property
    def due(self) -> str:
        """zset: queue by the time its next delayed message is due"""
        return self._key("due")

    @property
    def upkeep(self) -> str:
        """hash PX: who moves due messages right now, and when each queue was checked last"""
        return self._key("upkeep")

    def channel(self, channel: str) -> str:
        """no key but a Pub/Sub channel (or a pattern of them), which nothing is stored under"""
        return self._key(f"e:{escape(channel)}")

    def queue(self, name: str) -> str:
        """stream: ready and in flight"""
        return self._own("q", name)

    def dead(self, name: str) -> str:
        """stream: dead letters"""
        return self._own("d", name)

    def acked(self, name: str) -> str:
        """stream: acknowledged history"""
        return self._own("a", name)

    def delayed(self, name: str) -> str:
        """zset: message id by due time (delay and retry)"""
        return self._own("z", name)

    def bodies(self, name: str) -> str:
        """hash: packed envelope by message id, for what lies in `delayed`"""
        return self._own("b", name)

    def meta(self, name: str) -> str:
        """hash: state, limits, counters, the queue's own hash tag"""
        return self._key(f"m:{escape(name)}")

    def crashes(self, name: str) -> str:
        """hash: how often a message took its process down with it, by message id; made by the first crash"""
        return self._own("c", name)

    def purges(self, name: str) -> str:
        """hash PX: purge id by what went when; `upto`, and the entries acknowledged since"""
        return self._own("t", name)

    def trash(self, name: str, purge_id: str, kind: str) -> str:
        """renamed key of this kind (`q d z b c`) PX, until the purge can no longer be undone"""
        return self._own("t", name, f":{purge_id}:{kind}")

    def queues_and_records(self, names: Sequence[str]) -> tuple[str, ...]:
        """First the stream of each queue, then the record of each."""
        return (*map(self.queue, names), *map(self.meta, names))

    def dead_letter_places(self, name: str) -> tuple[str, ...]:
        """Every key that a move from a queue to its dead letters may touch."""
        return (
            self.queue(name),
            self.meta(name),
            self.dead(name),
            self.delayed(name),
            self.bodies(name),
            self.due,
            self.crashes(name),
        )

    def marker(self, name: str, digest: str) -> str:
        """string PX: what was sent first under this identity, to an address or into a queue"""
        return self._own("u", name, f":{digest}")

    def producer(self, producer: str) -> str:
        """string PX: last flush of a producer, with its result"""
        return self._key(f"p:{producer}")

    def inbox(self, client: str) -> str:
        """stream PX: replies to one client, and what it has not read of them"""
        return self._key(f"r:{escape(client)}")

    def worker(self, worker: str) -> str:
        """hash PX: heartbeat, display only"""
        return self._key(f"w:{worker}")
