"""Marks of started messages, as the supervisor reads them after a death."""

from __future__ import annotations

import os
import warnings

import pytest

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner import marks
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.marks import Board, Marks, Started

QUEUES = ("billing", "emails")


def incoming(entry_id: str, queue: str = "billing") -> Incoming:
    return Incoming(Delivered(queue, entry_id, Envelope("m", "t", b"{}")), lease_ends=0.0)


@pytest.fixture
def board() -> Board:
    return Board()


def test_what_has_started_is_marked_until_it_is_settled(board: Board):
    mine = Marks(board, QUEUES)
    first, second = incoming("1-0"), incoming("2-0", "emails")
    mine.start(first)
    mine.start(second)
    assert board.started(QUEUES) == [Started("billing", "1-0"), Started("emails", "2-0")]
    mine.settle([first])
    assert board.started(QUEUES) == [Started("emails", "2-0")]


def test_what_never_started_leaves_no_mark_and_counts_when_it_is_settled(board: Board):
    Marks(board, QUEUES).settle([incoming("1-0")])
    assert board.started(QUEUES) == []
    assert board.settled == 1


def test_the_longest_id_there_can_be_fits(board: Board):
    longest = f"{2**64 - 1}-{2**64 - 1}"
    Marks(board, QUEUES).start(incoming(longest))
    assert board.started(QUEUES) == [Started("billing", longest)]


def test_a_place_is_used_again_and_holds_nothing_of_what_was_there(board: Board):
    mine = Marks(board, QUEUES)
    for number in range(3 * marks.SLOTS):
        message = incoming(f"{10**15 + number}-0")
        mine.start(message)
        mine.settle([message])
    mine.start(incoming("1-0"))
    assert board.started(QUEUES) == [Started("billing", "1-0")]
    assert board.settled == 3 * marks.SLOTS
    assert not board.overflowed


def test_more_than_can_be_marked_is_said(board: Board):
    mine = Marks(board, QUEUES)
    for number in range(marks.SLOTS):
        mine.start(incoming(f"{number}-0"))
    assert not board.overflowed
    over = incoming("9-9")
    mine.start(over)
    assert board.overflowed
    mine.settle([over])
    assert len(board.started(QUEUES)) == marks.SLOTS


def test_a_mark_outlives_the_process_that_made_it(board: Board):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since 3.12: the test runner has threads
        pid = os.fork()
    if pid == 0:
        Marks(board, QUEUES).start(incoming("1-0"))
        board.beat()
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.started(QUEUES) == [Started("billing", "1-0")]
    assert board.beaten_at > 0
