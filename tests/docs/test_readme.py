"""The README is true: its commands are run as they stand, and what they print is what it shows."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.test_examples import run_until_settled
from tests.support.commands import own_environ

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

BLOCK = re.compile(r"<!-- (?P<label>[^\n]*?) -->\n```(?:console|sh)\n(?P<body>.*?)```", re.DOTALL)
VARIES = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d+ s ago"), "N s ago"),
)


@dataclass(frozen=True)
class Step:
    """One `$ command` of a block and the output shown under it."""

    command: str
    output: str


def blocks(label: str) -> Iterator[tuple[str, str]]:
    for found in BLOCK.finditer(README):
        if found["label"].startswith(label):
            yield found["label"].removeprefix(label).lstrip(": "), found["body"]


def steps(body: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output)


def settle(text: str) -> str:
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return text.strip()


@pytest.fixture
def environ() -> dict[str, str]:
    """As in an activated environment, on the embedded server."""
    kept = own_environ()
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}


def test_the_tour_prints_what_the_readme_shows(tmp_path: Path, environ: dict[str, str]):
    folder = tmp_path / "shop"
    assert shell("leanmq demo --keep shop", tmp_path, environ).returncode == 0
    shell("rm -rf .leanmq", folder, environ)
    log = ""
    for edits, body in blocks("tour"):
        if edits.startswith("after the worker"):
            _, log = run_until_settled(folder, "embedded:")
        elif edits:
            shell(f"sed -i.old {shlex.quote(edits)} topology.yaml", folder, environ)
        for step in steps(body):
            done = shell(step.command, folder, environ)
            assert settle(done.stdout + done.stderr) == settle(step.output), f"{step.command}\n{log}"


def test_the_tour_has_all_its_blocks():
    assert len(list(blocks("tour"))) == 5


def test_command_one_works_in_a_fresh_clone(tmp_path: Path, environ: dict[str, str]):
    (_, command), = blocks("command one")  # fmt: skip
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    done = shell(command.strip(), clone, {**environ, "PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "None was lost" in done.stdout


def test_command_two_is_what_ci_runs():
    (_, command), = blocks("command two")  # fmt: skip
    target = command.strip().removeprefix("make ")
    assert re.search(rf"^make .*\b{target}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def shell(command: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=environ, text=True, capture_output=True, timeout=230, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
