"""Looks at the watched files whenever something stirs near them, and tells of changes once they are over.

Events only wake; what the files hold decides. A look now and then, though nothing stirred, is the net below
that: network and container file systems lose events, and some have none at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from watchfiles import watch

from leanmq_topology.runner.reload.places import list_folders
from leanmq_topology.runner.reload.settling import Settling
from leanmq_topology.runner.reload.snapshot import Snapshot, WatchList, take_snapshot

LOOK_SECONDS = 2.0
"""A change of which the system does not tell is found within this."""
STEP_MS = 30
"""How often `watchfiles` asks itself for events; each time costs 50 µs, all day long."""
RESTLESS_SECONDS = 0.05
"""Between looks while an edit is under way."""
POLL_SECONDS = 0.3
"""Between looks where the system cannot tell of changes."""


class Watcher:
    """Runs in a thread of its own; `tell` is called there with the places that changed."""

    def __init__(
        self,
        tell: Callable[[list[Path]], None],
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._tell, self._warn = tell, warn
        self._settling = Settling()
        self._watched = WatchList()
        self._stirred = threading.Event()
        self._lock = threading.Lock()
        self._news: tuple[WatchList, Snapshot] | None = None
        self._closed = False
        self._can_listen = True

    def adopt(self, watched: WatchList, loaded: Snapshot) -> None:
        """Watch these from now on. `loaded` is what was read of them; what differs from it is a change."""
        with self._lock:
            self._news = (watched, loaded)
        self._stirred.set()

    def close(self) -> None:
        """Have `run` return."""
        self._closed = True
        self._stirred.set()

    def run(self) -> None:
        while not self._closed:
            self._take_news()
            folders = list_folders(self._watched.places)
            with closing(self._wake_ups(folders)) as wake_ups:
                for _ in wake_ups:
                    self._look()
                    if self._stirred.is_set() or list_folders(self._watched.places) != folders:
                        break

    def _take_news(self) -> None:
        with self._lock:
            news, self._news = self._news, None
            if not self._closed:
                self._stirred.clear()
        if news is None:
            return
        watched, loaded = news
        self._watched = watched
        # What nobody has read yet counts as it is now.
        unread = WatchList(watched.files - loaded.keys(), watched.folders - loaded.keys())
        self._settling.adopt({**take_snapshot(unread), **loaded})

    def _look(self) -> None:
        """Look until what changed is quiet, and tell."""
        while not self._stirred.is_set():
            changed = self._settling.note(take_snapshot(self._watched), time.monotonic())
            if changed:
                self._tell(changed)
            if not self._settling.is_restless:
                return
            self._stirred.wait(RESTLESS_SECONDS)

    def _wake_ups(self, folders: frozenset[Path]) -> Generator[None, None, None]:
        """At once, then whenever something stirs in one of the folders, and now and then without that."""
        yield None
        while not self._stirred.is_set():
            if self._can_listen and folders:
                yield from self._listen(folders)
            elif not self._stirred.wait(POLL_SECONDS):
                yield None

    def _listen(self, folders: frozenset[Path]) -> Generator[None, None, None]:
        try:
            stirs = watch(
                *folders,
                watch_filter=None,
                recursive=False,
                step=STEP_MS,
                debounce=2 * STEP_MS,
                rust_timeout=int(LOOK_SECONDS * 1000),
                yield_on_timeout=True,
                stop_event=self._stirred,
                raise_interrupt=False,
            )
            for _ in stirs:
                yield None
        except FileNotFoundError:
            yield None  # one of the folders has just gone; which ones there are now is asked anew
        except (OSError, RuntimeError) as failure:
            self._can_listen = False
            self._warn(
                f"the system cannot tell of changes ({failure}); looking every {POLL_SECONDS:g} s instead"
            )
