"""`leanmq run` and `leanmq status` as processes of their own, with real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.project import PATIENCE_SECONDS, Project, Run, leanmq_command, running, write_orders
from tests.support.servers import Server

QUEUES = {
    "orders": "max_deliveries: 3, visibility_timeout: 1s, retry: {delay: 50ms, jitter: none}",
    "spare": "",
}
TAKING = {
    "take": 'queue: orders, call: "orders:take", concurrency: 2, prefetch: 4',
    "other": 'queue: spare, call: "orders:other"',
}

HANDLERS = r"""
import os

def say(word, data, message):
    os.write(1, f"{word} {data['n']} {message.attempt} {os.getpid()}\n".encode())  # whole lines only

def take(data, message):
    say("start", data, message)
    if data.get("do") == "fail":
        raise ValueError(f"cannot do {data['n']}")
    if data.get("do") == "wait":
        os.read(0, 1)
    say("done", data, message)

def other(data): ...
"""


PRINTING = """
import sys

def take(data, message):
    print("handled", data["n"], "of", message.queue, file=sys.{stream})

def other(data): ...
"""


@pytest.fixture
def project(valkey: Server, namespace: str, tmp_path: Path) -> Project:
    return write_orders(tmp_path, valkey.url, namespace, HANDLERS, queues=QUEUES, handlers=TAKING)


@pytest.fixture
def run(project: Project) -> Iterator[Callable[..., Run]]:
    project.here("apply")
    with running(project) as start:
        yield start


def test_a_message_that_is_sent_is_handled_in_another_process(project: Project, run: Callable[..., Run]):
    worker = run()
    project.send(1)
    assert worker.line("done").split()[:3] == ["done", "1", "1"]
    state = project.until(lambda queue: queue["acked"] == 1)
    assert (state["ready"], state["in_flight"], state["dead"]) == (0, 0, 0)


def test_a_failing_message_is_retried_and_ends_dead_and_the_log_tells_why(
    project: Project, run: Callable[..., Run]
):
    worker = run()
    project.send(7, do="fail")
    first, second = worker.line("retry"), worker.line("retry")
    assert "attempt 1 of 3, again in 0.05 s: ValueError: cannot do 7 (orders.py:" in first
    assert "attempt 2 of 3, again in 0.1 s" in second
    assert "dead-lettered: failed, attempt 3 of 3: ValueError: cannot do 7" in worker.line("dead-lettered")
    assert "Traceback" not in "\n".join(worker.seen)
    letters = json.loads(project.leanmq("dlq", "list", "-o", "json").stdout)["messages"]
    assert [(found["reason"], found["attempts"], found["data"]["n"]) for found in letters] == [
        ("failed", 3, 7)
    ]
    text = project.leanmq("status").stdout
    assert "1!" in text
    assert "leanmq dlq list" in text


def test_the_start_says_which_handler_handles_which_queue(project: Project, run: Callable[..., Run]):
    worker = run()
    said = "\n".join(worker.seen)
    assert "take  handles orders, 2 at a time, in threads" in said
    assert "other handles spare" in said


def test_a_running_worker_is_listed_by_status(project: Project, run: Callable[..., Run]):
    worker = run("--only", "take")
    [listed] = project.status()["workers"]
    assert (listed["pid"], listed["handlers"], listed["queues"]) == (worker.child, ["take"], ["orders"])
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert project.status()["workers"] == []


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_handler_prints_leaves_at_once_and_in_whole_lines(
    project: Project, stream: str, unbuffered: str
):
    (project.folder / "orders.py").write_text(PRINTING.format(stream=stream))
    project.leanmq("apply")
    project.send(1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # each write arrives by itself
    ours.settimeout(PATIENCE_SECONDS)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: theirs}
    process = subprocess.Popen(
        leanmq_command("run"),
        cwd=project.folder,
        env={**project.environ, "PYTHONUNBUFFERED": unbuffered},
        process_group=0,
        **streams,
    )
    theirs.close()
    with ours:
        try:
            while not (written := ours.recv(65536)).startswith(b"handled"):
                pass
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert written == b"handled 1 of orders\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_drains(project: Project, run: Callable[..., Run], number: int):
    worker = run()
    for n in range(1, 4):
        project.send(n, do="wait")
    worker.line("start")
    worker.line("start")
    project.until(lambda queue: queue["in_flight"] == 3)
    worker.signal(number)
    worker.line("draining: 2 running, 1 handed back")
    worker.let_go()
    worker.let_go()
    assert worker.ended() == 0
    assert sum(line.startswith("done") for line in worker.seen) == 2
    assert "stopped: 2 handled" in worker.seen[-1]
    state = project.until(lambda queue: queue["acked"] == 2)
    assert state["ready"] + state["in_flight"] == 1
    assert run().line("start").split()[1:3] == ["3", "1"]  # nobody had started it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_at_once(project: Project, run: Callable[..., Run], number: int):
    worker = run()
    project.send(1, do="wait")
    worker.line("start")
    worker.signal(number)
    worker.line("stopping")
    worker.signal(number)
    assert worker.ended() == 128 + number


def test_a_drain_that_takes_too_long_says_so_in_its_exit_code(project: Project, run: Callable[..., Run]):
    worker = run("--drain", "50ms")
    project.send(1, do="wait")
    worker.line("start")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 128 + signal.SIGTERM
    second = run()
    assert second.line("start").split()[1:3] == ["1", "2"]  # due at once, its run counted


def test_what_a_killed_worker_was_running_is_run_by_another(project: Project, run: Callable[..., Run]):
    first = run()
    project.send(1, do="wait")
    first.line("start")
    second = run()
    killed_at = time.monotonic()
    first.vanish()
    assert second.line("start").split()[1:3] == ["1", "2"]
    assert time.monotonic() - killed_at < 15  # a lease of 1 s, a scan, and a busy machine
    second.let_go()
    second.line("done")


def test_json_logs_are_one_object_a_line_and_hold_no_payload(project: Project, run: Callable[..., Run]):
    worker = run("--log-format", "json")
    project.send(4242, do="fail")
    failed = json.loads(worker.line("dead-lettered"))
    assert failed["event"] == "dead-lettered"
    assert (failed["queue"], failed["handler"], failed["attempt"]) == ("orders", "take", 3)
    assert (failed["reason"], failed["error"]) == ("failed", "ValueError")
    assert '"n"' not in json.dumps(failed)


def test_run_apply_makes_the_queues_first(project: Project):
    worker = Run(project, "--apply")
    try:
        worker.line("ready")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    finally:
        worker.close()
    assert project.status()["generation"] == 1


# -- what run refuses ------------------------------------------------------------------------------------


def test_a_topology_that_was_never_applied_exits_4_and_says_what_to_do(project: Project):
    done = project.leanmq("run", expect=4)
    assert "leanmq apply" in done.stderr


def test_a_file_that_differs_from_what_is_applied_is_mentioned_once(
    project: Project, run: Callable[..., Run]
):
    changed = (project.folder / "topology.yaml").read_text().replace("max_deliveries: 3", "max_deliveries: 9")
    (project.folder / "topology.yaml").write_text(changed)
    worker = run()
    assert sum("differs" in line for line in worker.seen) == 1
    assert "queues.orders" in "\n".join(worker.seen)


def test_all_broken_handlers_are_reported_at_once_with_file_and_line(project: Project):
    (project.folder / "orders.py").write_text("import nowhere_to_be_found\n")
    done = project.leanmq("run", expect=3)
    assert done.stderr.count("LMQ314") == 2
    assert "orders.py:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_handler_is_answered_with_the_closest(project: Project):
    done = project.leanmq("run", "--only", "tkae", expect=64)
    assert "did you mean 'take'?" in done.stderr


def test_a_drain_without_a_unit_is_refused(project: Project):
    assert "unit" in project.leanmq("run", "--drain", "25", expect=64).stderr


def test_a_server_that_is_not_there_exits_5(project: Project):
    done = project.leanmq("run", "--url", f"unix://{project.folder}/nothing", expect=5)
    assert "Traceback" not in done.stderr


def test_the_status_of_a_namespace_that_was_never_applied_exits_4(project: Project):
    project.leanmq("status", expect=4)
