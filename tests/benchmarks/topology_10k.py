"""Ten thousand queue pairs, twenty schemas: `python -m tests.benchmarks.topology_10k [QUEUES]`.

Each row runs in a process of its own, so that its peak of resident memory is its own; the time is that of the
work, without the start of Python. The server is a Valkey of our own on a Unix socket, append-only file off.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.servers import Server, find_binary

SCHEMAS = 20
TARGETS = 5
GOALS_SECONDS = {"read and validate": None, "plan": 3.0, "first apply": 10.0, "no-op apply": 3.0}
GOAL_MIB = 500


def write_topology(folder: Path, queues: int) -> Path:
    """A file as a code generator would write it: every queue spelt out, one route for each hundred."""
    lines = ["leanmq: 1", "name: bench", "broker: {namespace: bench}", "messages:"]
    for number in range(SCHEMAS):
        lines += [
            f"  event.{number}:",
            "    schema:",
            "      type: object",
            "      required: [id, total]",
            "      properties:",
            "        id: {type: string, minLength: 1}",
            "        total: {type: number, minimum: 0}",
            f"        field_{number}: {{type: [string, 'null'], maxLength: 100}}",
        ]
    lines.append("queues:")
    for number in range(queues):
        lines += [
            f"  queue-{number}:",
            f"    accepts: [event.{number % SCHEMAS}]",
            "    ttl: 1d",
            "    max_deliveries: 5",
            "    retry: {backoff: exponential, delay: 1s, max_delay: 5m}",
            "    visibility_timeout: 30s",
            "    max_length: 100000",
        ]
    lines.append("routes:")
    for number in range(queues // 100):
        first = number * 100
        targets = [first + step * SCHEMAS for step in range(TARGETS)]
        lines += [f"  route-{number}:", "    type: fanout", "    to:"]
        lines += [f"      queue-{target}: {{}}" for target in targets]
    path = folder / "topology.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(step: str, path: str, url: str) -> None:
    """Run one step in this process and print its seconds and its peak of memory."""
    began = time.perf_counter()
    _STEPS[step](Path(path), url)
    seconds = time.perf_counter() - began
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib}))


def _validate(path: Path, url: str) -> None:
    from leanmq_topology.topology.model import Topology

    Topology.load(path)


def _plan(path: Path, url: str) -> None:
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.plan.render import render_text
    from leanmq_topology.reconciler import plan_changes
    from leanmq_topology.topology.model import Topology

    topology = Topology.load(path)
    with open_blocking(url, namespace="bench", folder=path.parent) as link:
        render_text(plan_changes(link, topology))


def _apply(path: Path, url: str) -> None:
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.reconciler import apply_changes
    from leanmq_topology.topology.model import Topology

    topology = Topology.load(path)
    with open_blocking(url, namespace="bench", folder=path.parent) as link:
        apply_changes(link, topology, who="benchmark")


_STEPS: dict[str, Callable[[Path, str], None]] = {
    "read and validate": _validate,
    "plan": _plan,
    "first apply": _apply,
    "no-op apply": _apply,
}


def main(queues: int) -> None:
    binary = find_binary("valkey9")
    if binary is None:
        sys.exit("valkey9 is not installed")
    server = Server("valkey9", binary).start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = write_topology(Path(folder), queues)
            print(f"{queues:,} queue pairs, {SCHEMAS} schemas, {path.stat().st_size / 1e6:.1f} MB of YAML")
            print(f"{'step':<20}{'seconds':>9}{'goal':>7}{'peak MiB':>10}{'goal':>7}")
            for step, goal in GOALS_SECONDS.items():
                _show(step, goal, _run(step, path, server.url))
    finally:
        server.stop()


def _run(step: str, path: Path, url: str) -> dict[str, float]:
    words = [sys.executable, "-m", "tests.benchmarks.topology_10k", step, str(path), url]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return found


def _show(step: str, goal: float | None, found: dict[str, float]) -> None:
    wanted = f"{goal:.0f}" if goal else "-"
    print(f"{step:<20}{found['seconds']:>9.2f}{wanted:>7}{found['peak_mib']:>10.0f}{GOAL_MIB:>7}")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
