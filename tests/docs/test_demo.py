"""`leanmq demo` as a newcomer runs it: what it shows, how long it takes, what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.commands import own_environ


def run_demo(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**own_environ(), "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "leanmq_topology.cli.main", "demo", *arguments],
        cwd=folder, env=environ, text=True, capture_output=True, timeout=110, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], float, Path]:
    folder = tmp_path_factory.mktemp("demo")
    started = time.monotonic()
    done = run_demo(folder=folder)
    return done, time.monotonic() - started, folder


def test_the_demo_ends_well_and_soon(demo):
    done, seconds, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert seconds < 60  # 20 s is the promise; test runs share their cores


def test_the_demo_shows_the_whole_system(demo):
    said = demo[0].stdout
    for scene in (
        "leanmq apply",
        "leanmq run",
        "leanmq send order-events",
        "leanmq sub ticker",
        "leanmq request get-quote",
        "leanmq status",
        "leanmq dlq list",
    ):
        assert f"$ {scene}" in said
    assert "charged 12.00 for A-2 (attempt 2)" in said  # a retry that worked
    assert "/total" in said  # a message that never left
    assert "CardDeclinedError" in said  # a dead letter with its reason
    assert '\n  {"sku":"mug","price":8.5}\n' in said  # the answer to a request
    assert 'ticker  quote.given  {"sku":"mug","price":8.5}' in said  # heard on an ephemeral channel
    assert "None was lost" in said


def test_the_demo_leaves_no_process_and_no_file_behind(demo):
    _, _, folder = demo
    mine = str(folder)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and (left := processes_below(mine)):
        psutil.wait_procs(left, timeout=0.2)
    assert processes_below(mine) == []
    assert list(folder.iterdir()) == []


def test_a_demo_that_is_told_to_end_takes_everything_with_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "leanmq_topology.cli.main", "demo"],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as told:
        assert any("leanmq run" in line for line in told)  # the worker starts now
        process.terminate()
        told.read()
    assert process.wait(40) == 143
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and (left := processes_below(str(tmp_path))):
        psutil.wait_procs(left, timeout=0.2)
    assert processes_below(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_kept_example_is_a_working_project(tmp_path):
    done = run_demo("--keep", str(tmp_path / "shop"), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "shop" / "topology.yaml").is_file()


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    done = run_demo("--keep", str(tmp_path / "mine"), folder=tmp_path)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert (tmp_path / "mine" / "file").read_text() == "mine"


def processes_below(folder: str) -> list[psutil.Process]:
    """Processes whose command line or working directory lies in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if folder in " ".join(process.cmdline()) or process.cwd().startswith(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found
