"""What the reloader has its supervisor do. No process is started: the supervisor is a stand-in that notes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology.runner.reload import reloader as module
from leanmq_topology.runner.reload.reloader import TORN, Reloader
from leanmq_topology.runner.reload.sentinel import CHANGED, WARNING
from leanmq_topology.runner.reload.snapshot import WatchList
from leanmq_topology.runner.supervisor.wire import Loaded, Note
from leanmq_topology.runner.supervisor.worker_process import Orders

FOLDER = Path("/shop")
CODE = str(FOLDER / "handlers.py")
TOPOLOGY = FOLDER / "topology.yaml"


class StandIn:
    """A supervisor whose clock stands still until it is told to go on."""

    def __init__(self) -> None:
        self.turns = SimpleNamespace(after=self._after)
        self.timers: list[Any] = []
        self.stopping = False
        self.current: Any = SimpleNamespace(number=1)
        self.coming: Any = None
        self.helpers: list[Any] = []
        self.ended: list[Any] = []
        self._numbers = 1

    def _after(self, seconds: float, callback: Callable[[], None]) -> Any:
        timer = SimpleNamespace(seconds=seconds, callback=callback, live=True)
        timer.cancel = lambda: setattr(timer, "live", False)
        self.timers.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Everything that is due by then happens."""
        due = [timer for timer in self.timers if timer.seconds <= seconds]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            if timer.live:
                timer.callback()

    def start_helper(self, main: Any) -> Any:
        self.helpers.append(main)
        return SimpleNamespace(number=len(self.helpers))

    def end_helper(self, process: Any) -> None:
        self.ended.append(process)

    def reload(self, make: Any) -> Any:
        self._numbers += 1
        self.coming = SimpleNamespace(number=self._numbers)
        return self.coming


@pytest.fixture
def supervisor() -> StandIn:
    return StandIn()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[WatchList, dict[Path, str]]]:
    """What each sentinel was told to watch."""
    told: list[Any] = []
    monkeypatch.setattr(
        module, "make_sentinel", lambda watched, read: told.append((watched, dict(read))) or watched
    )
    return told


@pytest.fixture
def reloader(supervisor: StandIn, watched: list[Any]) -> Reloader:
    topology: Any = SimpleNamespace(folder=FOLDER, files=(TOPOLOGY,))
    nothing: Any = None
    orders = Orders(load=nothing, find_url=nothing, announce=nothing)
    made = Reloader(orders, topology)
    made.attach(supervisor)  # type: ignore[arg-type]
    supervisor.pass_time(1)
    return made


def tell(reloader: Reloader, about: str, *details: str) -> None:
    sentinel = reloader._sentinel
    assert sentinel is not None
    reloader.noted(sentinel, Note(about, details))


def load(reloader: Reloader, generation: int, **read: str) -> None:
    files = {str(FOLDER / f"{name}.py"): content for name, content in read.items()}
    process: Any = SimpleNamespace(generation=generation)
    reloader.loaded(process, Loaded(files))


def test_before_anything_is_loaded_the_topology_is_watched(reloader: Reloader, watched: list[Any]):
    assert [found.files for found, _ in watched] == [{TOPOLOGY}]


def test_what_was_loaded_is_watched_from_then_on(reloader: Reloader, supervisor: StandIn, watched: list[Any]):
    load(reloader, 1, handlers="1", tax="1")
    supervisor.pass_time(1)
    found, read = watched[-1]
    assert found.files == {FOLDER / "handlers.py", FOLDER / "tax.py"}
    assert read == {FOLDER / "handlers.py": "1", FOLDER / "tax.py": "1"}
    assert len(supervisor.ended) == 1  # the sentinel before


def test_processes_that_tell_the_same_exchange_nothing(
    reloader: Reloader, supervisor: StandIn, watched: list[Any]
):
    load(reloader, 1, handlers="1")
    supervisor.pass_time(1)
    load(reloader, 1, handlers="1")
    supervisor.pass_time(1)
    assert len(watched) == 2


def test_a_file_that_two_processes_read_in_two_versions_counts_as_changed(
    reloader: Reloader, supervisor: StandIn, watched: list[Any]
):
    load(reloader, 1, handlers="1")
    load(reloader, 1, handlers="2")
    supervisor.pass_time(1)
    assert watched[-1][1] == {FOLDER / "handlers.py": TORN}


def test_a_module_that_is_imported_later_is_watched_beside_the_others(
    reloader: Reloader, supervisor: StandIn, watched: list[Any]
):
    load(reloader, 1, handlers="1")
    load(reloader, 1, rates="1")
    supervisor.pass_time(1)
    assert set(watched[-1][1]) == {FOLDER / "handlers.py", FOLDER / "rates.py"}


def test_what_an_older_generation_tells_late_changes_nothing(
    reloader: Reloader, supervisor: StandIn, watched: list[Any]
):
    load(reloader, 2, handlers="2")
    load(reloader, 1, handlers="1", old="1")
    supervisor.pass_time(1)
    assert watched[-1][1] == {FOLDER / "handlers.py": "2"}


def test_a_change_starts_another_generation_and_the_log_names_the_file(
    reloader: Reloader, supervisor: StandIn, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "leanmq.runner")
    tell(reloader, CHANGED, CODE)
    assert supervisor.coming.number == 2
    assert "handlers.py changed, loading" in caplog.messages


def test_many_changed_files_are_named_in_short(reloader: Reloader, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "leanmq.runner")
    tell(reloader, CHANGED, *(str(FOLDER / f"{name}.py") for name in "abcde"))
    assert "a.py, b.py, c.py and 2 more changed, loading" in caplog.messages


def test_a_sentinel_that_died_is_replaced_and_one_that_was_exchanged_is_not(
    reloader: Reloader, supervisor: StandIn, watched: list[Any]
):
    tell(reloader, "ended", "SIGKILL")
    supervisor.pass_time(2)
    assert len(watched) == 2
    exchanged: Any = SimpleNamespace()
    reloader.noted(exchanged, Note("ended", ("SIGKILL",)))
    supervisor.pass_time(2)
    assert len(watched) == 2


def test_nothing_is_started_while_everything_stops(
    reloader: Reloader, supervisor: StandIn, watched: list[Any]
):
    supervisor.stopping = True
    tell(reloader, CHANGED, CODE)
    tell(reloader, "ended")
    supervisor.pass_time(60)
    assert supervisor.coming is None
    assert len(watched) == 1


def test_a_watch_that_cannot_listen_is_told(reloader: Reloader, caplog: pytest.LogCaptureFixture):
    tell(reloader, WARNING, "the system cannot tell of changes")
    assert "the system cannot tell of changes" in caplog.text
