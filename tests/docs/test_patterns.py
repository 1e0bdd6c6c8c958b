"""Every page of `docs/patterns/` runs as it stands, and prints what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leanmq_topology.brokers.connect import open_blocking
from tests.support.pages import Page, Player, read_page

FOLDER = Path(__file__).parents[2] / "docs" / "patterns"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_pattern_prints_what_its_page_shows(path: Path, tmp_path: Path):
    with open_blocking("embedded:?linger=0s", namespace="page", folder=tmp_path, client_name="leanmq-page"):
        Player(tmp_path).play(read_page(path))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_nothing_on_a_page_is_only_for_show(path: Path):
    page = read_page(path)
    assert page.strays == ()
    assert page.steps
    assert [name for name in page.files if not is_used(page, name)] == []


def is_used(page: Page, name: str) -> bool:
    """A script is run by a command, a handler named by the topology, a module imported by another file."""
    module = name.removesuffix(".py").replace("/", ".")
    texts = [*(step.command for step in page.steps), *page.files.values()]
    return name == "topology.yaml" or any(
        re.search(rf"\b{re.escape(word)}\b", text.partition("\n")[2] or text)
        for word in (name, module)
        for text in texts
    )


def test_the_index_leads_to_every_pattern():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in PAGES} == set(re.findall(r"\]\(([\w-]+\.md)\)", index))
