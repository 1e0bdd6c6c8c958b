"""The evening of the README is played as it stands: what is typed, and what `leanmq dev` says to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from leanmq_topology.brokers.embedded.launcher import look
from tests.support.processes import wait_until
from tests.support.project import PATIENCE_SECONDS, Project, Run

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EVENING = re.compile(r"<!-- evening -->\n```console\n(.*?)```", re.DOTALL)
VARIES = re.compile(r"\d\d:\d\d:\d\d|\d+\.\d\d s$")


def settle(line: str) -> str:
    return VARIES.sub("…", line.rstrip())


def shell(command: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LEANMQ")}
    subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env={**environ, "PATH": path}, check=True, timeout=100, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.timeout(400)
def test_the_evening_goes_as_the_readme_tells(tmp_path: Path):
    [story] = EVENING.findall(README)
    first, *lines = story.splitlines()
    assert first.startswith("$ ")
    assert first.endswith(" && cd shop && leanmq dev")
    shell(first.removeprefix("$ ").removesuffix(" && leanmq dev"), tmp_path)
    run = Run(Project(tmp_path / "shop"), command="dev")
    try:
        for line in lines:
            if line.startswith("# "):
                shell(line.removeprefix("# "), tmp_path / "shop")
            else:
                wait_for(run, settle(line))
        processes = psutil.Process(run.process.pid).children(recursive=True)
        run.signal(signal.SIGINT)
        assert run.ended() == 0
        assert "stopped: 2 handled" in run.seen[-1]
        assert not psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)[1]
        gone = tmp_path / "shop"
        wait_until(lambda: look(gone) is None, "the end of the broker", seconds=PATIENCE_SECONDS)
    finally:
        run.close()


def wait_for(run: Run, line: str) -> None:
    """The next line that is this one, but for times."""
    while settle(run.line("")) != line:
        assert "Traceback" not in run.seen[-1]
