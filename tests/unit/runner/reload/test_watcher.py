"""The watcher on a real file system: all ways to change what a path leads to are told, once."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology.runner.reload import watcher as watcher_module
from leanmq_topology.runner.reload.settling import QUIET_SECONDS
from leanmq_topology.runner.reload.snapshot import ABSENT, WatchList, take_snapshot
from leanmq_topology.runner.reload.watcher import Watcher

PATIENCE_SECONDS = 30
NOTHING_SECONDS = 0.6
"""Longer than a quiet time; what is told wrongly would be told by then."""


class Watched:
    """A watcher at work; what it tells can be waited for."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[list[Path]] = queue.SimpleQueue()
        self.warned: list[str] = []
        self.watcher = Watcher(self.told.put, self.warned.append)
        self._thread = threading.Thread(target=self.watcher.run)

    def start(self, *files: Path, folders: frozenset[Path] = frozenset()) -> None:
        watched = WatchList(frozenset(files), folders)
        self.watcher.adopt(watched, take_snapshot(watched))
        self._thread.start()

    def next(self) -> list[Path]:
        return self.told.get(timeout=PATIENCE_SECONDS)

    def nothing_more(self) -> None:
        with pytest.raises(queue.Empty):
            self.told.get(timeout=NOTHING_SECONDS)

    def close(self) -> None:
        self.watcher.close()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


@pytest.fixture(params=["events", "polling", "no events"])
def watched_anyhow(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> Watched:
    """With the system's events, with the polling of `watchfiles`, and where even that is refused."""
    if request.param == "polling":
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "true")
    if request.param == "no events":
        monkeypatch.setattr(watcher_module, "watch", refuse)
    return watched


def refuse(*folders: Path, **options: object) -> Iterator[None]:
    raise OSError("OS file watch limit reached")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.py"
    path.write_text("first")
    return path


def rename_over(file: Path, text: str) -> None:
    """As careful editors save."""
    draft = file.with_name(f".{file.name}.new")
    draft.write_text(text)
    draft.replace(file)


def test_saves_by_renaming_and_in_place_are_told_again_and_again(watched_anyhow: Watched, file: Path):
    watched_anyhow.start(file)
    for text in ("second", "third"):
        rename_over(file, text)
        assert watched_anyhow.next() == [file]
    file.write_text("fourth")
    assert watched_anyhow.next() == [file]


def test_a_save_is_told_once(watched: Watched, file: Path):
    watched.start(file)
    rename_over(file, "second")
    assert watched.next() == [file]
    watched.nothing_more()


def test_a_deleted_file_and_its_return_are_told(watched: Watched, file: Path):
    watched.start(file)
    file.unlink()
    assert watched.next() == [file]
    file.write_text("second")
    assert watched.next() == [file]


def test_a_touch_and_a_save_of_the_same_content_are_not_told(watched: Watched, file: Path):
    watched.start(file)
    os.utime(file, (1, 1))
    rename_over(file, "first")
    (file.parent / "orders.log").write_text("noise")
    watched.nothing_more()


def test_a_swapped_link_is_told(watched: Watched, tmp_path: Path):
    """The way a Kubernetes volume is updated."""
    for release in ("..1", "..2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "topology.yaml").write_text(release)
    (tmp_path / "..data").symlink_to("..1")
    topology = tmp_path / "topology.yaml"
    topology.symlink_to(Path("..data") / "topology.yaml")
    watched.start(topology)
    (tmp_path / "..data_new").symlink_to("..2")
    (tmp_path / "..data_new").replace(tmp_path / "..data")
    assert watched.next() == [topology]


def test_a_module_that_was_missing_is_told_when_it_is_made_folder_and_all(watched: Watched, tmp_path: Path):
    module = tmp_path / "shop" / "tax.py"
    watched.start(module)
    module.parent.mkdir()
    module.write_text("RATE = 0.2")
    assert watched.next() == [module]


def test_what_changed_before_it_was_watched_is_told(watched: Watched, file: Path):
    watched.start(file)
    watched.watcher.adopt(WatchList(frozenset({file})), {file: "what the process read, and is no more"})
    assert watched.next() == [file]


def test_a_watch_list_can_be_exchanged(watched: Watched, file: Path, tmp_path: Path):
    other = tmp_path / "b.py"
    watched.start(file)
    watched.watcher.adopt(WatchList(frozenset({other})), {other: ABSENT})
    other.write_text("here")
    assert watched.next() == [other]
    file.write_text("not watched any more")
    watched.nothing_more()


def test_where_the_system_cannot_tell_it_is_said_once(monkeypatch: pytest.MonkeyPatch, file: Path):
    monkeypatch.setattr(watcher_module, "watch", refuse)
    watched = Watched()
    watched.start(file)
    file.write_text("second")
    watched.next()
    file.write_text("third")
    watched.next()
    watched.close()
    assert watched.warned == [
        "the system cannot tell of changes (OS file watch limit reached); looking every 0.3 s instead"
    ]


def test_fifty_saves_a_second_are_few_changes_and_the_last_one_counts(watched: Watched, file: Path):
    watched.start(file)
    pause, began = threading.Event(), time.monotonic()
    for count in range(60):
        rename_over(file, f"save {count}")
        pause.wait(0.02)
    took = time.monotonic() - began
    told = [watched.next()]
    while True:
        try:
            told.append(watched.told.get(timeout=1.5))
        except queue.Empty:
            break
    assert len(told) <= 2 + took / QUIET_SECONDS, "a busy machine has pauses between saves of its own"
    assert set(map(tuple, told)) == {(file,)}
