"""What somebody who looks at queues makes of what was found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from leanmq_topology.brokers.protocol import QueueHealth
from leanmq_topology.topology.model import Queue
from leanmq_topology.upkeep.steps import carry_out
from leanmq_topology.upkeep.watch import Watch


def test_what_another_thread_settles_while_what_is_held_is_counted_does_no_harm():
    held: dict[str, Any] = {}

    class Message:
        @property
        def lost(self) -> bool:
            held.pop("2-0", None)  # as a thread that settles does, between two steps of the count
            return False

    held |= {"1-0": Message(), "2-0": Message(), "3-0": Message()}
    shelf: Any = SimpleNamespace(
        name="work", queue=Queue(name="work"), held=held, damage=None, note_health=lambda health: False
    )
    server: Any = SimpleNamespace(
        survey=lambda part, consumer: "survey",
        execute=lambda operation: [QueueHealth("work", pending=3, own=3)],
    )
    watch = Watch(server, "me", [shelf], lambda: None)
    carry_out(watch.look(), server)
    assert not watch.is_wanted(shelf)
    assert list(held) == ["1-0", "3-0"]
