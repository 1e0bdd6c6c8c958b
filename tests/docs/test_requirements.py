"""`docs/requirements.md` has a row for all that was asked for, and every test that it names is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.test_semantics import functions_of

PAGE = (Path(__file__).parents[2] / "docs" / "requirements.md").read_text(encoding="utf-8")
ASKED = {
    "P": [(1, 63), (123, 130)],
    "G": [(3, 37)],
    "R": [(22, 43)],
    "S": [(3, 22)],
    "L": [(1, 57), (101, 152)],
    "F": [(1, 20)],
    "D": [(1, 66)],
}
"""Numbers that must have a row, by letter; both ends belong to it."""

ROW = re.compile(r"^\| ([A-Z]\d+)(?:-(\d+))? \| (.+?) \| (.+?) \| (.*?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LEFT_OUT = ("*Left out:* ", "*Not yet:* ")


@dataclass(frozen=True)
class Row:
    first: str
    last: str
    asked: str
    how: str
    proof: str

    @property
    def name(self) -> str:
        return f"{self.first}-{self.last}" if self.last else self.first

    def names(self) -> Iterator[str]:
        letter, number = self.first[0], int(self.first[1:])
        yield from (f"{letter}{n}" for n in range(number, int(self.last or number) + 1))


ROWS = [Row(*found) for found in ROW.findall(PAGE)]


def test_everything_that_was_asked_for_has_exactly_one_row():
    told = Counter(name for row in ROWS for name in row.names())
    asked = {
        f"{letter}{n}"
        for letter, spans in ASKED.items()
        for first, last in spans
        for n in range(first, last + 1)
    }
    assert asked - told.keys() == set()
    assert {name for name, count in told.items() if count > 1} == set()


def test_every_line_of_a_table_is_read():
    lines = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d", line)]
    assert len(lines) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_names_a_test_that_is_there_or_says_why_there_is_none(row: Row):
    named = TEST.findall(row.proof)
    assert named or row.how.startswith(LEFT_OUT)
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []
    assert len(named) == row.proof.count("`") // 2, "all that stands for a test is written as one"
