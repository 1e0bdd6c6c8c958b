"""A process forks while threads of it use a blocking client."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import Flush, Stored
from leanmq_topology.client.confirmed_threads import SyncConfirmer
from leanmq_topology.client.patience import PATIENT
from leanmq_topology.client.shared_line import SharedLine
from leanmq_topology.messages.envelope import Envelope, Outgoing
from leanmq_topology.topology.durability import Durability
from tests.support.processes import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),  # Python 3.12 and later
]

DISK = Durability(disk=True)


class Line:
    """A connection whose answers the parent waits for, and its child does not."""

    connection_id = 0

    def __init__(self) -> None:
        self.asked, self.answers, self._parent = threading.Event(), threading.Event(), os.getpid()

    def execute(self, operation: Any, within_s: float | None = None) -> Any:
        if os.getpid() == self._parent:
            self.asked.set()
            self.answers.wait(PATIENCE_SECONDS)
        return operation

    def close(self) -> None:
        pass


class Levels:
    """Any level will do, and every flush is its own answer."""

    def make_sender(self, level: Durability) -> Levels:
        return self

    def send(self, flush: Flush) -> Any:
        return [Stored(outgoing.envelope.id, 1) for outgoing in flush.sends]


def is_done_in_a_child(line: Line, use: Callable[[], object]) -> bool:
    """Whether a child can do what a thread of its parent is in the middle of."""
    thread = threading.Thread(target=use)
    thread.start()
    assert line.asked.wait(PATIENCE_SECONDS)
    child = os.fork()
    if child == 0:
        trying = threading.Thread(target=use, daemon=True)
        trying.start()
        trying.join(3)
        os._exit(int(trying.is_alive()))
    status = os.waitpid(child, 0)[1]
    line.answers.set()
    thread.join()
    return status == 0


def test_a_shared_line_is_free_in_a_forked_child():
    line = Line()
    shared = SharedLine(line, PATIENT)
    assert is_done_in_a_child(line, lambda: shared.execute_once("ask"))  # type: ignore[arg-type]


def test_durable_sends_are_free_in_a_forked_child():
    line = Line()
    confirmer = SyncConfirmer(Levels(), lambda: line)  # type: ignore[arg-type]
    sends = [Outgoing("q", "", ("q",), Envelope("m", "t", b"{}", {}))]
    assert is_done_in_a_child(line, lambda: confirmer.submit(sends, DISK))
    assert confirmer.submit(sends, DISK) == [Stored("m", 1)]
