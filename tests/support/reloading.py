"""A watched `leanmq run` under load, the ways in which its files are changed, what came of each message."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from leanmq_topology import connect_sync
from tests.support.processes import wait_until
from tests.support.project import PATIENCE_SECONDS, Project, Run
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  work: {{schema: {{type: object, required: [n], properties: {{n: {{type: integer}}}}}}}}
queues:
  work: {{accepts: [work], ttl: none, visibility_timeout: 30s, max_deliveries: {limit}}}
handlers:
  take: {{queue: work, call: "work:take", concurrency: 8}}
"""

WORK = """
import asyncio, os, time
from tax import TAX

VERSION = {version}
HISTORY = os.open({history!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def take(data):
    os.write(HISTORY, b"start %d %d %d %.6f\\n" % (data["n"], VERSION, TAX, time.monotonic()))
    await asyncio.sleep(0.01)
    os.write(HISTORY, b"end %d %d %d %.6f\\n" % (data["n"], VERSION, TAX, time.monotonic()))
"""


@dataclass(frozen=True)
class Event:
    kind: str
    n: int
    version: int
    tax: int
    at: float


class Workshop:
    """The files. `work.py` is a plain one; `tax.py` lies behind links, as in a volume of Kubernetes."""

    def __init__(self, folder: Path, server: Server, namespace: str) -> None:
        self.folder, self.history = folder, folder / "history.txt"
        self.project = Project(folder)
        self.version = self.tax = 0
        self._server, self._namespace, self._limit = server, namespace, 5
        self._read, self._offset = list[Event](), 0
        self.topology = folder / "topology.yaml"
        self.work = folder / "work.py"
        self.topology.write_text(self.topology_text())
        self.sender_topology = folder / "sender" / "topology.yaml"
        """A copy that nobody edits."""
        self.sender_topology.parent.mkdir()
        self.sender_topology.write_text(self.topology_text())
        (folder / "tax.py").symlink_to(Path("..data") / "tax.py")
        self.swap_link()
        self.work.write_text(self.good_code())

    # -- what files hold --------------------------------------------------------------------------------

    def topology_text(self, limit: int = 5) -> str:
        return TOPOLOGY.format(namespace=self._namespace, url=self._server.url, limit=limit)

    def good_code(self) -> str:
        self.version += 1
        return self.code()

    def code(self) -> str:
        return WORK.format(version=self.version, history=str(self.history))

    # -- good edits: the number that a run has to show --------------------------------------------------

    def save_in_place(self) -> None:
        self.work.write_text(self.good_code())

    def rename_over(self) -> None:
        draft = self.folder / ".work.py.tmp"
        draft.write_text(self.good_code())
        draft.replace(self.work)

    def swap_link(self) -> None:
        """Another release folder, and one rename that makes it the one."""
        self.tax += 1
        release = self.folder / f"..release{self.tax}"
        release.mkdir()
        (release / "tax.py").write_text(f"TAX = {self.tax}\n")
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(release.name)
        fresh.replace(self.folder / "..data")

    def storm(self) -> None:
        """Fifty saves a second, for a second; each is whole, the last one counts."""
        pause = threading.Event()
        for _ in range(50):
            self.rename_over()
            pause.wait(0.02)

    def save_same_size_and_date(self) -> None:
        """What bytecode caches and watchers that go by the date fall for."""
        before = self.work.stat()
        text = self.good_code()
        self.work.write_text(text)
        os.utime(self.work, ns=(before.st_atime_ns, before.st_mtime_ns))

    def edit_topology(self) -> None:
        """A live update; shown by a change of the code in the same burst."""
        self._limit += 1
        self.topology.write_text(self.topology_text(self._limit))
        self.work.write_text(self.good_code())

    # -- bad edits: what the log has to say -------------------------------------------------------------

    def break_syntax(self) -> str:
        self.work.write_text(self.code() + "def broken(:\n")
        return "LMQ314"

    def break_import(self) -> str:
        self.work.write_text("import nowhere_to_be_found\n" + self.code())
        return "nowhere_to_be_found"

    def halve(self) -> str:
        text = self.code()
        self.work.write_text(text[: text.index("data[") + 4])
        return "LMQ314"

    def delete(self) -> str:
        self.work.unlink()
        return "LMQ313"

    def remove_handler(self) -> str:
        self.work.write_text(self.code().replace("def take(", "def taken("))
        return "LMQ317"

    def change_signature(self) -> str:
        self.work.write_text(self.code().replace("def take(data)", "def take(data, other, another)"))
        return "error LMQ"

    def break_topology(self) -> str:
        self.topology.write_text(self.topology_text().replace("max_deliveries", "max_deliverys"))
        return "LMQ203"

    def mend(self) -> None:
        self.topology.write_text(self.topology_text(self._limit))
        self.rename_over()

    def fall_asleep(self) -> None:
        """A module that does not come to its end."""
        self.work.write_text("import time\ntime.sleep(30)\n" + self.code())

    # -- what came of it --------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """Everything so far."""
        with self.history.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data.rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            kind, n, version, tax, at = line.split()
            self._read.append(Event(kind.decode(), int(n), int(version), int(tax), float(at)))
        return self._read

    def await_new_code(self, since: float) -> float:
        """Seconds from `since` to the first message that this version of the code ran."""
        first: list[float] = []

        def shown() -> bool:
            first[:] = [
                event.at
                for event in self.events()
                if event.kind == "start" and (event.version, event.tax) == (self.version, self.tax)
            ][:1]
            return bool(first)

        wait_until(shown, f"version {self.version}.{self.tax}", seconds=PATIENCE_SECONDS)
        return first[0] - since


@dataclass
class Load:
    """Sends numbered messages at a steady rate, in a thread, until told to stop."""

    workshop: Workshop
    rate: int
    sent: int = 0
    sent_at: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        with connect_sync(self.workshop.sender_topology) as mq:
            while not self._stop.wait(max(began + self.sent / self.rate - time.monotonic(), 0)):
                self.sent_at.append(time.monotonic())
                mq.send("work", {"n": self.sent})
                self.sent += 1


def find_gaps(starts: list[float], sent_at: list[float]) -> list[float]:
    """How long nothing was started although something had been sent: for each start after a pause, the time
    since the start before, or since the send that came after that, whichever is later."""
    gaps, at = [], 0
    ordered = sorted(starts)
    for before, after in itertools.pairwise(ordered):
        while at < len(sent_at) and sent_at[at] <= before:
            at += 1
        waiting_since = max(before, sent_at[at]) if at < len(sent_at) else before
        gaps.append(max(after - waiting_since, 0.0))
    return gaps


def count_runs(events: list[Event]) -> Counter[int]:
    return Counter(event.n for event in events if event.kind == "start")


GOOD: list[Callable[[Workshop], None]] = [
    Workshop.save_in_place,
    Workshop.rename_over,
    Workshop.swap_link,
    Workshop.storm,
    Workshop.save_same_size_and_date,
    Workshop.edit_topology,
]
BAD: list[Callable[[Workshop], str]] = [
    Workshop.break_syntax,
    Workshop.break_import,
    Workshop.halve,
    Workshop.delete,
    Workshop.remove_handler,
    Workshop.change_signature,
    Workshop.break_topology,
]


def start_watched(workshop: Workshop, *words: str) -> Run:
    run = Run(workshop.project, "--watch", "--apply", *words)
    run.line("ready")
    return run
