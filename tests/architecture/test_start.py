"""What a worker does not load before it starts: a hundred milliseconds are soon imported."""

from __future__ import annotations

import subprocess
import sys

UNNEEDED = (
    "redis",
    "importlib.metadata",
    "importlib.resources",
    "tomllib",
    "jsonschema",
    "leanmq_topology.plan.diff",
)
MOST_DATA_CLASSES = 7
"""Each takes a millisecond; decision 0017 says which stay."""
PROGRAM = """
import sys
from leanmq_topology.brokers.connect import preload
import leanmq_topology.cli.main, leanmq_topology.cli.commands.run, leanmq_topology.topology.loading
preload()
"""
LOADED = f"{PROGRAM}\nprint(*sys.modules)"
DATA_CLASSES = f"""{PROGRAM}
from dataclasses import is_dataclass
for name, module in list(sys.modules.items()):
    if name.startswith("leanmq_topology."):
        for found in vars(module).values():
            if isinstance(found, type) and found.__module__ == name and is_dataclass(found):
                print(f"{{name}}.{{found.__name__}}")
"""


def run(program: str) -> list[str]:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return ended.stdout.split()


def test_a_worker_starts_without_what_it_does_not_need():
    loaded = run(LOADED)

    assert "leanmq_topology.brokers.redis.pipe" in loaded
    assert not set(UNNEEDED) & set(loaded)


def test_a_worker_makes_few_data_classes_before_it_starts():
    found = run(DATA_CLASSES)

    assert "leanmq_topology.messages.message.Message" in found
    assert len(found) <= MOST_DATA_CLASSES, found
