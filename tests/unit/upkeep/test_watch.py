"""What somebody who looks at queues makes of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from leanmq_topology.brokers.protocol import Damage, QueueHealth
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


class Told:
    """A queue that keeps what it is told of itself."""

    def __init__(self) -> None:
        self.name, self.queue = "work", Queue(name="work")
        self.held: dict[str, Any] = {}
        self.damage: Damage | None = None
        self.told: list[QueueHealth] = []

    def note_health(self, health: QueueHealth) -> bool:
        self.told.append(health)
        self.damage = health.damage
        return False


def look_at(
    answers: Sequence[QueueHealth], *, odd_before: int | None = None
) -> tuple[Watch, list[QueueHealth]]:
    """Looks that find one after the other; somebody meets something odd before the look of that number."""
    queue: Any = Told()
    finding = iter(answers)
    server: Any = SimpleNamespace(
        survey=lambda part, consumer: "survey", execute=lambda operation: [next(finding)]
    )
    watch = Watch(server, "me", [queue], lambda: None)
    for number in range(len(answers)):
        if number == odd_before:
            watch.look_soon()
        carry_out(watch.look(), server)
    return watch, queue.told


def test_a_look_that_finds_what_the_last_one_found_troubles_no_queue():
    still, busy = QueueHealth("work"), QueueHealth("work", pending=1)

    assert look_at([still, still, busy, busy, still])[1] == [still, busy, still]


def test_a_queue_hears_again_that_it_is_well_after_somebody_met_something_odd():
    still = QueueHealth("work")

    assert look_at([still, still, still], odd_before=2)[1] == [still, still]


def test_harm_suspicion_a_pause_and_what_was_handed_back_are_told_at_every_look():
    for health in (
        QueueHealth("work", Damage.MISSING),
        QueueHealth("work", pending=1, free=1, suspects=1),
        QueueHealth("work", pending=1, free=1),
        QueueHealth("work", paused=True),
    ):
        assert look_at([health, health])[1] == [health, health]


def test_what_was_handed_back_again_is_free_again_though_the_look_finds_the_same():
    handed_back = QueueHealth("work", pending=1, free=1)
    server: Any = SimpleNamespace(
        survey=lambda part, consumer: "survey", execute=lambda operation: [handed_back]
    )
    queue: Any = Told()
    watch = Watch(server, "me", [queue], lambda: None)
    carry_out(watch.look(), server)
    watch.free.discard("work")  # as who claims it does
    carry_out(watch.look(), server)
    assert watch.free == {"work"}


def test_a_watch_is_quiet_while_all_is_whole_and_nobody_holds_anything():
    still, busy = QueueHealth("work"), QueueHealth("work", pending=1)

    assert look_at([still])[0].quiet
    assert look_at([busy, still, still])[0].quiet
    assert not look_at([still, busy, busy])[0].quiet
    assert not look_at([QueueHealth("work", Damage.MISSING)])[0].quiet
