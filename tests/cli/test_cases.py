"""Whole commands against recorded output: each folder of `cases/` is one story.

`steps` holds one command a line, run in a copy of the folder; `expected.txt` what it printed: stdout as it
is, stderr behind `! `, and the exit code where it is not 0. After a wanted change of output, record it anew
with LEANMQ_RECORD_CASES=1 and read the difference before committing it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
RECORDS = bool(os.environ.get("LEANMQ_RECORD_CASES"))
IS_OWN = ("expected.txt", "steps")


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda case: case.name)
def test_a_story_is_told_as_recorded(case: Path, tmp_path: Path):
    folder = tmp_path / "work"
    shutil.copytree(case, folder, ignore=shutil.ignore_patterns(*IS_OWN, "__pycache__"))
    steps = [line for line in (case / "steps").read_text(encoding="utf-8").splitlines() if line.strip()]

    told = "\n".join(run_step(step, folder) for step in steps)

    if RECORDS:
        (case / "expected.txt").write_text(told, encoding="utf-8")
    assert told == (case / "expected.txt").read_text(encoding="utf-8")
    assert steps


def run_step(step: str, folder: Path) -> str:
    """What one command prints. `NAME=value` before it sets a variable."""
    words = shlex.split(step)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words[0] == "leanmq"
    ended = subprocess.run(
        [sys.executable, "-m", "leanmq_topology.cli.main", *words[1:]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", **variables},
        capture_output=True,
        encoding="utf-8",
        timeout=200,
        check=False,
    )
    errors = "".join(f"! {line}".rstrip() + "\n" for line in ended.stderr.splitlines())
    code = f"[exit {ended.returncode}]\n" if ended.returncode else ""
    return f"$ {step}\n{ended.stdout}{errors}{code}"
