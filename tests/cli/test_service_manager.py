"""What systemd hears of a real `leanmq run` over a real socket: readiness, signs of life, the end."""

from __future__ import annotations

import itertools
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import PATIENCE_SECONDS, Project, Run, write_orders
from tests.support.servers import Server

HANDLERS = r"""
import os

async def take(data, message):
    os.write(1, b"start\n")
    os.read(0, 1)  # the event loop stands still
    os.write(1, b"done\n")
"""

ASKED_SECONDS = 0.6
"""What the service manager asks for. It is told twice as often."""
STUCK_SECONDS = 2.0
"""Instead of a minute, so that the test does not take one."""
IMPATIENT = (
    "from leanmq_topology.runner.supervisor import health\n"
    f"health.STUCK_SECONDS = {STUCK_SECONDS}\n"
    "from leanmq_topology.cli.main import main\n"
    "main()"
)


@pytest.fixture
def project(valkey: Server, namespace: str, tmp_path: Path) -> Project:
    queues, handlers = {"orders": ""}, {"take": 'queue: orders, call: "orders:take"'}
    built = write_orders(tmp_path, valkey.url, namespace, HANDLERS, queues=queues, handlers=handlers)
    built.here("apply")
    return built


@pytest.fixture
def manager(project: Project) -> Iterator[socket.socket]:
    with (
        tempfile.TemporaryDirectory(prefix="lmq-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        listening.bind(f"{folder}/s")
        listening.settimeout(PATIENCE_SECONDS)
        project.environ["NOTIFY_SOCKET"] = f"{folder}/s"
        yield listening


@pytest.fixture
def run(project: Project, manager: socket.socket) -> Iterator[Run]:
    """Under a watchdog that asks for a sign of life every 600 ms."""
    project.environ["WATCHDOG_USEC"] = str(round(ASKED_SECONDS * 1e6))
    started = Run(project, program=[sys.executable, "-c", IMPATIENT])
    yield started
    started.close()


def hear(manager: socket.socket, word: bytes) -> None:
    """The next message that says this."""
    while not manager.recv(1000).startswith(word):
        pass


def hear_nothing_for(manager: socket.socket, seconds: float) -> bool:
    manager.settimeout(seconds)
    try:
        manager.recv(1000)
    except TimeoutError:
        return True
    finally:
        manager.settimeout(PATIENCE_SECONDS)
    return False


def test_it_is_told_of_readiness_of_life_twice_as_often_as_it_asks_and_of_the_end(
    run: Run, manager: socket.socket
):
    hear(manager, b"READY=1\n")
    heard = []
    for _ in range(9):
        hear(manager, b"WATCHDOG=1")
        heard.append(time.monotonic())
    gaps = [later - earlier for earlier, later in itertools.pairwise(heard)]
    assert ASKED_SECONDS / 3 < statistics.median(gaps) < ASKED_SECONDS
    run.signal(signal.SIGTERM)
    hear(manager, b"STOPPING=1\n")
    assert run.ended() == 0


def test_a_worker_that_stands_still_gets_no_sign_of_life_until_it_goes_on(
    run: Run, manager: socket.socket, project: Project
):
    hear(manager, b"READY=1\n")
    began = time.monotonic()
    project.send(1)
    run.line("start")
    while not hear_nothing_for(manager, 2 * ASKED_SECONDS):
        assert time.monotonic() - began < PATIENCE_SECONDS
    assert time.monotonic() - began >= STUCK_SECONDS, "a handler that computes for a while is no reason"
    run.let_go()
    run.line("done")
    hear(manager, b"WATCHDOG=1")
    run.signal(signal.SIGTERM)
    assert run.ended() == 0
