from __future__ import annotations

from leanmq_topology.upkeep.clocks import ServerClock


class Hands:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_until_the_server_was_asked_it_is_the_local_time():
    assert ServerClock(wall=lambda: 5_000, monotonic=Hands()).now_ms() == 5_000


def test_the_answer_is_taken_as_the_middle_of_the_question():
    hands = Hands()
    clock = ServerClock(wall=lambda: 0, monotonic=hands)
    hands.seconds = 100.2
    clock.adjust(9_000, asked_at=100.0)
    assert clock.now_ms() == 9_100


def test_it_goes_on_between_answers_and_follows_the_server_when_it_jumps():
    hands = Hands()
    clock = ServerClock(wall=lambda: 0, monotonic=hands)
    clock.adjust(1_000_000, asked_at=100.0)
    hands.seconds = 101.5
    assert clock.now_ms() == 1_001_500
    clock.adjust(500_000, asked_at=101.5)
    assert clock.now_ms() == 500_000


def test_a_jump_of_the_local_wall_clock_changes_nothing():
    wall = [1_000]
    clock = ServerClock(wall=lambda: wall[0], monotonic=Hands())
    clock.adjust(70_000, asked_at=100.0)
    wall[0] = 10**12
    assert clock.now_ms() == 70_000
