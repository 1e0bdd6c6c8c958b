"""Ids are shaped like UUID version 7, rise strictly, and never repeat."""

from __future__ import annotations

import uuid
from itertools import pairwise

from leanmq_topology.messages.ids import MessageIds


class Hand:
    """A clock that is moved by hand."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def make_ids(clock: Hand, draws: list[bytes] | None = None) -> MessageIds:
    drawn = iter(draws or [b"\x01\x02\x03\x04\x05\x06"])
    return MessageIds(clock, lambda size: next(drawn)[:size])


def test_an_id_is_a_valid_version_7_uuid_that_holds_its_time():
    made = uuid.UUID(make_ids(Hand(1_795_325_938_185)).next())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_795_325_938_185


def test_ids_rise_within_a_millisecond_and_past_the_fourteen_bits_of_its_last_group():
    ids = make_ids(Hand(5))
    made = [ids.next() for _ in range(40_000)]
    assert all(one < other for one, other in pairwise(made))


def test_ids_rise_when_the_clock_steps_back():
    clock = Hand(1000)
    ids = make_ids(clock)
    before = ids.next()
    clock.now_ms = 10
    assert ids.next() > before


def test_a_full_counter_goes_on_in_the_next_millisecond(monkeypatch):
    monkeypatch.setattr("leanmq_topology.messages.ids._COUNTER_END", 3)
    ids = make_ids(Hand(7))
    made = [ids.next() for _ in range(7)]
    assert sorted(set(made)) == made
    assert uuid.UUID(made[-1]).int >> 80 == 9


def test_renewing_changes_the_part_that_belongs_to_the_process():
    ids = make_ids(Hand(1), [b"aaaaaa", b"bbbbbb"])
    before = ids.next()
    ids.renew()
    assert before[-12:] == b"aaaaaa".hex()
    assert ids.next()[-12:] == b"bbbbbb".hex()


def test_ids_taken_at_once_are_those_taken_one_by_one(monkeypatch):
    monkeypatch.setattr("leanmq_topology.messages.ids._COUNTER_END", 3)
    one_by_one = make_ids(Hand(7))
    assert make_ids(Hand(7)).take(8) == [one_by_one.next() for _ in range(8)]
