"""The process that watches files for a supervisor: the system's watch needs threads, and the parent forks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from leanmq_topology.runner.reload.snapshot import Snapshot, WatchList
from leanmq_topology.runner.supervisor.wire import Note

if TYPE_CHECKING:
    from leanmq_topology.runner.supervisor.process import Main, Upward

CHANGED = "changed"
WARNING = "warning"


def make_sentinel(watched: WatchList, read: Snapshot) -> Main:
    """It is told what to watch when it is made, and replaced when that is another; nothing is missed in
    between, because it compares with what was read."""

    def live(upward: Upward) -> int:
        from leanmq_topology.runner.reload.watcher import Watcher

        ended = threading.Event()
        watcher = Watcher(
            lambda paths: upward.tell(Note(CHANGED, tuple(map(str, paths)))),
            lambda text: upward.tell(Note(WARNING, (text,))),
        )

        def stop(orphaned: bool) -> None:
            ended.set()
            watcher.close()

        upward.on_stop(stop)
        watcher.adopt(watched, read)
        watcher.run()
        return 0

    return live


def read_paths(note: Note) -> list[Path]:
    """The changed places of a `CHANGED` note."""
    return [Path(name) for name in note.details]
