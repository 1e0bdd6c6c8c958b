"""What somebody has to do now and then, as values. Any live worker does it; there is no leader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from leanmq_topology.brokers.protocol import QueueHealth, Stretch, Upkeep
from leanmq_topology.brokers.redis.calls import Call, load_script, pack_words
from leanmq_topology.brokers.redis.keys import GROUP, NOBODY, SUSPECTS, Keys
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.plan.live_state import Damage

MOST_PROMOTED: Final = 100
"""Delayed messages a call moves: 1 to 3.5 ms of the server's time; 1,000 took up to 49."""
MOST_LOOKED_AT: Final = 500
"""Pending entries a stretch looks at: about 1 ms of the server's time."""
FRONT: Final = "0-0"


def maintain(keys: Keys, queues: Sequence[str], worker: str) -> Call[Upkeep]:
    """Move due messages of these queues, and tell which to ask for next time."""
    places = [key for name in queues for key in _places(keys, name)]
    return Call(
        "maintain",
        load_script("maintain"),
        (keys.topology, keys.due, keys.upkeep, *places),
        (GROUP, MOST_PROMOTED, worker, *queues),
        _read_upkeep,
    )


def survey(keys: Keys, queues: Sequence[str], consumer: str) -> Call[list[QueueHealth]]:
    """Are these queues whole, may they be read, does somebody else hold something?

    Packed already, because it is asked again and again.
    """
    call = Call(
        "survey",
        load_script("survey"),
        tuple(key for name in queues for key in (keys.queue(name), keys.meta(name))),
        (GROUP, consumer, NOBODY, SUSPECTS),
        lambda reply: [_read_health(name, row) for name, row in zip(queues, reply, strict=True)],
    )
    return replace(call, packed=pack_words(call.words()))


def take_turns(keys: Keys, queues: Sequence[str], good_for_ms: int) -> Call[list[str]]:
    """Those of these queues that nobody has checked for so long; they are the caller's now."""
    return Call(
        "take_turns",
        load_script("take_turns"),
        (keys.upkeep,),
        (good_for_ms, *queues),
        lambda reply: [name.decode() for name in reply],
    )


def list_filled(keys: Keys, queues: Sequence[str]) -> Call[list[str]]:
    """Those of these queues in which a search may find anything."""
    return Call(
        "list_filled",
        load_script("list_filled"),
        (
            *(key for name in queues for key in (keys.queue(name), keys.delayed(name), keys.bodies(name))),
            *map(keys.meta, queues),
        ),
        tuple(queues),
        lambda reply: [name.decode() for name in reply],
    )


def rescue(keys: Keys, queue: str, cursor: str) -> Call[Stretch]:
    """Make claimable what was handed out and is held by nobody."""

    def read(reply: Any) -> Stretch:
        if reply is None:
            raise TopologyNotAppliedError([f"queues.{queue}"], namespace=keys.namespace)
        return _read_stretch(reply)

    return Call(
        "rescue",
        load_script("rescue"),
        (keys.queue(queue), keys.meta(queue)),
        (GROUP, SUSPECTS, cursor or FRONT, MOST_LOOKED_AT),
        read,
    )


def rescue_delayed(keys: Keys, queue: str, cursor: str) -> Call[Stretch]:
    """Bring delayed messages that no index leads to back into it."""
    return Call(
        "rescue_delayed",
        load_script("rescue_delayed"),
        (keys.due, keys.delayed(queue), keys.bodies(queue), keys.meta(queue)),
        (queue, cursor or "0"),
        _read_stretch,
    )


def rescue_group(keys: Keys, queue: str) -> Call[int | None]:
    """Make the group again; how many messages will be handed out, or None where that was not called for."""
    return Call(
        "rescue_group",
        load_script("rescue_group"),
        (keys.topology, keys.queue(queue), keys.meta(queue), keys.pairs),
        (GROUP, queue),
        lambda reply: None if reply < 0 else reply,
    )


def repair_clock(keys: Keys, queue: str, cursor: str) -> Call[Stretch]:
    """Let leases that seem to begin in the future begin now."""
    return Call(
        "repair_clock",
        load_script("repair_clock"),
        (keys.queue(queue), keys.meta(queue)),
        (GROUP, cursor or FRONT, MOST_LOOKED_AT),
        _read_stretch,
    )


def reap(keys: Keys, queues: Sequence[str], idle_ms: int) -> Call[int]:
    """Remove names that hold nothing and were not heard of for so long."""
    return Call("reap", load_script("reap"), keys.queues_and_records(queues), (GROUP, idle_ms), int)


def _places(keys: Keys, name: str) -> tuple[str, ...]:
    return keys.queue(name), keys.meta(name), keys.dead(name), keys.delayed(name), keys.bodies(name)


def _read_upkeep(reply: Any) -> Upkeep:
    generation, epoch, promoted, next_due_ms, now_ms, names = reply
    return Upkeep(
        generation=generation,
        promoted=promoted,
        next_due_ms=next_due_ms if next_due_ms >= 0 else None,
        now_ms=now_ms,
        epoch=epoch.decode() if epoch else "",
        waiting=tuple(name.decode() for name in names),
    )


def _read_health(name: str, row: Any) -> QueueHealth:
    damage, state, pending, own, free, suspects = row
    found = Damage(damage.decode()) if damage else None
    return QueueHealth(name, found, state == b"paused", pending, own, free + suspects, suspects)


def _read_stretch(reply: Any) -> Stretch:
    cursor, found = reply
    return Stretch("" if cursor in {b"0", b"0-0"} else cursor.decode(), found)
