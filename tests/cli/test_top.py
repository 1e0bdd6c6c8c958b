"""`leanmq top`: on a terminal a frame that stays, elsewhere one look."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import LEANMQ, leanmq, own_environ, read_answer
from tests.support.processes import wait_until
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
queues:
  billing: {{accepts: [order], ttl: 1d}}
messages:
  order: {{schema: {{type: object}}}}
"""


@pytest.fixture
def project(tmp_path: Path, namespace: str, valkey: Server) -> Path:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY.format(namespace=namespace))
    assert leanmq("apply", folder=tmp_path, url=valkey.url).returncode == 0
    return tmp_path


def test_without_a_terminal_it_is_one_look_with_a_rate(project: Path, valkey: Server):
    leanmq("send", "billing", "{}", folder=project, url=valkey.url)
    found = read_answer(leanmq("top", "--every", "50ms", "-o", "json", folder=project, url=valkey.url))
    assert found["queues"]["billing"]["ready"] == 1
    assert found["queues"]["billing"]["acked_per_second"] == 0
    text = leanmq("top", "--every", "50ms", "--count", "2", folder=project, url=valkey.url).stdout
    assert text.count("queue    ready") == 2


def test_on_a_terminal_it_stays_and_follows_until_ctrl_c(project: Path, valkey: Server):
    reader, terminal = pty.openpty()
    seen = b""

    def shows(text: bytes) -> bool:
        nonlocal seen
        seen += os.read(reader, 65536)
        return text in seen

    process = subprocess.Popen(
        [*LEANMQ, "top", "--every", "50ms"],
        cwd=project, env={**own_environ(valkey.url), "NO_COLOR": "1", "TERM": "xterm"},
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(terminal)
    try:
        wait_until(lambda: shows(b"billing      0"), "the first frame", seconds=45)
        assert leanmq("send", "billing", "{}", folder=project, url=valkey.url).returncode == 0
        wait_until(lambda: shows(b"billing      1"), "the message", seconds=45)
        process.send_signal(signal.SIGINT)
        assert process.wait(45) == 0
        while True:
            try:
                if not (rest := os.read(reader, 65536)):
                    break
            except OSError:  # how Linux tells of the end of a terminal
                break
            seen += rest
        assert seen.rstrip().endswith(b"\x1b[?25h")  # the cursor is back
        assert b"Traceback" not in seen
    finally:
        process.kill()
        process.wait()
        os.close(reader)
