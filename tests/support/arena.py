"""Where faults are tried: a server of its own, a topology, workers and producers as processes, a nemesis.

Workers are `leanmq run`. Everything that was sent, run and done to the system is written down outside the
server (`history`); when the system has come to rest, `judge` has the checker look at all of it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec

from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.topology.model import Topology
from tests.support.checker import FinalState, Findings, Limits, check
from tests.support.fault_handlers import HISTORY_VARIABLE, gate, worker_name
from tests.support.fault_producer import ProducerPlan
from tests.support.final_state import Onlooker
from tests.support.history import Fault, History, Kind, Record, read_histories
from tests.support.processes import PATIENCE_SECONDS, is_frozen, wait_until
from tests.support.servers import Server, require_binary

ROOT = Path(__file__).parents[2]
NAMESPACE = "arena"
LEASE_S = 1.0
SWEEP_S = 1.0
"""A quarter of the lease between two scans, a fifth more of spread, and what the machine needs."""
NOISE_S = 8.0
"""What two shared cores with several test processes on them may add to a bound. A recovery that never happens
still exceeds it, and `tests.faults.report` shows the times as they were."""
SETTLE_S = 3.0
"""How long after a run its acknowledgement may be under way on such a machine."""
CALM_SECONDS = 60.0
MEMORY = ("--appendonly", "no")
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")

TOPOLOGY = """
leanmq: 1
name: arena
broker: {{url: "{url}"}}
messages:
  task: {{schema: {{type: object, required: [key], properties: {{key: {{type: string}}}}}}}}
queues:
  work: {{accepts: [task], visibility_timeout: {lease_ms}ms, {limits}}}
handlers:
  take: {{queue: work, call: "tasks:work", concurrency: {concurrency}, prefetch: {prefetch}}}
"""


class Process:
    """A process of the arena: its lines can be waited for, and it can be ended in several ways."""

    def __init__(self, words: Sequence[str], folder: Path, environ: dict[str, str], log: Path) -> None:
        self.log = log
        self.bounded = False
        """It ends by itself, and is waited for instead of told."""
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                words,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # it may have children, which share its fate
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def name(self) -> str:
        """What histories call it: it leads a process group, and so do they name all that runs in it."""
        return worker_name(self.pid)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, word: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        def happened() -> bool:
            alive = self.alive  # asked first: what it said just before its end is there by then
            if word in self.said:
                return True
            assert alive, self.said
            return False

        wait_until(happened, f"{word!r} from {self.process.args!r}: {self.said}", seconds=seconds)

    def end(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Tell it to drain; its exit code."""
        if self.alive and not self.bounded:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        """To it and all it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """At once and as a whole, as if its machine had lost its power."""
        self.signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class Arena:
    """One fight. Use it in a `with`: nothing of it outlives the block."""

    server: Server
    folder: Path
    seed: int
    limits: str = "max_deliveries: 5, retry: {delay: 50ms, max_delay: 200ms}"
    lease_s: float = LEASE_S
    concurrency: int = 4
    prefetch: int = 16
    url: str | None = None
    """What workers and producers connect to; None: the server itself."""
    text: str = TOPOLOGY
    queues: tuple[str, ...] = ("work",)
    environ: dict[str, str] = field(default_factory=dict)
    workers: list[Process] = field(default_factory=list)
    producers: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.records = self.folder / "histories"
        self.nemesis = History(self.records, "nemesis")
        self.onlooker = Onlooker(self.server.url, NAMESPACE)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEANMQ")}
        self._environ = {
            **inherited,
            HISTORY_VARIABLE: str(self.records),
            "PYTHONPATH": str(ROOT),
            **self.environ,
        }
        self._write_project()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self.workers, *self.producers]:
            process.kill()
        self.onlooker.close()
        self.nemesis.close()

    @property
    def topology(self) -> Topology:
        return Topology.load(self.folder / "topology.yaml")

    def apply(self) -> None:
        with open_blocking(self.server.url, namespace=NAMESPACE, folder=self.folder) as link:
            apply_changes(link, self.topology, who="arena", approve=lambda change: True)

    def connect_through(self, url: str) -> None:
        """From now on workers and producers use this address."""
        self.url = url
        self._write_project()

    # -- those who take part ----------------------------------------------------------------------------

    def start_worker(self, *, module: str = "leanmq_topology.cli.main", wait: bool = True) -> Process:
        words = [sys.executable, "-m", module, "run", "--drain", "10s"]
        worker = Process(words, self.folder, self._environ, self._log("worker", self.workers))
        self.workers.append(worker)
        if wait:
            worker.wait_for("ready")
        return worker

    def start_producer(self, **plan: Any) -> Process:
        name = f"p{len(self.producers)}"
        settings = {"target": "work", "queues": list(self.queues), "seed": self.dice.randrange(2**32), **plan}
        encoded = msgspec.json.encode(msgspec.convert(settings, ProducerPlan)).decode()
        words = [sys.executable, "-m", "tests.support.fault_producer", str(self.folder), name, encoded]
        producer = Process(words, ROOT, self._environ, self._log("producer", self.producers))
        self.producers.append(producer)
        producer.bounded = plan.get("count") is not None
        producer.wait_for("ready")
        return producer

    @property
    def living(self) -> list[Process]:
        return [worker for worker in self.workers if worker.alive]

    # -- the nemesis ------------------------------------------------------------------------------------

    def kill_worker(self, worker: Process | None = None) -> Process:
        """SIGKILL one, any if none is named."""
        victim = worker or self.dice.choice(self.living)
        victim.kill()
        self.nemesis.fault(Fault.KILLED, at=time.monotonic(), worker=victim.name)
        return victim

    def kill_worker_at_work(self, *, seconds: float = PATIENCE_SECONDS) -> Process:
        """SIGKILL one while a handler of it surely runs: freeze it, look, and let it go on if none does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for worker in self.dice.sample(self.living, len(self.living)):
                with self.paused(worker):
                    if self.works(worker):
                        return self.kill_worker(worker)
            time.sleep(0.005)
        raise AssertionError(f"no worker was at work within {seconds} s")

    def works(self, worker: Process) -> bool:
        """Whether it has started a handler that has not ended. Stays true only of a frozen worker."""
        kinds = [record.kind for record in self.happened() if record.worker == worker.name]
        return kinds.count(Kind.START) > kinds.count(Kind.END)

    def open_gate(self) -> None:
        """Let the runs of held messages go on."""
        gate(self.records).touch()

    def note_death(self, worker: Process) -> None:
        """It killed itself, as its handler was told to."""
        worker.process.wait(PATIENCE_SECONDS)
        self.nemesis.fault(Fault.KILLED, at=time.monotonic(), worker=worker.name)

    @contextmanager
    def paused(self, worker: Process) -> Iterator[None]:
        """SIGSTOP, then SIGCONT. In the block it does nothing any more; to kill it there is allowed."""
        at = time.monotonic()
        worker.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: is_frozen(worker.pid), "a frozen worker")
            yield
        finally:
            worker.signal(signal.SIGCONT)
            self.nemesis.fault(Fault.PAUSED, at=at, until=time.monotonic(), worker=worker.name)

    @contextmanager
    def server_down(self) -> Iterator[None]:
        """SIGKILL the server, and start it again."""
        at = time.monotonic()
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()
            self.onlooker.close()
            self.onlooker.reconnect()
            self.nemesis.fault(Fault.SERVER_KILLED, at=at, until=time.monotonic())

    @contextmanager
    def everybody_met(self, fault: Fault) -> Iterator[None]:
        """What is done in this block meets everybody."""
        at = time.monotonic()
        try:
            yield
        finally:
            self.nemesis.fault(fault, at=at, until=time.monotonic())

    # -- the end ----------------------------------------------------------------------------------------

    def wait_until_drained(self, *, seconds: float = CALM_SECONDS) -> float:
        """All that was sent is settled; returns how long that took. Producers are told to stop first."""
        for producer in self.producers:
            assert producer.end(seconds=60) == 0, producer.said
        since = time.monotonic()
        wait_until(lambda: self._waiting() == 0, "an empty queue", seconds=seconds)
        return time.monotonic() - since

    def judge(self, *, drain: bool = True, **limits: Any) -> Findings:
        """Stop everybody and have the checker look. Workers that still live must end cleanly."""
        if drain:
            self.wait_until_drained()
        for worker in self.living:
            worker.wait_for("ready")  # one that still starts does not know how to drain yet
            at = time.monotonic()
            assert worker.end() == 0, worker.said
            self.nemesis.fault(Fault.STOPPED, at=at, until=time.monotonic(), worker=worker.name)
        wait_until(lambda: self.onlooker.connections() == 0, "no connection is left")
        promised = {
            "lease_s": self.lease_s,
            "recovery_s": self.lease_s * 1.3 + SWEEP_S + NOISE_S,
            "settle_s": SETTLE_S,
            **limits,
        }
        return check(self.happened(), self.look(), Limits(**promised))

    def look(self) -> FinalState:
        return self.onlooker.read(self.queues)

    def happened(self) -> list[Record]:
        return read_histories(self.records)

    def wait_for_record(
        self, holds: Callable[[Record], bool], what: str, *, seconds: float = PATIENCE_SECONDS
    ) -> Record:
        """The first record of which this holds, once it is written."""
        found: list[Record] = []

        def happened() -> bool:
            found[:] = [record for record in self.happened() if holds(record)]
            return bool(found)

        wait_until(happened, what, seconds=seconds)
        return found[0]

    # -- inside -----------------------------------------------------------------------------------------

    def _write_project(self) -> None:
        text = self.text.format(
            url=self.url or self.server.url,
            lease_ms=round(self.lease_s * 1000),
            limits=self.limits,
            concurrency=self.concurrency,
            prefetch=self.prefetch,
        )
        (self.folder / "topology.yaml").write_text(text)
        (self.folder / "tasks.py").write_text("from tests.support.fault_handlers import work as work\n")

    def _log(self, kind: str, others: Sequence[object]) -> Path:
        return self.folder / f"{kind}-{len(others)}.log"

    def _waiting(self) -> int | None:
        try:
            return self.onlooker.waiting(self.queues)
        except BrokerUnavailableError:
            return None


def start_server(
    kind: str, arguments: Sequence[str] = MEMORY, environ: Mapping[str, str] = MappingProxyType({})
) -> Server:
    """A server of the test's own, to be killed at will; skips where this kind is missing at home."""
    binary = require_binary(kind)
    return Server(kind, binary, arguments=tuple(arguments), environ=dict(environ)).start()
