"""Watches what the serving generation was made of, and has the supervisor start another when that changed."""

from __future__ import annotations

import logging
from pathlib import Path

from msgspec.structs import replace

from leanmq_topology.runner.reload.sentinel import CHANGED, WARNING, make_sentinel, read_paths
from leanmq_topology.runner.reload.snapshot import WatchList, shorten
from leanmq_topology.runner.reload.sources import load_and_tell
from leanmq_topology.runner.supervisor.listening import Listener
from leanmq_topology.runner.supervisor.members import MakeWorker, Process
from leanmq_topology.runner.supervisor.supervisor import Supervisor
from leanmq_topology.runner.supervisor.turns import Timer
from leanmq_topology.runner.supervisor.wire import Loaded, Note
from leanmq_topology.runner.supervisor.worker_process import Orders, make_worker
from leanmq_topology.topology.model import Topology

logger = logging.getLogger("leanmq.runner")

AGAIN_SECONDS = 1.0
"""Until a sentinel that ended by itself is replaced."""
GATHER_SECONDS = 0.05
"""Several processes of a generation tell what they read; the watch is exchanged once."""
TORN = "read in two versions"
"""The digest of a file that two processes of one generation read differently: no content is equal to it."""
SHOWN_PATHS = 3


class Reloader(Listener):
    """Hand it to a `Supervisor` as its listener, then `attach` it.

    `orders` are what worker processes do without a watch; `topology` is what is there before the first start.
    """

    def __init__(self, orders: Orders, topology: Topology) -> None:
        self._orders, self._folder = orders, topology.folder
        self._named = WatchList(frozenset(path.absolute() for path in topology.files))
        """Watched before anything is loaded."""
        self._read: dict[Path, str] = {}
        self._folders: set[Path] = set()
        self._newest = 0
        """The generation that `_read` is about."""
        self._sentinel: Process | None = None
        self._exchange: Timer | None = None

    def attach(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._watch_soon()

    def make_first(self) -> MakeWorker:
        """For the generation that the supervisor starts with."""
        return self._make(self._named)

    def _make(self, known: WatchList) -> MakeWorker:
        load = self._orders.load
        return make_worker(
            replace(self._orders, load=lambda tell: load_and_tell(lambda: load(tell), known, tell))
        )

    # -- what is read -----------------------------------------------------------------------------------

    def loaded(self, process: Process, loaded: Loaded) -> None:
        if process.generation < self._newest:
            return
        files = {Path(name): content for name, content in {**loaded.files, **loaded.folders}.items()}
        if process.generation > self._newest:
            self._newest = process.generation
            self._read, self._folders = {}, set()
        known = dict(self._read)
        for path, content in files.items():
            self._read[path] = content if known.get(path, content) == content else TORN
        self._folders |= set(map(Path, loaded.folders))
        if self._read != known:
            self._watch_soon()

    def _watched(self) -> WatchList:
        folders = frozenset(self._folders)
        if not self._read:
            return self._named
        return WatchList(frozenset(self._read) - folders, folders)

    def _watch_soon(self) -> None:
        if self._exchange is None:
            self._exchange = self._supervisor.turns.after(GATHER_SECONDS, self._watch)

    def _watch(self) -> None:
        """Put another sentinel in the place of the one there is."""
        self._exchange = None
        if self._supervisor.stopping:
            return
        former, self._sentinel = self._sentinel, None
        if former is not None:
            self._supervisor.end_helper(former)
        self._sentinel = self._supervisor.start_helper(make_sentinel(self._watched(), self._read))

    # -- what changes -----------------------------------------------------------------------------------

    def noted(self, process: Process, note: Note) -> None:
        if process is not self._sentinel:
            return
        if note.about == CHANGED:
            self._reload(read_paths(note))
        elif note.about == WARNING:
            logger.warning("%s", note.details[0], extra={"event": "watch_degraded"})
        else:  # it ended
            self._sentinel = None
            self._supervisor.turns.after(AGAIN_SECONDS, self._watch)

    def _reload(self, changed: list[Path]) -> None:
        if self._supervisor.stopping:
            return
        logger.info("%s changed, loading", self._name(changed), extra={"event": "reloading"})
        self._supervisor.reload(self._make(self._watched()))

    def _name(self, changed: list[Path]) -> str:
        files = [path for path in changed if path not in self._folders]
        names = shorten(files or [path / "…" for path in changed], self._folder)
        more = len(names) - SHOWN_PATHS
        return ", ".join(names[:SHOWN_PATHS]) + (f" and {more} more" if more > 0 else "")
