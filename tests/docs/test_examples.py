"""The examples do what they say: each is applied and run on a real server, and its output compared."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import own_environ
from tests.support.processes import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(folder.parent for folder in (ROOT / "examples").glob("*/orders.ndjson"))


def leanmq(*words: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leanmq_topology.cli.main", *words],
        cwd=folder,
        env=own_environ(url),
        text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_prints_what_it_says(example: Path, tmp_path: Path, server):
    folder = tmp_path / example.name
    shutil.copytree(example, folder)
    url = server.url
    applied = leanmq("apply", folder=folder, url=url)
    assert applied.returncode == 0, applied.stderr
    for order in (folder / "orders.ndjson").read_text().splitlines():
        sent = leanmq("send", "order-events", order, folder=folder, url=url)
        assert sent.returncode == 0, sent.stderr
    output, _ = run_until_settled(folder, url)
    handled = sorted(
        line for line in output.splitlines() if line.split(":")[0] in {"alarm", "billing", "mail", "stock"}
    )
    assert handled == (folder / "expected_output.txt").read_text().splitlines()
    dead = json.loads(leanmq("dlq", "list", "-o", "json", folder=folder, url=url).stdout)["messages"]
    assert sorted((letter["data"]["order_id"], letter["reason"], letter["attempts"]) for letter in dead) == [
        ("A-3", "failed", 3),
        ("A-4", "rejected", 1),
    ]


def run_until_settled(folder: Path, url: str) -> tuple[str, str]:
    """Run the worker until all that it reads is empty; returns what its handlers printed, and its log."""
    process = subprocess.Popen(
        [sys.executable, "-m", "leanmq_topology.cli.main", "run"],
        cwd=folder,
        env=own_environ(url),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    is_settled = False
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_settled and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            is_settled = settled(folder, url)
    finally:
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert is_settled, f"not every queue that it reads got empty\n{log}"
    assert process.returncode == 0, log
    return output, log


def settled(folder: Path, url: str) -> bool:
    """A worker is there, and nothing is left in the queues that it reads."""
    status = json.loads(leanmq("status", "-o", "json", folder=folder, url=url).stdout)
    read = {name for worker in status["workers"] for name in worker["queues"]}
    kinds = ("ready", "in_flight", "delayed")
    return bool(read) and not any(status["queues"][name][kind] for name in read for kind in kinds)


def test_the_commented_example_is_valid_and_applies(tmp_path, valkey):
    shutil.copy(ROOT / "topology.example.yaml", tmp_path / "topology.yaml")
    assert leanmq("validate", "--strict", folder=tmp_path, url=valkey.url).returncode == 0
    applied = leanmq("apply", folder=tmp_path, url=valkey.url)
    assert applied.returncode == 0, applied.stderr
    sent = leanmq("send", "order-events", "--example", folder=tmp_path, url=valkey.url)
    assert sent.returncode == 0, sent.stderr
