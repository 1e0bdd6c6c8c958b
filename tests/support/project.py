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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from leanmq_topology import connect_sync
from leanmq_topology.cli.main import main

PATIENCE_SECONDS = 45

ORDERS = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  order.placed:
    schema: {{type: object, required: [n], properties: {{n: {{type: integer}}, do: {{type: string}}}}}}
queues:
{queues}
handlers:
{handlers}
"""
"""Orders have a number, and may say what their handler shall do."""


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

    def here(self, *words: str) -> str:
        """What a command prints that is run in this process: for what is no more than a step on the way."""
        with redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit) as ended:
            main([*words, "-f", str(self.folder / "topology.yaml")])
        assert ended.value.code == 0, printed.getvalue()
        return printed.getvalue()

    def send(self, n: int, do: str = "") -> None:
        self.here("send", "orders", json.dumps({"n": n, "do": do}))

    def send_many(self, *wishes: str) -> None:
        """Orders 0, 1, 2 … in one step, so that one read brings them together."""
        with connect_sync(self.folder / "topology.yaml") as mq:
            mq.send_many("orders", [{"n": n, "do": wish} for n, wish in enumerate(wishes)])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.here("status", "-o", "json"))
        return found

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The state of the queue, once it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(state := self.status()["queues"]["orders"]):
            assert time.monotonic() < deadline, state
            time.sleep(0.02)  # a queue does not tell when it changes
        return state


def write_orders(
    folder: Path,
    url: str,
    namespace: str,
    code: str,
    *,
    queues: Mapping[str, str],
    handlers: Mapping[str, str],
) -> Project:
    """A project for orders: settings of its queues and handlers by name, and the code of `orders.py`."""
    text = ORDERS.format(
        namespace=namespace,
        url=url,
        queues="\n".join(
            f"  {name}: {{accepts: [order.placed], ttl: none, {rest}}}" for name, rest in queues.items()
        ),
        handlers="\n".join(f"  {name}: {{{rest}}}" for name, rest in handlers.items()),
    )
    (folder / "topology.yaml").write_text(text)
    (folder / "orders.py").write_text(code)
    return Project(folder)


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


@contextmanager
def running(project: Project, *always: str) -> Iterator[Callable[..., Run]]:
    """Starts `leanmq run` and waits until it is ready; whatever still runs at the end is killed."""
    started: list[Run] = []

    def start(*words: str) -> Run:
        started.append(Run(project, *always, *words))
        started[-1].line("ready")
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.close()
