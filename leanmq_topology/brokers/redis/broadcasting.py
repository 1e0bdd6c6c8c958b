"""Ephemeral channels, as values, and what their messages look like on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from leanmq_topology.brokers.protocol import Heard, Publication, Stale
from leanmq_topology.brokers.redis.calls import Call, load_script
from leanmq_topology.brokers.redis.keys import Keys, unescape
from leanmq_topology.brokers.redis.record import address_field

MOST_PUBLISHED: Final = 1000
MESSAGE_KINDS: Final = frozenset({b"message", b"pmessage"})


def publish(keys: Keys, publications: Sequence[Publication]) -> Call[list[int | Stale]]:
    """One script, so that no message is published under rules that are not applied any more."""
    if not 1 <= len(publications) <= MOST_PUBLISHED:
        raise ValueError(f"one call publishes 1 to {MOST_PUBLISHED} messages, not {len(publications)}")
    words: list[str | bytes] = []
    for one in publications:
        words += (address_field(one.channel), one.digest, keys.channel(one.channel), one.payload)

    def read(reply: Any) -> list[int | Stale]:
        return [
            found if isinstance(found, int) else Stale(one.channel, found.decode() or None)
            for one, found in zip(publications, reply, strict=True)
        ]

    return Call("publish", load_script("publish"), (keys.topology,), tuple(words), read)


def listen(keys: Keys, name: str) -> Call[None]:
    command = "PSUBSCRIBE" if is_pattern(name) else "SUBSCRIBE"
    return Call("listen", command, (), (keys.channel(name),), lambda reply: None)


def stop_listening(keys: Keys, name: str) -> Call[None]:
    command = "PUNSUBSCRIBE" if is_pattern(name) else "UNSUBSCRIBE"
    return Call("stop_listening", command, (), (keys.channel(name),), lambda reply: None)


def listen_for_upkeep(keys: Keys) -> Call[None]:
    """The channel of `lua/shared/doorbell.lua` and `look_call.lua`."""
    return Call("listen_for_upkeep", "SUBSCRIBE", (), (keys.due,), lambda reply: None)


def ring_for_nothing(keys: Keys) -> Call[None]:
    """Who hears it passes over what is no time."""
    return Call("ring_for_nothing", "PUBLISH", (), (keys.due, ""), lambda reply: None)


def check_line() -> Call[None]:
    return Call("check_line", "PING", (), (), lambda reply: None)


def is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def is_message(reply: Any) -> bool:
    """Whether this came because somebody published, not because we asked."""
    return isinstance(reply, list) and bool(reply) and reply[0] in MESSAGE_KINDS


def read_message(reply: Any) -> Heard:
    *pattern, channel, payload = reply[1:]
    return Heard(read_name(channel), read_name(pattern[0]) if pattern else None, payload)


def read_name(channel: bytes) -> str:
    """`{ns}:e:news` -> `news`."""
    return unescape(channel.decode(errors="replace").split(":e:", 1)[-1])
