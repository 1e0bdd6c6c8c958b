"""Every step of delivery as a value: what has to be there before it, and the call. For tests that break it.

Whoever adds a script that moves or settles messages adds it to `STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leanmq_topology.brokers.protocol import Dying, Reply, Retrying, Revival
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.keys import GROUP
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import FanoutRoute, Queue, Target
from tests.support.processes import wait_until
from tests.support.stage import Stage

FAILURE = Failure("ValueError", "no")
QUEUES = (Queue(name="work"), Queue(name="more"))
ROUTE = FanoutRoute(name="both", to=(Target(queue="work"), Target(queue="more")))

Step = Callable[[Stage], Call[Any]]


def held(stage: Stage, *ids: str) -> list[Any]:
    stage.send("work", *ids)
    return stage.fetch("work")


def flush(stage: Stage, *ids: str, **options: Any) -> Call[Any]:
    sends = [stage.outgoing("work", message_id, **options) for message_id in ids]
    return stage.broker.send(stage.flush(*sends))


def send(stage: Stage) -> Call[Any]:
    return flush(stage, "a", "b", "c")


def send_the_long_way(stage: Stage) -> Call[Any]:
    return flush(stage, "a", "b", "c", plain=False)


def send_delayed(stage: Stage) -> Call[Any]:
    return flush(stage, "a", "b", delay_ms=60_000)


def publish(stage: Stage) -> Call[Any]:
    copies = stage.outgoing("both", "a", "work", "more")
    return stage.broker.send(stage.flush(copies))


def ack(stage: Stage) -> Call[Any]:
    entries = [one.entry_id for one in held(stage, "a", "b", "c")]
    return stage.broker.ack("work", entries)


def ack_with_outputs(stage: Stage) -> Call[Any]:
    [delivered] = held(stage, "a")
    outputs = stage.flush(stage.outgoing("more", "b"), stage.outgoing("both", "c", "work", "more"))
    return stage.broker.ack_with_outputs("me", delivered, outputs)


def ack_with_reply(stage: Stage) -> Call[Any]:
    [delivered] = held(stage, "a")
    stage.carry(stage.broker.open_inbox("client", lifetime_ms=60_000))
    outputs = stage.flush(stage.outgoing("more", "b"))
    answer = Reply("client", "a", "t", b"{}")
    return stage.broker.ack_with_outputs("me", delivered, outputs, answer)


def reply_only(stage: Stage) -> Call[Any]:
    """Nothing is sent, so the marker is all that tells a repeated call."""
    [delivered] = held(stage, "a")
    stage.carry(stage.broker.open_inbox("client", lifetime_ms=60_000))
    return stage.broker.ack_with_outputs("me", delivered, stage.flush(), Reply("client", "a", "t", b"{}"))


def retry(stage: Stage) -> Call[Any]:
    items = [Retrying(one, 60_000) for one in held(stage, "a", "b")]
    return stage.broker.retry("work", "me", items)


def dead_letter(stage: Stage) -> Call[Any]:
    items = [Dying(one, DeadReason.FAILED, FAILURE) for one in held(stage, "a", "b")]
    return stage.broker.dead_letter("work", "me", items)


def discard(stage: Stage) -> Call[Any]:
    items = held(stage, "a", "b")
    return stage.broker.discard("work", "me", items)


def release(stage: Stage) -> Call[Any]:
    items = held(stage, "a", "b")
    return stage.broker.release("work", "me", items)


def release_held(stage: Stage) -> Call[Any]:
    first, *_ = held(stage, "a", "b", "c")
    return stage.broker.release_held("work", "me", started=[first.entry_id])


def claim(stage: Stage) -> Call[Any]:
    stage.lapse("work", *held(stage, "a", "b"))
    return stage.broker.claim(QUEUES[0], "other", cursor="0-0", count=10)


def promote(stage: Stage) -> Call[Any]:
    stage.send("work", "a", "b", delay_ms=60_000)
    stage.make_due("work")
    return stage.broker.maintain(["work", "more"])


def crash(stage: Stage) -> Call[Any]:
    items = held(stage, "a", "b")
    return stage.broker.crash("work", "me", items)


def sweep(stage: Stage) -> Call[Any]:
    stage.send("work", "a", "b", ttl_ms=1)
    stored_at = stage.server_ms()
    wait_until(lambda: stage.server_ms() > stored_at + 1, "the end of two short lives")
    return stage.broker.sweep(["work"])


def rescue(stage: Stage) -> Call[Any]:
    """Two messages are handed out and held by nobody."""
    for one in held(stage, "a", "b"):
        stage.raw("XACK", stage.keys.queue("work"), GROUP, one.entry_id)
    return stage.broker.rescue("work")


def rescue_delayed(stage: Stage) -> Call[Any]:
    stage.send("work", "a", "b", delay_ms=60_000)
    stage.raw("DEL", stage.keys.delayed("work"), stage.keys.due)
    return stage.broker.rescue_delayed("work")


def rescue_group(stage: Stage) -> Call[Any]:
    held(stage, "a", "b")
    stage.raw("XGROUP", "DESTROY", stage.keys.queue("work"), GROUP)
    return stage.broker.rescue_group("work")


def replay(stage: Stage) -> Call[Any]:
    return stage.broker.replay("work", [Revival(entry, {}) for entry in dead(stage, "a", "b")])


def discard_dead_letters(stage: Stage) -> Call[Any]:
    return stage.broker.discard_dead_letters("work", dead(stage, "a", "b"))


def dead(stage: Stage, *ids: str) -> list[str]:
    """Entry ids of dead letters."""
    dying = [Dying(one, DeadReason.FAILED, FAILURE) for one in held(stage, *ids)]
    stage.carry(stage.broker.dead_letter("work", "me", dying))
    letters = stage.carry(stage.broker.read_dead_letters("work", after="", count=10))
    return [letter.entry_id for letter in letters]


def purge(stage: Stage) -> Call[Any]:
    held(stage, "a", "b")
    stage.send("work", "c")
    stage.send("work", "d", delay_ms=60_000)
    return stage.broker.purge("work", "one", keep_ms=60_000)


def undo_purge(stage: Stage) -> Call[Any]:
    gone = stage.carry(purge(stage))
    return stage.broker.undo_purge(gone, count=100)


def purge_dead_letters(stage: Stage) -> Call[Any]:
    dead(stage, "a", "b")
    return stage.broker.purge_dead_letters("work", "one", keep_ms=60_000)


def bury(stage: Stage) -> Call[Any]:
    entries = [one.entry_id for one in held(stage, "a", "b")]
    return stage.broker.bury("work", entries, FAILURE)


def expire(stage: Stage) -> Call[Any]:
    """One that lives on, and two behind it that are past their time."""
    stage.send("work", "c")
    sweep(stage)
    return stage.broker.expire("work", cursor="")


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (
        *(send, send_the_long_way, send_delayed, publish, promote, sweep),
        *(
            ack,
            ack_with_outputs,
            ack_with_reply,
            reply_only,
            retry,
            dead_letter,
            discard,
            release,
            release_held,
            crash,
        ),
        *(claim, rescue, rescue_delayed, rescue_group),
        *(replay, discard_dead_letters, purge, undo_purge, purge_dead_letters),
        *(bury, expire),
    )
}
