"""Every key of a namespace, in one place. The kind comes before the queue, so no queue name can collide.

All keys of a namespace carry its hash tag: one namespace is one slot, so every operation over several queues
is atomic on a single server, under Sentinel and in a cluster alike.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUP = "g"
"""The consumer group of every queue; its name never changes (readers would break at a purge)."""

NOBODY = "-"
"""Who holds what was handed back until somebody claims it; no worker is called so."""

SUSPECTS = "!"
"""Who holds, until somebody claims it, what may have taken its worker down: it is run alone in a process."""

_ESCAPES = str.maketrans({"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"})


def escape(name: str) -> str:
    """A classic name may hold `:` `%` `{` `}`; a key must not."""
    return name.translate(_ESCAPES)


def unescape(name: str) -> str:
    """What `escape` was given."""
    for character, code in (("}", "%7D"), ("{", "%7B"), (":", "%3A"), ("%", "%25")):
        name = name.replace(code, character)
    return name


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str

    def _key(self, rest: str) -> str:
        return f"{{{self.namespace}}}:{rest}"

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
        return self._key(f"q:{escape(name)}")

    def dead(self, name: str) -> str:
        """stream: dead letters"""
        return self._key(f"d:{escape(name)}")

    def acked(self, name: str) -> str:
        """stream: acknowledged history"""
        return self._key(f"a:{escape(name)}")

    def delayed(self, name: str) -> str:
        """zset: message id by due time (delay and retry)"""
        return self._key(f"z:{escape(name)}")

    def bodies(self, name: str) -> str:
        """hash: packed envelope by message id, for what lies in `delayed`"""
        return self._key(f"b:{escape(name)}")

    def meta(self, name: str) -> str:
        """hash: state, limits, counters, the queue's own hash tag"""
        return self._key(f"m:{escape(name)}")

    def crashes(self, name: str) -> str:
        """hash: how often a message took its process down with it, by message id; made by the first crash"""
        return self._key(f"c:{escape(name)}")

    def purges(self, name: str) -> str:
        """hash PX: purge id by what went when; `upto`, and the entries acknowledged since"""
        return self._key(f"t:{escape(name)}")

    def trash(self, name: str, purge_id: str, kind: str) -> str:
        """renamed key of this kind (`q d z b c`) PX, until the purge can no longer be undone"""
        return self._key(f"t:{escape(name)}:{purge_id}:{kind}")

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
        return self._key(f"u:{escape(name)}:{digest}")

    def producer(self, producer: str) -> str:
        """string PX: last flush of a producer, with its result"""
        return self._key(f"p:{producer}")

    def inbox(self, client: str) -> str:
        """stream PX: replies to one client, and what it has not read of them"""
        return self._key(f"r:{escape(client)}")

    def worker(self, worker: str) -> str:
        """hash PX: heartbeat, display only"""
        return self._key(f"w:{worker}")
