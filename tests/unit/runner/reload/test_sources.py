"""What is watched after a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from leanmq_topology.runner.reload.snapshot import WatchList
from leanmq_topology.runner.reload.sources import load_and_tell
from leanmq_topology.runner.reload.witness import ImportWitness
from leanmq_topology.runner.supervisor.wire import Loaded


def fail() -> NoReturn:
    raise ValueError("nothing to load")


def test_one_failure_after_another_watches_no_folder_further_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ImportWitness, "start", lambda witness: None)  # it would stay
    file = tmp_path / "shop" / "topology.yaml"
    file.parent.mkdir()
    known = WatchList(frozenset({file}))
    for _ in range(3):
        told: list[Any] = []
        with pytest.raises(ValueError, match="nothing to load"):
            load_and_tell(fail, known, told.append)
        [loaded] = told
        assert isinstance(loaded, Loaded)
        known |= WatchList(frozenset(map(Path, loaded.files)), frozenset(map(Path, loaded.folders)))
        assert tmp_path not in known.folders, "what others do there is no reason to load again"
        assert (file in known.files, file.parent in known.folders) == (True, True)
