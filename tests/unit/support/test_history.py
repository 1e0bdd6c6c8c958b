"""A history must survive its writer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.history import Fault, History, Kind, Outcome, read_histories


def test_records_of_all_processes_are_read_back_in_order_of_time(tmp_path: Path):
    with History(tmp_path, "p") as producer, History(tmp_path, "w") as worker:
        producer.invoke("a", "one", "two")
        worker.start("a", "one", attempt=2, redelivered=True)
        producer.settle(Kind.OK, "a", "one", "two")
        worker.end("a", "one", Outcome.DONE, attempt=2)
        producer.fault(Fault.PAUSED, at=1.0, until=2.0, worker="w")
    found = read_histories(tmp_path)
    assert [(record.kind, record.queue, record.worker) for record in found] == [
        (Kind.FAULT, "", "w"),
        (Kind.INVOKE, "one", "p"),
        (Kind.INVOKE, "two", "p"),
        (Kind.START, "one", "w"),
        (Kind.OK, "one", "p"),
        (Kind.OK, "two", "p"),
        (Kind.END, "one", "w"),
    ]
    start, end = found[3], found[6]
    assert (start.attempt, start.redelivered, end.note) == (2, True, Outcome.DONE)
    assert 0 < start.at <= end.at
    assert start.wall > 1_600_000_000


def test_what_a_killed_process_wrote_is_there(tmp_path: Path):
    child = os.fork()
    if child == 0:
        History(tmp_path, "w").start("a", "one", attempt=1, redelivered=False)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert [record.key for record in read_histories(tmp_path)] == ["a"]


def test_a_torn_last_line_is_dropped(tmp_path: Path):
    with History(tmp_path, "w") as worker:
        worker.start("a", "one", attempt=1, redelivered=False)
    path = tmp_path / "w.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind":"sta')
    assert [record.key for record in read_histories(tmp_path)] == ["a"]
