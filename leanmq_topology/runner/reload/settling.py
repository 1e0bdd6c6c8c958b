"""When an edit is over: a burst of saves is one reload, and a storm without end still gets one a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from leanmq_topology.runner.reload.snapshot import Snapshot, list_changes

QUIET_SECONDS = 0.2
"""Nothing must change for so long; editors write a file in several steps, and people save several files."""
PATIENCE_SECONDS = 1.0
"""Whatever keeps changing is tried at the latest after this."""


@dataclass(slots=True)
class Settling:
    """Compares what is seen with what was loaded. Time is passed in, in seconds."""

    loaded: dict[Path, str] = field(default_factory=dict)
    """What the newest generation was made of, or was tried to be."""
    _seen: Mapping[Path, str] | None = None
    _first_at: float = 0.0
    _last_at: float = 0.0

    def adopt(self, snapshot: Snapshot) -> None:
        """A generation was made of this, whether it serves or failed; only another content is news."""
        self.loaded, self._seen = dict(snapshot), None

    def note(self, snapshot: Snapshot, now: float) -> list[Path]:
        """The changed places once they are quiet, else none. Content that came back is no change."""
        changed = list_changes(self.loaded, snapshot)
        if not changed:
            self._seen = None
            return []
        if self._seen is None:
            self._first_at = self._last_at = now
        elif list_changes(self._seen, snapshot):
            self._last_at = now
        self._seen = snapshot
        if now < self.due_at:
            return []
        self.loaded.update({path: snapshot[path] for path in changed})
        self._seen = None
        return changed

    @property
    def is_restless(self) -> bool:
        """Something changed and is not over yet."""
        return self._seen is not None

    @property
    def due_at(self) -> float:
        """When to look again, while restless."""
        return min(self._last_at + QUIET_SECONDS, self._first_at + PATIENCE_SECONDS)
