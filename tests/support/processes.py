"""Processes of tests: waiting for what they do, and commands that hold an embedded broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

HOLDING = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from leanmq_topology.brokers.embedded.address import EmbeddedAddress
from leanmq_topology.brokers.embedded.launcher import hold

folder, linger_ms, tie = sys.argv[1:]
with hold(Path(folder), EmbeddedAddress(linger_ms=int(linger_ms)), name="test", tie=tie) as held:
    print(json.dumps(asdict(held.facts)), flush=True)
    sys.stdin.read()
"""


PATIENCE_SECONDS = 40.0
"""How long a test waits for what should come soon. One that passes never waits so long, and a machine that is
busy with other tests may need it."""


def wait_until(happened: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Look until it happened; for what gives no signal of its own."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits for its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_frozen(pid: int) -> bool:
    """Whether a signal has stopped the process and all its children."""
    process = psutil.Process(pid)
    return all(one.status() == psutil.STATUS_STOPPED for one in [process, *process.children(recursive=True)])


def wait_until_gone(*pids: int) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in pids), f"the end of {pids}")


class HoldingCommand:
    """A command, in a process of its own, that uses the embedded broker of a folder until it is let go."""

    def __init__(self, folder: Path, *, linger_ms: int = 100, tie: str = "kernel") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(folder), str(linger_ms), tie],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # as a shell with job control does for each command
        )

    def wait_for_facts(self) -> dict[str, Any]:
        """The facts of the server, once the command has its share."""
        assert self.process.stdout is not None
        facts: dict[str, Any] = json.loads(self.process.stdout.readline())
        return facts

    def let_go(self) -> None:
        """Have it end by itself."""
        self.process.communicate("", timeout=20)

    def send_signal(self, number: signal.Signals) -> None:
        """To the command and all it has started in its process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
