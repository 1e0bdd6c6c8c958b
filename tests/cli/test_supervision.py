"""`leanmq run` as a parent and its worker processes, with real signals: who ends when, who replaces whom."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes import is_alive, wait_until
from tests.support.project import PATIENCE_SECONDS, Project, Run, running, write_orders
from tests.support.promises import require_program
from tests.support.servers import Server

QUEUE = "visibility_timeout: 1s, retry: {delay: 50ms, jitter: none}"
HANDLER = 'queue: orders, call: "orders:take", concurrency: 2, prefetch: 4'

HANDLERS = r"""
import os, signal, subprocess, sys, threading, time

def say(word, data, message):
    os.write(1, f"{word} {data['n']} {message.attempt} {os.getpid()}\n".encode())  # whole lines only

def take(data, message):
    say("start", data, message)
    match data.get("do"):
        case "wait":
            os.read(0, 1)
        case "hang":
            time.sleep(3600)
        case "leave an orphan":
            subprocess.run(["sh", "-c", "(sleep 0.2) & echo orphan; exit 0"])
        case "leave a thread":
            threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
    say("done", data, message)
"""


@pytest.fixture
def project(valkey: Server, namespace: str, tmp_path: Path) -> Project:
    queues, handlers = {"orders": QUEUE}, {"take": HANDLER}
    built = write_orders(tmp_path, valkey.url, namespace, HANDLERS, queues=queues, handlers=handlers)
    built.here("apply")
    return built


@pytest.fixture
def run(project: Project) -> Iterator[Callable[..., Run]]:
    with running(project) as start:
        yield start


def children_of(run: Run) -> set[int]:
    return {child.pid for child in psutil.Process(run.process.pid).children()}


def wait_until_all_gone(pids: set[int]) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), f"the end of {pids}", seconds=PATIENCE_SECONDS)


def workers_listed(project: Project, count: int) -> set[int]:
    """The process ids that `status` lists, once there are so many."""
    found: set[int] = set()

    def listed() -> bool:
        found.clear()
        found.update(worker["pid"] for worker in project.status()["workers"])
        return len(found) == count

    wait_until(listed, f"{count} workers, not {found}", seconds=PATIENCE_SECONDS)
    return found


def test_there_are_as_many_worker_processes_as_asked_for_and_all_end_with_their_parent(
    project: Project, run: Callable[..., Run]
):
    parent = run("--workers", "3")
    pids = workers_listed(project, 3)
    assert pids == children_of(parent)
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0
    wait_until_all_gone(pids)
    assert project.status()["workers"] == []


def test_a_worker_that_is_killed_is_replaced_and_the_death_is_told(project: Project, run: Callable[..., Run]):
    parent = run()
    victim = parent.child
    os.kill(victim, signal.SIGKILL)
    assert f"process {victim}) died: SIGKILL" in parent.line("died")
    parent.line("worker")
    project.send(1)
    assert int(parent.line("done").split()[3]) != victim
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0


def test_a_worker_that_is_told_to_stop_drains_and_is_replaced(project: Project, run: Callable[..., Run]):
    parent = run()
    project.send(1, do="wait")
    parent.line("start")
    first = parent.child
    os.kill(first, signal.SIGTERM)
    parent.line("draining")
    parent.let_go()
    parent.line("done 1 1")
    parent.line("worker")
    wait_until_all_gone({first})
    project.send(2)
    parent.line("done 2 1")


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_still_drains(
    project: Project, run: Callable[..., Run]
):
    parent = run("--workers", "2")
    project.send(1, do="wait")
    parent.line("start")
    os.killpg(parent.process.pid, signal.SIGINT)
    parent.line("stopping")
    parent.let_go()
    parent.line("done 1 1")
    assert parent.ended() == 0


def test_a_parent_that_is_killed_leaves_no_process_behind(project: Project, run: Callable[..., Run]):
    parent = run("--workers", "2")
    pids = workers_listed(project, 2)
    parent.signal(signal.SIGKILL)
    wait_until_all_gone(pids)
    assert project.status()["workers"] == []  # they drained and said goodbye


def test_workers_whose_parent_is_killed_finish_what_they_run(project: Project, run: Callable[..., Run]):
    parent = run()
    pids = children_of(parent)
    project.send(1, do="wait")
    parent.line("start")
    parent.signal(signal.SIGKILL)
    parent.line("draining")
    parent.let_go()
    parent.line("done 1 1")
    wait_until_all_gone(pids)
    assert project.until(lambda queue: queue["acked"] == 1)["in_flight"] == 0


def test_a_handler_that_never_ends_does_not_outlive_the_drain(project: Project, run: Callable[..., Run]):
    parent = run("--drain", "100ms")
    pids = children_of(parent)
    project.send(1, do="hang")
    parent.line("start")
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 128 + signal.SIGTERM
    wait_until_all_gone(pids)


def test_a_thread_that_a_handler_left_behind_does_not_keep_the_process(
    project: Project, run: Callable[..., Run]
):
    parent = run()
    pids = children_of(parent)
    project.send(1, do="leave a thread")
    parent.line("done")
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0
    assert any("a thread was left behind" in line for line in parent.seen)
    wait_until_all_gone(pids)


def test_a_second_signal_ends_every_process_at_once(project: Project, run: Callable[..., Run]):
    parent = run("--workers", "2")
    pids = children_of(parent)
    project.send(1, do="hang")
    parent.line("start")
    parent.signal(signal.SIGTERM)
    parent.line("stopping")
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 128 + signal.SIGTERM
    wait_until_all_gone(pids)


def test_a_worker_that_cannot_be_started_again_is_tried_on_and_the_reason_told(
    project: Project, run: Callable[..., Run]
):
    parent = run()
    good = (project.folder / "orders.py").read_text()
    (project.folder / "orders.py").write_text("def take(:\n")
    os.kill(parent.child, signal.SIGKILL)
    assert "orders.py:1" in parent.line("a worker cannot be started again")
    (project.folder / "orders.py").write_text(good)
    parent.line("worker")
    project.send(1)
    parent.line("done 1 1")


def test_workers_are_listed_with_what_they_do_and_marked_when_they_fall_silent(
    project: Project, run: Callable[..., Run]
):
    parent = run()

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(project.leanmq("workers", "-o", "json").stdout)["workers"]
        return found

    project.send(1, do="wait")
    parent.line("start")
    wait_until(
        lambda: [one["in_flight"] for one in listed()] == [1], "a beat of the heart", seconds=PATIENCE_SECONDS
    )
    [one] = listed()
    assert (one["pid"], one["state"], one["handlers"]) == (parent.child, "running", ["take"])
    assert (one["generation"], one["held"], one["queues"]) == (1, 1, ["orders"])
    assert "take" in project.leanmq("workers").stdout
    os.killpg(parent.process.pid, signal.SIGSTOP)
    wait_until(
        lambda: [one["state"] for one in listed()] in (["silent"], []), "silence", seconds=PATIENCE_SECONDS
    )
    os.killpg(parent.process.pid, signal.SIGCONT)


# -- who looks at it from outside ------------------------------------------------------------------------


def ask(parent: Run, path: str) -> tuple[int, str]:
    """What the probes of `--port` answer."""
    found = next(line for line in parent.seen if "probes and metrics on" in line)
    try:
        with urllib.request.urlopen(f"{found.split()[-1]}{path}", timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_probes_tell_of_a_worker_that_is_stuck_in_a_handler_and_of_a_drain(
    project: Project, run: Callable[..., Run]
):
    parent = run("--port", "127.0.0.1:0")
    wait_until(lambda: ask(parent, "/readyz")[0] == 200, "readiness", seconds=PATIENCE_SECONDS)
    project.send(1, do="wait")
    parent.line("start")
    running = 'leanmq_worker_inflight_messages{handler="take"} 1\n'
    wait_until(lambda: running in ask(parent, "/metrics")[1], "a message in flight", seconds=PATIENCE_SECONDS)
    os.kill(parent.child, signal.SIGSTOP)  # answers do not need the worker
    assert ask(parent, "/livez") == (200, "live\n")
    os.kill(parent.child, signal.SIGCONT)
    parent.signal(signal.SIGTERM)
    parent.line("draining")
    status, body = ask(parent, "/readyz")
    assert (status, json.loads(body)["problems"]) == (503, ["it drains"])
    assert ask(parent, "/livez")[0] == 200
    parent.let_go()
    assert parent.ended() == 0


def test_deaths_and_what_the_dead_had_done_stay_in_the_metrics(project: Project, run: Callable[..., Run]):
    parent = run("--port", "127.0.0.1:0")
    project.send(1)
    parent.line("done")
    handled = 'leanmq_messages_processed_total{handler="take",outcome="ack"} 1\n'
    wait_until(lambda: handled in ask(parent, "/metrics")[1], "the first message", seconds=PATIENCE_SECONDS)
    os.kill(parent.child, signal.SIGKILL)
    parent.line("died")
    parent.line("worker")
    text = ask(parent, "/metrics")[1]
    assert handled in text
    assert "leanmq_worker_deaths_total 1\n" in text
    assert "leanmq_worker_restarts_total 1\n" in text


def test_a_port_that_is_taken_is_a_usage_error(project: Project):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        done = project.leanmq("run", "--port", endpoint, expect=64)
    assert f"cannot listen on {endpoint}" in done.stderr
    assert "no port" in project.leanmq("run", "--port", "high", expect=64).stderr


def test_a_hang_up_loads_the_code_anew_without_a_gap(project: Project, run: Callable[..., Run]):
    """Also code of the same size and date, for which Python would go by what it compiled before."""
    project.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    orders = project.folder / "orders.py"
    dated = orders.stat().st_mtime_ns
    parent = run()
    before = parent.child
    project.send(1, do="wait")
    parent.line("start")
    orders.write_text(orders.read_text().replace('say("done"', 'say("anew"'))
    os.utime(orders, ns=(dated, dated))
    parent.signal(signal.SIGHUP)
    parent.line("loading anew")
    parent.line("draining")  # the new ones read by now
    project.send(2)
    assert int(parent.line("anew 2").split()[3]) != before
    parent.let_go()
    parent.line("done 1")  # the old code finished what it had begun
    wait_until_all_gone({before})


def test_a_hang_up_over_broken_code_is_told_and_the_old_code_serves_on(
    project: Project, run: Callable[..., Run]
):
    parent = run("--port", "127.0.0.1:0")
    before = parent.child
    good = (project.folder / "orders.py").read_text()
    (project.folder / "orders.py").write_text("def take(:\n")
    parent.signal(signal.SIGHUP)
    parent.line("generation 2 is refused, generation 1 keeps serving")
    parent.line("orders.py:1")
    wait_until(lambda: children_of(parent) == {before}, "one worker", seconds=PATIENCE_SECONDS)
    status, body = ask(parent, "/readyz")
    assert status == 200
    assert "orders.py:1" in json.loads(body)["reload"]["refused"]
    project.send(1)
    parent.line("done 1 1")
    (project.folder / "orders.py").write_text(good)
    parent.signal(signal.SIGHUP)
    parent.line("generation 3 serves")
    assert json.loads(ask(parent, "/readyz")[1])["reload"] == {"generation": 3, "refused": None}


def may_be_first_process() -> bool:
    """Whether a process may get a namespace of process ids for itself: root, on Linux."""
    unshare = require_program("unshare", what_for="a namespace of process ids")
    return subprocess.run([unshare, "-pf", "true"], capture_output=True, check=False).returncode == 0


def test_as_the_first_process_of_a_container_it_reaps_orphans_and_drains(project: Project):
    if not may_be_first_process():
        pytest.skip("nobody here may make a namespace of process ids")
    parent = Run(project, under=("unshare", "-pf", "--kill-child"))
    try:
        parent.line("ready")
        [first] = psutil.Process(parent.process.pid).children()
        [worker] = first.children()
        project.send(1, do="leave an orphan")
        parent.line("orphan")
        parent.line("done")
        wait_until(lambda: first.children() == [worker], "the orphan's end", seconds=PATIENCE_SECONDS)
        first.send_signal(signal.SIGTERM)
        assert parent.ended() == 0
        assert any("stopped: 1 handled" in line for line in parent.seen)
    finally:
        parent.close()
