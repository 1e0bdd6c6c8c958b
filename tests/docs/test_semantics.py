"""`docs/semantics.md` has a row for each rule, and every file and test that it names is there."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "leanmq_topology"
PAGE = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
RULES = range(1, 31)
LINE = re.compile(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
QUOTED = re.compile(r"`([^`]+)`")
MISSING = "*Not yet:*"


@dataclass(frozen=True)
class Row:
    number: int
    rule: str
    files: tuple[str, ...]
    proof: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        return TEST.findall(self.proof)


ROWS = [
    Row(int(number), rule, tuple(QUOTED.findall(files)), proof)
    for number, rule, files, proof in LINE.findall(PAGE)
]


@cache
def functions_of(path: str) -> frozenset[str]:
    """Tests that pytest would collect: functions of the module, and methods of its classes."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    found = (node for body in bodies for node in body)
    return frozenset(node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_rule_has_one_row_in_order():
    assert [row.number for row in ROWS] == list(RULES)
    assert PAGE.count("\n| ") == len(ROWS) + 1, "a row that is not read as one, beside the heading"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_a_row_names_what_keeps_its_rule_and_what_fails_without_it_or_says_that_nothing_does(row: Row):
    assert row.rule.endswith(".")
    assert bool(row.files) == bool(row.tests)
    assert row.tests or MISSING in row.proof


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_what_a_row_names_is_there(row: Row):
    assert [file for file in row.files if not (PACKAGE / file).is_file()] == []
    assert [f"{path}::{name}" for path, name in row.tests if name not in functions_of(path)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_all_that_stands_for_a_test_is_written_as_one(row: Row):
    named = [word for word in QUOTED.findall(row.proof) if "test" in word]
    assert named == [f"{path}::{name}" for path, name in row.tests]
