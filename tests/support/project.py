"""A folder with a topology and its handlers, used by commands; `leanmq run` whose lines can be waited for."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE_SECONDS = 45


class Project:
    """A folder with a topology and its handlers, used by commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("LEANMQ")}

    def leanmq(self, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            leanmq_command(*words),
            cwd=self.folder, env=self.environ, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def python(self, code: str, *words: str) -> None:
        """Run a program of the user's in the folder."""
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=self.folder, env=self.environ, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def send(self, n: int, do: str = "") -> None:
        self.leanmq("send", "orders", json.dumps({"n": n, "do": do}))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.leanmq("status", "-o", "json").stdout)
        return found

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The state of the queue, once it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(state := self.status()["queues"]["orders"]):
            assert time.monotonic() < deadline, state
        return state


def leanmq_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "leanmq_topology.cli.main", *words]


class Run:
    """A running `leanmq run`; its lines can be waited for."""

    def __init__(
        self,
        project: Project,
        *words: str,
        command: str = "run",
        under: Sequence[str] = (),
        program: Sequence[str] = (),
    ) -> None:
        """`under` is a program that starts it, `program` another one to start than `leanmq`."""
        self.process = subprocess.Popen(
            [*under, *(program or leanmq_command()), command, *words],
            cwd=project.folder, env=project.environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        self.seen: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, part: str) -> str:
        """The next line that holds this."""
        while True:
            line = self._lines.get(timeout=PATIENCE_SECONDS)
            assert line is not None, self.seen
            self.seen.append(line)
            if part in line:
                return line

    def let_go(self) -> None:
        """One handler that waits goes on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    @property
    def child(self) -> int:
        """The process that runs handlers, where there is one."""
        [child] = psutil.Process(self.process.pid).children()
        return child.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def vanish(self) -> None:
        """All of it at once, as if the machine had lost its power."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        self._listener.join(PATIENCE_SECONDS)
        while (line := self._lines.get()) is not None:
            self.seen.append(line)
        assert code != 70, self.seen
        return code

    def rest(self) -> list[str]:
        """All it said, once it is over."""
        with suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                self.seen.append(line)
        return self.seen

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.vanish()
        self.process.wait()
        self._listener.join(PATIENCE_SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
