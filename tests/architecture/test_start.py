"""What a worker does not load before it starts: a hundred milliseconds are soon imported."""

from __future__ import annotations

import subprocess
import sys

UNNEEDED = ("redis", "importlib.metadata", "tomllib", "jsonschema", "leanmq_topology.plan.diff")
PROGRAM = """
import sys
from leanmq_topology.brokers.connect import preload
import leanmq_topology.cli.main, leanmq_topology.cli.commands.run
preload()
print(*sys.modules)
"""


def test_a_worker_starts_without_what_it_does_not_need():
    loaded = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "leanmq_topology.brokers.redis.pipe" in loaded
    assert not set(UNNEEDED) & set(loaded)
