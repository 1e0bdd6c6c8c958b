"""Pages of the documentation that are played: their files written, their commands run, their output compared.

A fenced block of a page is one of

    ```yaml, ```python…   the first line is `# name.py`: a file, written before any command runs
    ```console            `$ command` and what it prints; `…` is anything within a line, alone any lines

Commands run in one folder, by a shell, on the embedded server. `leanmq run` runs until every queue is
settled, and what its handlers print is compared (`leanmq run | sort`: in any order). `COMMAND &` stays in the
background until the page ends; the next command starts once it has printed a line, after `leanmq run &` once
that is ready. `wait` waits for those that end by themselves and compares what they printed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.test_examples import run_until_settled
from tests.support.commands import own_environ

PATIENCE_S = 60
_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Step:
    """One command of a page, and what the page says it prints."""

    command: str
    shown: str


@dataclass(frozen=True)
class Page:
    """The parts of a page that are played."""

    files: dict[str, str]
    steps: tuple[Step, ...]
    strays: tuple[str, ...]
    """Blocks that are neither a file nor commands, so nothing checks them."""


def read_page(path: Path) -> Page:
    files: dict[str, str] = {}
    steps: list[Step] = []
    strays: list[str] = []
    for block in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        named = _NAME.match(block["body"])
        if block["kind"] == "console":
            steps += _read_steps(block["body"])
        elif named is not None:
            files[named["name"]] = block["body"]
        else:
            strays.append(block["body"])
    return Page(files, tuple(steps), tuple(strays))


def _read_steps(body: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield Step(command.partition("  #")[0].strip(), shown)


def as_pattern(shown: str) -> str:
    """`…` on a line of its own is any lines, within a line anything."""
    escaped = (re.escape(line).replace("…", ".*") for line in shown.splitlines())
    return "".join("(.*\n)*?" if line == ".*" else f"{line}\n" for line in escaped)


@dataclass
class Player:
    """Plays one page in one folder."""

    folder: Path
    background: list[_Background] = field(default_factory=list)

    def play(self, page: Page) -> None:
        """Raises `AssertionError` at the first command that prints something else than the page shows."""
        for name, text in page.files.items():
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        try:
            for step in page.steps:
                printed = self._run(step.command)
                assert re.fullmatch(as_pattern(step.shown), printed), f"$ {step.command}\n{printed}"
        finally:
            for started in self.background:
                started.end()

    def _run(self, command: str) -> str:
        if command.endswith("&"):
            self.background.append(_Background(command.removesuffix("&").strip(), self.folder))
            return ""
        if command == "wait":
            return "".join(started.wait() for started in self.background if not started.is_worker)
        if command in {"leanmq run", "leanmq run | sort"}:
            output, _ = run_until_settled(self.folder, "embedded:")
            lines = output.splitlines(keepends=True)
            return "".join(sorted(lines) if command.endswith("sort") else lines)
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder, env=environ(), text=True, timeout=PATIENCE_S, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ).stdout  # fmt: skip


class _Background:
    """A command that goes on while others run."""

    def __init__(self, command: str, folder: Path) -> None:
        self.is_worker = command.startswith("leanmq run")
        self._lines: list[str] = []
        self._started = threading.Event()
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder, env=environ(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._listeners = [
            threading.Thread(target=self._listen, args=(stream, kept), daemon=True)
            for stream, kept in ((self._process.stdout, self._lines), (self._process.stderr, []))
        ]
        for listener in self._listeners:
            listener.start()
        assert self._started.wait(PATIENCE_S), f"`{command}` said nothing"

    def _listen(self, stream: Iterator[str], kept: list[str]) -> None:
        for line in stream:
            kept.append(line)
            if "ready" in line or not self.is_worker:
                self._started.set()
        self._started.set()

    def wait(self) -> str:
        """What it printed until it ended."""
        self._process.wait(PATIENCE_S)
        for listener in self._listeners:
            listener.join(PATIENCE_S)
        return "".join(self._lines)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def environ() -> dict[str, str]:
    """As in an activated environment."""
    kept = own_environ()
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}
