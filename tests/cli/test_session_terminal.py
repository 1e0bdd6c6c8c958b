"""`leanmq shell` on a real terminal: what a person sees who types while messages come."""

from __future__ import annotations

import itertools
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology import connect_sync
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.topology.model import Topology
from tests.support.commands import LEANMQ, own_environ
from tests.support.factories import write_topology
from tests.support.servers import Server

PATIENCE_SECONDS = 30
TOPOLOGY = """
leanmq: 1
name: {namespace}
broker: {{url: "{url}"}}
messages:
  price: {{schema: {{type: object, required: [n], properties: {{n: {{type: integer}}}}}}}}
routes:
  ticker: {{type: ephemeral, accepts: [price]}}
"""


OWN_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""A terminal sends the signals of Ctrl-C only to a session that has made it its own."""


class Screen:
    """A program on a terminal of its own, and what it wrote there."""

    def __init__(self, words: list[str], environ: dict[str, str]) -> None:
        self._near, far = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *words],
            stdin=far, stdout=far, stderr=far, env={**environ, "TERM": "xterm"}, start_new_session=True,
        )  # fmt: skip
        os.close(far)
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def until(self, text: str) -> str:
        """What came up to and with this text, since the last call."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while text not in self._seen:
            ready, _, _ = select.select([self._near], [], [], max(ends - time.monotonic(), 0))
            assert ready, f"{text!r} did not come, but {self._seen!r}"
            self._seen += os.read(self._near, 65536).decode()
        before, found, self._seen = self._seen.partition(text)
        return before + found

    def interrupt(self, prompt: str) -> None:
        """Ctrl-C, and the prompt that it brings. CPython loses one that comes while a word is completed, and
        sees one between two looks at the keyboard with the next key only: a space, then Ctrl-C again."""
        ends, keys = time.monotonic() + PATIENCE_SECONDS, itertools.cycle(["\x03", " "])
        while prompt not in self._seen:
            assert time.monotonic() < ends, f"{prompt!r} did not come, but {self._seen!r}"
            self.type(next(keys))
            while prompt not in self._seen and select.select([self._near], [], [], 2)[0]:
                self._seen += os.read(self._near, 65536).decode()
        self._seen = self._seen.partition(prompt)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._near)


@pytest.fixture
def file(valkey: Server, namespace: str, tmp_path: Path) -> Path:
    made = tmp_path / "topology.yaml"
    made.write_text(TOPOLOGY.format(namespace=namespace, url=valkey.url))
    admin = BlockingRedisConnection.open(parse_address(valkey.url))
    write_topology(admin, Topology.load(made))
    admin.close()
    return made


@pytest.fixture
def screen(file: Path, namespace: str, tmp_path: Path) -> Iterator[Screen]:
    environ = {**own_environ(), "XDG_STATE_HOME": str(tmp_path / "state")}
    opened = Screen([*LEANMQ, "shell", "--write", "-f", str(file)], environ)
    opened.until(f"{namespace}> ")
    yield opened
    opened.close()


def test_a_message_that_comes_while_somebody_types_leaves_what_was_typed_on_the_line(
    screen: Screen, file: Path, namespace: str
):
    prompt = f"{namespace}> "
    screen.type("sub ticker\n")
    screen.until("listening to ticker")
    screen.until(prompt)
    screen.type("pub tick")
    screen.until("pub tick")
    with connect_sync(str(file)) as mq:
        assert mq.publish("ticker", {"n": 7}) == 1
    assert '{"n":7}' in screen.until('{"n":7}')
    assert screen.until(f"{prompt}pub tick").lstrip("\r\n") == f"{prompt}pub tick"
    screen.type('er {"n": 8}\n')
    screen.until("heard by 1")


def test_tab_completes_ctrl_c_clears_the_line_and_ctrl_d_ends_the_session(
    screen: Screen, namespace: str, tmp_path: Path
):
    prompt = f"{namespace}> "
    screen.type("sub tick\t")
    screen.until("sub ticker")
    screen.interrupt(prompt)
    screen.type("stats\n")
    screen.until("published")
    screen.until(prompt)
    screen.type("\x04")
    assert screen.process.wait(PATIENCE_SECONDS) == 0
    assert "stats" in (tmp_path / "state" / "leanmq" / "history").read_text()
