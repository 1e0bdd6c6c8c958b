"""The pure layers do no input or output; `settings` and the command line alone read the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "leanmq_topology"
PURE = ("contracts", "topology", "plan", "messages")
FORBIDDEN = {
    "asyncio",
    "hiredis",
    "os",
    "random",
    "redis",
    "secrets",
    "socket",
    "subprocess",
    "threading",
} | {"time"}
READS_ENVIRONMENT = {"settings.py", "cli/output.py"}
"""`cli/output.py` asks NO_COLOR and its like before any settings exist."""


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((PACKAGE / folder).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", list(modules(*PURE)), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_pure_module_imports_nothing_that_does_input_or_output(path: Path):
    assert not set(imported(ast.parse(path.read_text()))) & FORBIDDEN


@pytest.mark.parametrize("path", list(modules(".")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_environment_is_read_in_one_place(path: Path):
    name = str(path.relative_to(PACKAGE))
    tree = ast.parse(path.read_text())
    reads = [node for node in ast.walk(tree) if ast.unparse(node) in {"os.environ", "os.getenv"}]
    assert not reads or name in READS_ENVIRONMENT


@pytest.mark.parametrize("path", list(modules(".")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_has_no_vague_module_names(path: Path):
    assert path.stem not in {"utils", "util", "common", "helpers", "base", "manager", "core", "misc"}


@pytest.mark.parametrize("path", list(modules(".")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text()))
