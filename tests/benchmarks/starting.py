"""What starting and keeping a worker costs: `python -m tests.benchmarks.starting`.

From `exec` to the first message, memory of the worker and of its parent, and what both burn while they have
nothing to do, with as many queues as asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from leanmq_topology.client import connect_sync
from tests.support.servers import Server, require_binary

TOPOLOGY = {
    "leanmq": 1,
    "name": "bench",
    "messages": {"task": {"schema": {"type": "object"}}},
}
HANDLERS = """
import os

async def take(data):
    os.write(1, b"message\\n")
"""


def write_project(folder: Path, queues: int) -> None:
    names = [f"q{number:03}" for number in range(queues)]
    topology = {
        **TOPOLOGY,
        "queues": {name: {"accepts": ["task"]} for name in names},
        "handlers": {name: {"queue": name, "call": "tasks:take"} for name in names},
    }
    (folder / "topology.yaml").write_text(json.dumps(topology))  # JSON is YAML
    (folder / "tasks.py").write_text(HANDLERS)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "leanmq_topology.cli.main", *words]


def burnt(process: psutil.Process) -> float:
    """CPU seconds by the clock of the process itself: the ticks of /proc are too coarse for an idle one."""
    return time.clock_gettime((~process.pid << 3) | 2)


def start_once(folder: Path, url: str, environ: dict[str, str], idle_seconds: float) -> None:
    with connect_sync(folder / "topology.yaml", url=url) as mq:
        mq.send("q000", {})
    since = time.monotonic()
    parent = subprocess.Popen(command("run"), cwd=folder, env=environ, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    assert parent.stdout is not None
    parent.stdout.readline()
    took = time.monotonic() - since
    above = psutil.Process(parent.pid)
    [worker] = above.children()
    spent = burnt(above) + burnt(worker)
    memory = worker.memory_full_info()
    print(
        f"exec to first message {took * 1000:.0f} ms, CPU {spent * 1000:.0f} ms; worker "
        f"{memory.rss / 2**20:.1f} MiB, {memory.uss / 2**20:.1f} of them its own; parent "
        f"{above.memory_info().rss / 2**20:.1f} MiB",
        flush=True,
    )
    STARTS.append(took)
    if idle_seconds:
        time.sleep(1.0)
        at, before = time.monotonic(), (burnt(worker), burnt(above))
        time.sleep(idle_seconds)
        spent_s = time.monotonic() - at
        print(
            f"idle for {spent_s:.0f} s: worker {(burnt(worker) - before[0]) / spent_s:.3%} of a processor, "
            f"parent {(burnt(above) - before[1]) / spent_s:.3%}"
        )
    parent.send_signal(signal.SIGTERM)
    parent.wait()
    parent.stdout.close()


STARTS: list[float] = []


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--queues", type=int, default=50)
    options.add_argument("--starts", type=int, default=5)
    options.add_argument("--idle", type=float, default=10.0, help="seconds")
    chosen = options.parse_args()
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("LEANMQ", "PYTHONDONT"))
    }
    server = Server("valkey9", require_binary("valkey9")).start()
    try:
        with tempfile.TemporaryDirectory(prefix="lmq-") as name:
            folder = Path(name)
            write_project(folder, chosen.queues)
            environ["LEANMQ_URL"] = server.url
            subprocess.run(
                command("apply", "--yes"), cwd=folder, env=environ, check=True, capture_output=True
            )
            for number in range(chosen.starts):
                last = number == chosen.starts - 1
                start_once(folder, server.url, environ, chosen.idle if last else 0.0)
            print(f"exec to first message, median of {chosen.starts}: {median(STARTS) * 1000:.0f} ms")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
