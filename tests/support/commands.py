"""`leanmq` as a process of its own, in a folder and an environment that are the test's alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from leanmq_topology.cli.main import main

LEANMQ = (sys.executable, "-m", "leanmq_topology.cli.main")
Done = subprocess.CompletedProcess[str]


def leanmq(
    *words: str,
    folder: Path,
    url: str | None = None,
    stdin: str | None = None,
    stdout: int | IO[Any] = subprocess.PIPE,
    environ: Mapping[str, str] | None = None,
) -> Done:
    """Run one command to its end. `url` becomes LEANMQ_URL; standard input is empty unless given."""
    return subprocess.run(
        [*LEANMQ, *words],
        cwd=folder,
        env={**own_environ(url), **(environ or {})},
        input=stdin or "",
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@dataclass(frozen=True)
class Ended:
    """A command that was run in the process of its test."""

    code: object
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def leanmq_here(capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """Run one command to its end without a process of its own."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return Ended(ended.value.code, out, err)


def own_environ(url: str | None = None) -> dict[str, str]:
    """This process's environment without what would steer a command.

    Unbuffered, a line and its end are two writes, between which another thread may print.
    """
    steering = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONUNBUFFERED"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEANMQ")}
    kept = {name: value for name, value in kept.items() if name not in steering}
    return {**kept, **({"LEANMQ_URL": url} if url else {})}


def read_answer(done: Done) -> dict[str, Any]:
    """The one JSON document a command printed."""
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer
