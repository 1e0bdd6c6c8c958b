"""Every code a user can meet is documented, every documented one can be met, each explanation is whole."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology.diagnostics import explain_code, list_codes
from tests.docs.write_codes import PAGE, render_page

PACKAGE = Path(__file__).parents[2] / "leanmq_topology"
CODE = re.compile(r"\bLMQ[0-9]{3}\b")
TABLES = sorted((PACKAGE / "codes").glob("*.toml"))


def used_codes() -> set[str]:
    """Every code that stands in a string of the package; docstrings only talk about them."""
    return {
        code
        for path in PACKAGE.rglob("*.py")
        for text in strings(ast.parse(path.read_text(encoding="utf-8")))
        for code in CODE.findall(text)
    }


def strings(tree: ast.Module) -> Iterator[str]:
    talk = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in talk:
            yield node.value


def test_every_code_in_use_is_documented():
    assert used_codes() - set(list_codes()) == set()


def test_every_documented_code_is_in_use():
    assert set(list_codes()) - used_codes() == set()


def test_no_code_is_documented_twice():
    codes = [code for table in TABLES for code in tomllib.loads(table.read_text(encoding="utf-8"))]

    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("code", list_codes())
def test_an_explanation_says_what_it_means_and_what_to_do(code: str):
    found = explain_code(code)

    assert found is not None
    assert 5 < len(found.title) < 80
    assert not found.title.endswith(".")
    assert len(found.text) > 40
    assert found.mend
    assert all(len(line) <= 120 for line in [*found.text.splitlines(), *found.mend.splitlines()])


@pytest.mark.parametrize("code", list_codes())
def test_an_explanation_mentions_only_codes_that_exist(code: str):
    found = explain_code(code)

    assert found is not None
    assert set(CODE.findall(f"{found.text} {found.mend}")) <= set(list_codes())


def test_a_code_is_found_in_any_spelling_of_its_letters():
    assert explain_code("lmq401") == explain_code("LMQ401")
    assert explain_code("LMQ999") is None


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_an_explanation_that_begins_with_an_example_keeps_its_indent(table: Path):
    for code, entry in tomllib.loads(table.read_text(encoding="utf-8")).items():
        found = explain_code(code)
        assert found is not None
        assert found.mend.splitlines()[0] == entry["mend"].strip("\n").splitlines()[0].rstrip()


def test_the_page_of_codes_says_what_explain_says():
    written = PAGE.read_text(encoding="utf-8")
    assert written == render_page(), "write it anew: python -m tests.docs.write_codes"
