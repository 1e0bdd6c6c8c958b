"""Taking out what is over, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from leanmq_topology.brokers.protocol import Swept
from leanmq_topology.brokers.redis.calls import Call, load_script
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.messages.codec import encode_failure
from leanmq_topology.messages.outcome import EXPIRED

MOST_SWEPT: Final = 100
"""Expired messages a call takes out: as many as a call promotes, for the same reason."""


def sweep(keys: Keys, queues: Sequence[str]) -> Call[Swept]:
    """What has expired unread, and dead letters and history past their time."""
    places = keys.remember(
        (_places, *queues), lambda: tuple(key for name in queues for key in _places(keys, name))
    )
    return Call(
        "sweep",
        load_script("sweep"),
        (keys.due, *places),
        (GROUP, MOST_SWEPT, encode_failure(EXPIRED), *queues),
        _read_swept,
    )


def _places(keys: Keys, name: str) -> tuple[str, ...]:
    return (
        keys.queue(name),
        keys.meta(name),
        keys.dead(name),
        keys.delayed(name),
        keys.bodies(name),
        keys.crashes(name),
        keys.acked(name),
    )


def _read_swept(reply: Any) -> Swept:
    expired, dead_letters = reply
    return Swept(expired, dead_letters)
