"""`leanmq demo`: the shop example on the embedded broker, shown by the very commands a user would type."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from leanmq_topology.cli.output import wants_color
from leanmq_topology.errors import LeanMQError

PATIENCE_SECONDS = 40
"""How long the demo waits for the worker or the queues before it says that something is wrong."""

BROKEN_ORDER = '{"order_id": "A-5", "total": "a lot", "card": "4242", "email": "max@example.org"}'


class DemoError(LeanMQError):
    """A step of the demo did not do what it should."""


@click.command("demo")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Leave the example in DIR to play with.")  # fmt: skip
def command(keep: Path | None) -> None:
    """See the whole system work: a small shop on a real server, in about ten seconds.

    Needs nothing but this package: the server comes with it. Leaves no process behind.
    """
    with _workplace(keep) as folder:
        stage = Stage(folder, color=wants_color(sys.stdout))
        stage.title("A small shop, declared in one file and run on a real server.")
        play(stage)
    if keep:
        stage.say(f"\nThe example is yours in {keep}: `cd {keep} && leanmq run`, and change something.")


def play(stage: Stage) -> None:
    """The acts, in order."""
    stage.say("One YAML file says which queues, messages, routes and handlers there are:\n")
    stage.run("graph")
    stage.say("The server is made to match it. This one is embedded; `--url` names any Redis or Valkey:\n")
    stage.run("apply")
    with stage.worker() as worker:
        stage.say("\nOrders come in. Each goes to every queue whose filter lets it through:\n")
        orders = (stage.folder / "orders.ndjson").read_text().splitlines()
        for order in orders:
            stage.run("send", "order-events", order, quiet_answer=True)
        stage.say("\nA message that breaks its schema never leaves the sender:\n")
        stage.run("send", "order-events", BROKEN_ORDER, expect=3)
        stage.say("\nMeanwhile the worker retries what may work later and gives up on what will not:\n")
        counts = stage.wait_until_settled()
        worker.show_all()
        stage.say(
            "\nA request gets its answer from a handler; who listens to a channel hears what it publishes:\n"
        )
        with stage.listener("ticker"):
            stage.run("request", "get-quote", '{"sku": "mug"}')
        worker.show_all()
    stage.say("")
    stage.run("status")
    stage.say("What could not be handled is kept, with its reason:\n")
    stage.run("dlq", "list")
    stage.summary(len(orders), counts)


@dataclass
class Worker:
    """The `leanmq run` of the demo. Its lines are kept and shown in one piece, apart from ours."""

    process: subprocess.Popen[str]
    stage: Stage
    lines: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    shown: int = 0

    def listen(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip("\n"))
            if "ready" in line:
                self.ready.set()
        self.ready.set()

    def show_all(self) -> None:
        fresh, self.shown = self.lines[self.shown :], len(self.lines)
        for line in fresh:
            self.stage.worker_line(line)


@dataclass
class Stage:
    """Where the demo plays: runs commands in the example's folder and shows them as they would be typed."""

    folder: Path
    color: bool = False

    def title(self, text: str) -> None:
        click.echo(click.style(text, bold=True) if self.color else text)

    def say(self, text: str) -> None:
        click.echo(text)

    def prompt(self, words: Sequence[str]) -> None:
        line = f"$ leanmq {shlex.join(words)}"
        click.echo(click.style(line, fg="cyan") if self.color else line)

    def worker_line(self, line: str) -> None:
        self._line_of("worker", line)

    def listener_line(self, line: str) -> None:
        self._line_of("sub", line)

    def _line_of(self, program: str, line: str) -> None:
        """What another program says than the one typed last."""
        bar = f"{program:<6} │"
        click.echo(f"  {click.style(bar, fg='magenta') if self.color else bar} {line}")

    def run(self, *words: str, expect: int = 0, quiet_answer: bool = False) -> None:
        """Run one command and show it; its answer is left out where it is only an id."""
        self.prompt(words)
        done = self._leanmq(*words)
        if done.returncode != expect:
            raise DemoError(f"`leanmq {words[0]}` ended with {done.returncode}: {done.stderr.strip()}")
        if not quiet_answer:
            shown = done.stdout + done.stderr
            click.echo("".join(f"  {line}\n" if line else "\n" for line in shown.splitlines()))

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """`leanmq run` in a process of its own, stopped by SIGTERM as a service manager would."""
        self.prompt(["run"])
        process = subprocess.Popen(
            _leanmq_command("run"),
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        worker = Worker(process, self)
        listener = threading.Thread(target=worker.listen, daemon=True)
        listener.start()
        try:
            if not worker.ready.wait(PATIENCE_SECONDS) or process.poll() is not None:
                raise DemoError("the worker did not start:\n" + "\n".join(worker.lines))
            worker.show_all()
            yield worker
        except DemoError:
            worker.show_all()
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            listener.join(1)

    @contextmanager
    def listener(self, channel: str) -> Iterator[None]:
        """`leanmq sub` beside what is done in here, until it has heard one message."""
        words = ("sub", channel, "--count", "1", "--for", f"{PATIENCE_SECONDS}s")
        self.prompt(words[:2])
        process = subprocess.Popen(
            _leanmq_command(*words),
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            if "listening" not in process.stderr.readline():
                raise DemoError(f"nobody could listen to {channel}: {process.communicate()[1].strip()}")
            yield
            heard, said = process.communicate(timeout=PATIENCE_SECONDS)
            if process.returncode:
                raise DemoError(f"nothing was heard on {channel}: {said.strip()}")
            self.listener_line(heard.strip())
        finally:
            process.kill()
            process.communicate()

    def wait_until_settled(self) -> dict[str, Any]:
        """Wait until nothing is ready, in flight or delayed; returns the state of every queue."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            queues: dict[str, Any] = json.loads(self._leanmq("status", "-o", "json").stdout)["queues"]
            if not any(
                queue[kind] for queue in queues.values() for kind in ("ready", "in_flight", "delayed")
            ):
                return queues
        raise DemoError(f"the queues did not settle within {PATIENCE_SECONDS} seconds")

    def summary(self, orders: int, queues: dict[str, Any]) -> None:
        total = {
            kind: sum(queue[kind] for queue in queues.values())
            for kind in ("sent", "acked", "retried", "dead")
        }
        self.title("What happened")
        self.say(
            f"  {orders} orders became {total['sent']} messages, one for each queue that wanted it.\n"
            f"  {total['acked']} were handled; {total['retried']} deliveries failed and were tried again;\n"
            f"  {total['dead']} messages ended in a dead-letter queue with their reason. None was lost.\n"
            "  1 order was wrong and was refused before it was sent."
        )
        self.say("\nNext: `leanmq demo --keep shop` leaves you these files; README.md is a five-minute tour.")

    def _leanmq(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _leanmq_command(*words), cwd=self.folder, text=True, capture_output=True, check=False
        )


def _leanmq_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "leanmq_topology.cli.main", *words]


@contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    """A copy of the example: in `keep`, or in a temporary folder that goes with the demo."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise DemoError(f"{keep} is not empty", hint="name a folder that does not exist yet")
        shutil.copytree(example_folder(), keep, dirs_exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="leanmq-demo-") as temporary:
        folder = Path(temporary) / "shop"
        shutil.copytree(example_folder(), folder)
        with _held_server(folder):
            yield folder


@contextmanager
def _held_server(folder: Path) -> Iterator[None]:
    """Keep one server from the first command to the last, and see it gone before its folder is."""
    from leanmq_topology.brokers.connect import open_blocking

    with open_blocking("embedded:?linger=0s", namespace="shop", folder=folder, client_name="leanmq-demo"):
        yield


def example_folder() -> Path:
    """The shop example: inside the wheel, or in the checkout an editable install points to."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "examples" / "shop", package.parent / "examples" / "shop"):
        if (folder / "topology.yaml").is_file():
            return folder
    raise DemoError("the example is missing from this installation", hint="install leanmq-topology again")
