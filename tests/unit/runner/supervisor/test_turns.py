"""The loop of the parent."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from leanmq_topology.runner.supervisor.turns import Turns

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals need the main thread"
)


@pytest.fixture
def turns() -> Iterator[Turns]:
    with Turns() as made:
        yield made


def test_timers_fire_in_their_order_and_one_that_was_called_off_does_not(turns: Turns):
    fired: list[str] = []
    turns.after(0.02, lambda: fired.append("second"))
    turns.after(0.01, lambda: fired.append("first"))
    turns.after(0.0, lambda: fired.append("never")).cancel()
    while len(fired) < 2:
        turns.turn()
    assert fired == ["first", "second"]


def test_a_signal_is_handled_in_a_turn_and_twice_in_a_moment_is_once(turns: Turns):
    heard: list[int] = []
    turns.obey([signal.SIGUSR1], heard.append, once_seconds=0.5)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == []
    again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    again.start()
    turns.turn()
    again.join()
    assert heard == [signal.SIGUSR1]
    os.kill(os.getpid(), signal.SIGUSR1)
    turns.turn()
    assert heard == [signal.SIGUSR1] * 2


def test_handlers_of_signals_are_put_back():
    before = signal.getsignal(signal.SIGUSR1)
    with Turns() as turns:
        turns.obey([signal.SIGUSR1], lambda number: None)
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before


def test_what_was_forgotten_in_a_turn_is_not_called_in_it_even_if_its_number_is_reused(turns: Turns):
    called: list[str] = []
    first, other = socket.socketpair()
    second, another = socket.socketpair()
    fresh: list[socket.socket] = []

    def replace(me: socket.socket, him: socket.socket, name: str) -> None:
        called.append(name)
        turns.forget(me)
        turns.forget(him)
        number = him.fileno()
        him.close()
        fresh.extend(socket.socketpair())
        fresh.append(fresh[0].dup())
        assert number in {end.fileno() for end in fresh}
        reused = next(end for end in fresh if end.fileno() == number)
        turns.watch(reused, lambda: called.append("reused"))

    turns.watch(first, lambda: replace(first, second, "first"))
    turns.watch(second, lambda: replace(second, first, "second"))
    other.send(b"x")
    another.send(b"x")
    turns.turn()
    for end in (first, second, other, another, *fresh):
        end.close()
    assert len(called) == 1
