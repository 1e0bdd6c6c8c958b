"""Writes `docs/codes.md` from the tables that `leanmq explain` reads: `python -m tests.docs.write_codes`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from leanmq_topology.diagnostics import Explanation, explain_code, list_codes

PAGE = Path(__file__).parents[2] / "docs" / "codes.md"
HUNDREDS = {
    "1": "Reading a file",
    "2": "Shape and message schemas",
    "3": "References and handlers",
    "4": "Policy",
    "5": "Hazards of a plan",
}
HEAD = """# Diagnostic codes

What each code means and what mends it; `leanmq explain LMQ203` prints the same. Codes are never reused.

<!-- Written by `python -m tests.docs.write_codes` from leanmq_topology/codes/. Do not edit. -->
"""
EXAMPLE = re.compile(r"(?:^    .*\n?|^\n(?=    ))+", re.MULTILINE)
"""Indented lines, blank ones between them too."""


def render_page() -> str:
    return "\n".join([HEAD, *render_contents(), *render_codes()])


def render_contents() -> Iterator[str]:
    for code in list_codes():
        yield f"- [{code}](#{code.lower()}) {explain(code).title}"
    yield ""


def render_codes() -> Iterator[str]:
    hundred = ""
    for code in list_codes():
        if code[3] != hundred:
            hundred = code[3]
            yield f"## {HUNDREDS[hundred]}\n"
        found = explain(code)
        yield f"### {code}\n\n**{found.title}**\n\n{found.text}\n\n{fence_examples(found.mend)}\n"


def explain(code: str) -> Explanation:
    found = explain_code(code)
    assert found is not None
    return found


def fence_examples(text: str) -> str:
    """Indented blocks become fenced ones: inside a paragraph Markdown would run them together."""
    return EXAMPLE.sub(lambda found: f"```\n{textwrap.dedent(found[0]).strip()}\n```\n", text).rstrip()


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
