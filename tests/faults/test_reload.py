"""Hot reload under load: every kind of edit, again and again; nothing is lost, and nothing runs twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.catalogue import Figures
from tests.support.processes import wait_until
from tests.support.project import PATIENCE_SECONDS, Run
from tests.support.reloading import BAD, GOOD, Load, Workshop, count_runs, find_gaps, start_watched
from tests.support.servers import Server

RATE = 200
SLOW_MACHINE = 15
"""How many times slower than the figures that are promised a busy machine may be."""


class Trial:
    """One worker, one load, many edits, and the times that they took."""

    def __init__(self, workshop: Workshop, run: Run) -> None:
        self.workshop, self.run = workshop, run
        self.delays: list[float] = []
        self.reloads = 0

    def good(self, edit) -> None:
        edit(self.workshop)
        self.delays.append(self.workshop.await_new_code(time.monotonic()))
        self.reloads += 1

    def bad(self, edit) -> None:
        """Refused, told, and mended."""
        told = edit(self.workshop)
        assert "keeps serving" in self.run.line("is refused")
        assert told in self.run.line("error LMQ")
        seen = len(self.workshop.events())
        wait_until(
            lambda: len(self.workshop.events()) > seen, "the old code going on", seconds=PATIENCE_SECONDS
        )
        self.reloads += 1
        self.good(Workshop.mend)

    def asleep(self) -> None:
        """A start that takes for ever is given up for the next save."""
        self.workshop.fall_asleep()
        self.run.line("changed, loading")
        self.reloads += 1
        self.good(Workshop.mend)

    def round(self) -> None:
        for edit in GOOD:
            self.good(edit)
        for broken in BAD:
            self.bad(broken)
        self.asleep()


def try_it(trial: Trial, rounds: int, figures: Figures) -> list[float]:
    """Edit under load, let everything be run, end the worker; returns the gaps."""
    workshop, run = trial.workshop, trial.run
    with Load(workshop, RATE) as load:
        for _ in range(rounds):
            trial.round()
    wait_until(
        lambda: len({event.n for event in workshop.events() if event.kind == "end"}) == load.sent,
        "the last message",
        seconds=PATIENCE_SECONDS,
    )
    processes = psutil.Process(run.process.pid).children(recursive=True)
    run.signal(signal.SIGTERM)
    assert run.ended() == 0
    psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
    assert not [process for process in processes if process.is_running()]
    runs = count_runs(workshop.events())
    lost = [n for n in range(load.sent) if n not in runs]
    twice = [n for n, count in runs.items() if count > 1]
    gaps = find_gaps([event.at for event in workshop.events() if event.kind == "start"], load.sent_at)
    figures.report(
        "F60",
        reloads=trial.reloads,
        sent=load.sent,
        lost=len(lost),
        run_twice=len(twice),
        until_new_code_s=trial.delays,
        longest_gap_s=max(gaps),
    )
    assert (lost, twice) == ([], [])
    return gaps


@pytest.fixture
def workshop(tmp_path: Path, valkey: Server, namespace: str) -> Workshop:
    return Workshop(tmp_path, valkey, namespace)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_of_edit_under_load_loses_nothing_and_runs_nothing_twice(
    workshop: Workshop, figures: Figures, workers: int
):
    run = start_watched(workshop, "--workers", str(workers))
    try:
        trial = Trial(workshop, run)
        gaps = try_it(trial, 1, figures)
        assert max(gaps) < 0.3 * SLOW_MACHINE
        assert sorted(trial.delays)[len(trial.delays) // 2] < 1.0 * SLOW_MACHINE
    finally:
        run.close()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_reloads_keep_the_promised_times(workshop: Workshop, figures: Figures):
    run = start_watched(workshop)
    try:
        trial = Trial(workshop, run)
        gaps = try_it(trial, 5, figures)
        assert trial.reloads >= 100
        assert sorted(trial.delays)[int(len(trial.delays) * 0.95)] < 1.0
        assert max(gaps) < 0.3
    finally:
        run.close()
