"""`docs/README.md` leads to every page, and no link of the documentation leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
FENCED = re.compile(r"```.*?```", re.DOTALL)


def links_of(page: Path) -> list[tuple[str, str]]:
    return LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))


def test_the_index_leads_to_every_page():
    linked = {(DOCS / path).resolve() for path, _ in links_of(DOCS / "README.md")}
    own = {page.resolve() for page in DOCS.glob("*.md")} - {(DOCS / "README.md").resolve()}
    assert (
        own | {DOCS / "output", DOCS / "decisions" / "README.md", DOCS / "patterns" / "README.md"} <= linked
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    for path, anchor in links_of(page):
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", goal.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", text).replace(" ", "-").lower() for text in headings}
