"""Upkeep while there is always more to do: others get their turn at the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import Upkeep
from leanmq_topology.runner import upkeep as upkeep_module
from leanmq_topology.runner.pulse import BEAT_SECONDS, Pulse
from leanmq_topology.runner.upkeep import Maintenance
from leanmq_topology.topology.model import Queue
from leanmq_topology.upkeep import promotion as promotion_module
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.promotion import WORK_SECONDS
from leanmq_topology.upkeep.watch import LOOK_SECONDS, REST_SECONDS

ROUND_SECONDS = 0.004
ROUNDS = 9
QUEUES = ("first", "second", "third")


class Backlog:
    """A server that has something due whenever it is asked, and takes a while to move a part of it."""

    repair_clock = None

    def __init__(self) -> None:
        self.seconds = 100.0
        self.moved_at: list[float] = []

    def monotonic(self) -> float:
        return self.seconds

    def maintain(self, queues: Any, consumer: str) -> str:
        return "maintain"

    async def execute(self, operation: str) -> Upkeep:
        return self._move(operation)

    def begin_all(self, begun: Iterable[tuple[str, Callable[[Upkeep], None]]]) -> None:
        for operation, told in begun:
            told(self._move(operation))

    def _move(self, operation: str) -> Upkeep:
        assert operation == "maintain"
        self.moved_at.append(self.seconds)
        self.seconds += ROUND_SECONDS
        return Upkeep(generation=1, promoted=100, next_due_ms=0, now_ms=1, epoch="e", waiting=("work",))


async def test_work_without_end_takes_turns_with_rest(monkeypatch: pytest.MonkeyPatch):
    server: Any = Backlog()
    watch: Any = SimpleNamespace(
        due=False, free=set(), paused=[], topology_gone=False, note_topology=lambda *, gone: None
    )

    async def nothing() -> None: ...

    seen = await server.execute("maintain")
    clock, outage = ServerClock(monotonic=server.monotonic), Outage()
    maintenance = Maintenance(
        server, server, "me", [], clock, outage, watch, seen, nothing, nothing, room_again=lambda: None
    )

    async def rest(seconds: float) -> None:
        server.seconds += seconds
        if len(server.moved_at) > ROUNDS:
            maintenance.stop()

    monkeypatch.setattr(promotion_module, "time", server)
    monkeypatch.setattr(maintenance, "_sleep", rest)
    await maintenance.run()
    gaps = [after - before for before, after in zip(server.moved_at, server.moved_at[1:], strict=False)]
    rests = [round(gap - ROUND_SECONDS, 6) for gap in gaps[1:]]
    assert set(rests) == {0.0, WORK_SECONDS}
    assert rests.count(WORK_SECONDS) >= 2


async def test_queues_that_share_their_room_take_turns_with_what_they_take_over(
    monkeypatch: pytest.MonkeyPatch,
):
    """As in a process that runs suspects, one at a time, of whichever queue."""
    room, taken = 1, []

    class Lane(SimpleNamespace):
        @property
        def room(self) -> int:
            return room

        def owe(self) -> None:
            self.owed = True

    lanes: list[Any] = [
        Lane(name=name, readable=True, owed=False, damage=None, queue=Queue(name=name)) for name in ("a", "b")
    ]
    watch: Any = SimpleNamespace(free=set(), is_wanted=lambda lane: True)
    seen = Upkeep(generation=1, promoted=0, next_due_ms=None, now_ms=1)
    server: Any = Backlog()

    async def nothing() -> None: ...

    maintenance = Maintenance(
        server, server, "me", lanes, ServerClock(), Outage(), watch, seen, nothing, nothing, lambda: None
    )

    async def take(lane: Any, scan: Any) -> None:
        nonlocal room
        taken.append(lane.name)
        room -= 1

    monkeypatch.setattr(maintenance, "_claim_some", take)
    for _ in range(4):
        room = 1
        for scan in maintenance._scans.values():
            scan.due_at = 0.0
        await maintenance._claim_all()
    assert sorted(taken[:2]) == ["a", "b"]
    assert taken[2:] == taken[:2]


def test_a_worker_that_dies_again_and_again_does_not_always_begin_with_the_same_queue():
    """What is behind a queue full of poison would have to wait until all of it is dead-lettered."""
    nothing: Any = Backlog()
    lanes: Any = [SimpleNamespace(name=name, damage=None) for name in QUEUES]
    seen = Upkeep(generation=1, promoted=0, next_due_ms=None, now_ms=1, epoch="e", waiting=())

    def begin() -> str:
        maintenance = Maintenance(
            nothing, nothing, "me", lanes, ServerClock(), Outage(), nothing, seen, nothing, nothing, nothing
        )
        return next(iter(maintenance._scans))

    assert {begin() for _ in range(100)} == set(QUEUES)


@pytest.mark.parametrize(
    ("since_the_beat", "since_the_look", "longest", "rest"),
    [
        (0.0, 0.0, REST_SECONDS, 5 * BEAT_SECONDS),
        (0.3, 0.3, REST_SECONDS, 5 * BEAT_SECONDS - 0.3),
        (0.1, 0.4, REST_SECONDS, 4 * BEAT_SECONDS - 0.1),  # the fifth beat is too late for the next look
        (BEAT_SECONDS - 0.1, 0.0, 1.0, 0.75),  # at the next beat none would be due, and the one after is late
    ],
)
def test_a_rest_ends_with_a_beat_by_which_a_look_is_due(
    monkeypatch: pytest.MonkeyPatch, since_the_beat: float, since_the_look: float, longest: float, rest: float
):
    nothing: Any = Backlog()
    watch: Any = SimpleNamespace(
        due_in_seconds=LOOK_SECONDS - since_the_look, rest_seconds=longest - since_the_look
    )
    seen = Upkeep(generation=1, promoted=0, next_due_ms=None, now_ms=1, epoch="e", waiting=())
    maintenance = Maintenance(
        nothing, nothing, "me", [], ServerClock(), Outage(), watch, seen, nothing, nothing, nothing,
        pulse=Pulse(100.0),
    )  # fmt: skip
    nothing.seconds = 100.0 + 7 * BEAT_SECONDS + since_the_beat
    monkeypatch.setattr(upkeep_module, "time", nothing)

    assert maintenance._quiet_rest() == pytest.approx(rest)
