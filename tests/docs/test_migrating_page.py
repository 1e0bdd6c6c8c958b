"""The program that the migration guide shows runs as it stands, and each rule of it has its row."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.servers import start_on_tcp

PAGE = (Path(__file__).parents[2] / "docs" / "migrating-from-leanmq.md").read_text(encoding="utf-8")
PROGRAM = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_program_of_the_guide_runs(namespace: str):
    port, server = start_on_tcp("valkey9")
    try:
        [program] = PROGRAM.findall(PAGE)
        here = program.replace("redis_port=6379", f"redis_port={port}").replace('"shop:"', f'"{namespace}:"')
        assert here.count(str(port)) == 1
        names: dict[str, object] = {}
        exec(compile(here, "migrating-from-leanmq.md", "exec"), names)
        names["mq"].close()  # type: ignore[attr-defined]
    finally:
        server.stop()


def test_every_decision_has_its_row():
    assert re.findall(r"^\| X(\d+) ", PAGE, re.MULTILINE) == [str(number) for number in range(1, 14)]
