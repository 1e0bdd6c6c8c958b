"""`leanmq dev`: the loop of an evening, with and without a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from leanmq_topology.brokers.embedded.launcher import look
from tests.support.commands import LEANMQ, leanmq, own_environ
from tests.support.processes import wait_until
from tests.support.project import PATIENCE_SECONDS, Project, Run

HANDLERS = "handlers.py"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """What `leanmq init` makes, on the embedded broker."""
    assert leanmq("init", "shop", folder=tmp_path).returncode == 0
    return Project(tmp_path / "shop")


@pytest.fixture
def dev(project: Project) -> Iterator[Callable[[], Run]]:
    started: list[Run] = []

    def start() -> Run:
        started.append(Run(project, command="dev"))
        return started[-1]

    yield start
    for one in started:
        one.close()


def edit(project: Project, old: str, new: str, file: str = HANDLERS) -> None:
    text = (project.folder / file).read_text()
    assert old in text
    (project.folder / file).write_text(text.replace(old, new))


def send(project: Project) -> None:
    project.leanmq("send", "orders", "--example")


def test_a_topology_that_is_broken_from_the_start_is_waited_for(project: Project, dev: Callable[[], Run]):
    edit(project, "queues:", "quueues:", "topology.yaml")
    run = dev()
    run.line("error LMQ")
    run.line("waiting for the next save")
    edit(project, "quueues:", "queues:", "topology.yaml")
    run.line("ready")
    run.signal(signal.SIGTERM)
    assert run.ended() == 0


def test_a_handler_that_is_broken_from_the_start_is_waited_for(project: Project, dev: Callable[[], Run]):
    edit(project, "def take_order", "def take_ordre")
    run = dev()
    run.line("generation 1 is refused, waiting for the next save")
    run.line("did you mean 'take_ordre'?")
    edit(project, "def take_ordre", "def take_order")
    run.line("generation 2 serves")
    send(project)
    run.line("order A-1")
    run.signal(signal.SIGTERM)
    assert run.ended() == 0


class Terminal:
    """`leanmq dev` on a terminal; what it wrote can be waited for."""

    def __init__(self, folder: Path) -> None:
        self._reader, terminal = pty.openpty()
        self.seen = b""
        environ = {**own_environ(), "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            [*LEANMQ, "dev"], cwd=folder, env=environ, process_group=0,
            stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)

    def shows(self, pattern: bytes) -> None:
        """Wait until it was written."""
        wait_until(lambda: self._reads(pattern), pattern.decode(), seconds=PATIENCE_SECONDS)

    def _reads(self, pattern: bytes) -> bool:
        if re.search(pattern, self.seen) is None:
            self.seen += self._read()
        return re.search(pattern, self.seen) is not None

    def _read(self) -> bytes:
        try:
            return os.read(self._reader, 65536)
        except OSError:  # how Linux tells of the end of a terminal
            return b""

    def rest(self) -> None:
        while data := self._read():
            self.seen += data

    def close(self) -> None:
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            process.kill()
        self.process.wait()
        os.close(self._reader)


@pytest.fixture
def terminal(project: Project) -> Iterator[Terminal]:
    made = Terminal(project.folder)
    yield made
    if made.process.poll() is None:
        made.close()


def test_on_a_terminal_the_queues_stay_in_view_below_what_is_said(project: Project, terminal: Terminal):
    terminal.shows(rb"serving")
    terminal.shows(rb"queue +ready +in flight +delayed +retried +dead +done/s")
    send(project)
    terminal.shows(rb"order A-1 over 99.50\r\n")
    edit(project, "print(", "prnt(")
    terminal.shows(rb"serving generation 2")
    send(project)
    terminal.shows(rb"retry: attempt 1 of 3")
    terminal.shows(rb"orders .* NameError: name 'prnt' is not defined")
    edit(project, "prnt(", "print((")
    terminal.shows("✗ generation 3 is refused, generation 2 keeps serving".encode())
    terminal.process.send_signal(signal.SIGINT)
    terminal.rest()
    assert terminal.process.wait(PATIENCE_SECONDS) == 0
    assert terminal.seen.endswith(b"\x1b[?25h")
    assert b"Traceback" not in terminal.seen
    wait_until(lambda: look(project.folder) is None, "the end of the broker", seconds=PATIENCE_SECONDS)


def test_if_the_view_is_killed_the_workers_end_too(project: Project, terminal: Terminal):
    terminal.shows(rb"serving")
    above = psutil.Process(terminal.process.pid)
    wait_until(
        lambda: len(above.children(recursive=True)) >= 3, "the supervisor, a worker, what watches the files"
    )
    processes = above.children(recursive=True)
    terminal.process.kill()
    terminal.process.wait()
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
    assert not alive
