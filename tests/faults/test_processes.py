"""What happens to the processes of `leanmq run` itself: told to stop under load, killed, copied, starved."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from leanmq_topology.brokers.connect import open_blocking
from tests.faults.catalogue import Figures
from tests.support.processes import is_alive, wait_until
from tests.support.project import PATIENCE_SECONDS, Project, Run, running, write_orders
from tests.support.servers import Server

QUEUE = "visibility_timeout: 2s, retry: {delay: 50ms, jitter: none}"
HANDLER = 'queue: orders, call: "orders:%s", concurrency: 2, prefetch: 16'

HANDLERS = r"""
import asyncio, os, resource, threading, time

def say(word, data, message):
    os.write(1, f"{word} {data['n']} {message.attempt} {os.getpid()}\n".encode())  # whole lines only

def fork(data, message):
    pid = os.fork()
    if pid == 0:
        say("copy", data, message)
        return "comes back"
    os.waitpid(pid, 0)

def starve():
    # So few that nothing can be opened any more; what is open stays.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))

def in_thread(data, message):
    say("start", data, message)
    match data.get("do"):
        case "wait":
            os.read(0, 1)
        case "fork":
            fork(data, message)
        case "starve":
            starve()
        case "leave a thread":
            threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
    say("done", data, message)

async def in_loop(data, message):
    say("start", data, message)
    if data.get("do") == "fork":
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            say("copy", data, message)
            await asyncio.sleep(0.01)
            os.write(1, b"never\\n")
        os.waitpid(pid, 0)
    say("done", data, message)
"""


@pytest.fixture
def play(valkey: Server, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts `leanmq run` with this handler; whatever still runs at the end is killed."""
    with ExitStack() as runs:

        def start(function: str = "in_thread", *words: str) -> Run:
            queues, handlers = {"orders": QUEUE}, {"take": HANDLER % function}
            project = write_orders(
                tmp_path, valkey.url, namespace, HANDLERS, queues=queues, handlers=handlers
            )
            project.here("apply")
            return runs.enter_context(running(project))(*words)

        yield start


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_sigterm_with_a_full_prefetch_frees_what_had_not_started_at_once(
    play: Callable[..., Run], project: Project, valkey: Server, namespace: str, figures: Figures
):
    worker = play()
    project.send_many(*["wait"] * 10)
    worker.line("start")
    worker.line("start")
    with open_blocking(valkey.url, namespace=namespace, folder=project.folder) as link:

        def look() -> tuple[int, int]:
            [health] = link.connection.execute(link.broker.survey(["orders"], "nobody-else"))
            return health.pending, health.free

        wait_until(lambda: look()[0] == 10, "a full prefetch", seconds=PATIENCE_SECONDS)
        at = time.monotonic()
        worker.signal(signal.SIGTERM)
        wait_until(lambda: look()[1] == 8, "eight free messages", seconds=PATIENCE_SECONDS)
        took = time.monotonic() - at
    worker.let_go()
    worker.let_go()
    assert worker.ended() == 0
    figures.report("F10", freed=8, freed_within_s=took)
    assert took < 15  # one step of a script, on a busy machine
    second = play()
    assert [second.line("start").split()[2] for _ in range(2)] == ["1", "1"]  # their delivery did not count


def test_sigkill_while_it_drains_loses_nothing(play: Callable[..., Run], project: Project, figures: Figures):
    worker = play()
    project.send_many(*["wait"] * 4)
    worker.line("start")
    worker.line("start")
    worker.signal(signal.SIGTERM)
    worker.line("draining")
    worker.vanish()
    second = play()
    for _ in range(4):
        second.let_go()
    attempts = sorted(second.line("done").split()[1:3] for _ in range(4))
    figures.report("F11", sent=4, lost=0)
    assert [n for n, _ in attempts] == ["0", "1", "2", "3"]
    assert sorted(attempt for _, attempt in attempts)[2:] == ["2", "2"]  # the others as far as it came


def test_a_process_with_a_thread_left_behind_is_gone_soon_after_its_drain(
    play: Callable[..., Run], project: Project, figures: Figures
):
    worker = play()
    pids = [worker.process.pid, worker.child]
    project.send_many("leave a thread")
    worker.line("done")
    at = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    figures.report("F61", gone_within_s=time.monotonic() - at)
    wait_until(lambda: not any(map(is_alive, pids)), "no process", seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize("function", ["in_thread", "in_loop"])
def test_a_copy_of_a_worker_that_a_handler_forked_ends_where_the_handler_comes_back(
    play: Callable[..., Run], project: Project, figures: Figures, function: str
):
    worker = play(function)
    child = worker.child
    project.send_many("fork", "", "fork", "")
    for _ in range(4):
        worker.line("done")
    project.until(lambda queue: queue["acked"] == 4)
    assert worker.child == child, "the worker went on"
    above = psutil.Process(worker.process.pid)
    wait_until(
        lambda: [one.pid for one in above.children(recursive=True)] == [child], "the end of the copies"
    )
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    said = [line.split() for line in worker.seen]
    assert sum(words[:1] == ["copy"] for words in said) == 2
    assert not any("never" in words for words in said)
    figures.report("F67", handler=function, forks=2, workers=1)


def test_a_worker_without_descriptors_loses_nothing(
    play: Callable[..., Run], project: Project, figures: Figures
):
    worker = play()
    project.send_many("starve", "", "", "")
    ran = set()
    while len(ran) < 4:
        ran.add(worker.line("done").split()[1])
    state = project.until(lambda queue: queue["acked"] + queue["dead"] == 4)
    figures.report("F66", sent=4, lost=0, dead=state["dead"])
    assert (state["ready"], state["in_flight"]) == (0, 0)
    letters = json.loads(project.leanmq("dlq", "list", "-o", "json").stdout)["messages"]
    assert [(letter["reason"], letter["data"]["n"]) for letter in letters] in ([], [("crashed", 0)])
