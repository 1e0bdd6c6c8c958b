"""What every fault test has: a seed that is printed, an arena, and a place for its figures."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.catalogue import Figures
from tests.support.arena import MEMORY, Arena, start_server

Build = Callable[..., Arena]


@pytest.fixture
def seed() -> int:
    """`FAULT_SEED` repeats a run."""
    chosen = int(os.environ.get("FAULT_SEED") or random.randrange(2**32))
    print(f"FAULT_SEED={chosen}")
    return chosen


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes what was measured; `python -m tests.faults.report` makes a table of it."""
    return Figures(request.node.nodeid)


@pytest.fixture
def arena(seed: int, tmp_path: Path) -> Iterator[Build]:
    """Builds an arena on a server of its own, with the topology applied."""
    with ExitStack() as resources:

        def build(
            kind: str = "valkey9",
            arguments: tuple[str, ...] = MEMORY,
            server_environ: Mapping[str, str] | None = None,
            **settings: Any,
        ) -> Arena:
            server = start_server(kind, arguments, server_environ or {})
            resources.callback(server.stop)
            built = resources.enter_context(Arena(server, tmp_path, seed, **settings))
            built.apply()
            return built

        yield build
