"""A plan as a comment on a pull request: what needs eyes first, and never cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leanmq_topology.plan.changes import Change, Plan, Risk
from leanmq_topology.plan.render import (
    SYMBOLS,
    describe_backlog,
    describe_change,
    history_line,
    list_fields,
    shows_backlog,
    summary_line,
)

MOST_ROWS = 150
"""Rows shown, so that a comment stays below the 65,536 characters that GitHub takes."""

_ORDER = {Risk.BLOCKED: 0, Risk.RISKY: 1, Risk.SAFE: 2}
_MOST_FIELDS = 6
_LONGEST_CELL = 400


def render_markdown(plan: Plan, *, name: str, assurance: Sequence[str] = ()) -> str:
    """Blocked rows first, then risky ones, then the rest in the order of the file.

    The first line is a hidden mark, the same for every plan of one topology: a bot finds its comment by it.
    """
    lines = [f"<!-- leanmq-plan {name} -->", f"### LeanMQ plan for `{name}`", "", f"**{summary_line(plan)}**"]
    if plan.changes:
        lines += ["", *_table(plan)]
    if plan.record_reason and not plan.writes:
        lines += ["", f"The record on the server is to be written: {plan.record_reason}."]
    for line in (history_line(plan), *assurance):
        if plan.differs and line:
            lines += ["", line]
    return "\n".join(lines)


def _table(plan: Plan) -> Iterator[str]:
    rows = sorted(plan.changes, key=lambda change: _ORDER[change.risk])
    yield "| | change | address | what | messages |"
    yield "|---|---|---|---|---|"
    for change in rows[:MOST_ROWS]:
        yield _row(change)
    if len(rows) > MOST_ROWS:
        yield f"\n…and {len(rows) - MOST_ROWS:,} more rows; `leanmq plan` shows them all."


def _row(change: Change) -> str:
    action = change.action if change.risk is Risk.SAFE else f"**{change.action}**"
    backlog = describe_backlog(change.backlog) if shows_backlog(change) and change.backlog else ""
    cells = [f"`{SYMBOLS[change.action]}`", action, f"`{change.address}`", _what(change), backlog]
    return f"| {' | '.join(cells)} |"


def _what(change: Change) -> str:
    fields = list_fields(change)
    shown = [
        f"`{_code(f'{field.path}: {field.before} -> {field.after}')}`" for field in fields[:_MOST_FIELDS]
    ]
    if len(fields) > _MOST_FIELDS:
        shown.append(f"and {len(fields) - _MOST_FIELDS} more fields")
    described = [_cell(describe_change(change))] if describe_change(change) else []
    hazards = [f"**{hazard.code}**: {_cell(hazard.message)}" for hazard in change.hazards]
    return "<br>".join([*described, *shown, *hazards])


def _cell(text: str) -> str:
    """Prose that cannot end its cell or its line, nor become markup."""
    return _code(text).replace("<", "&lt;")


def _code(text: str) -> str:
    """The inside of a code span in a table."""
    flat = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return flat if len(flat) <= _LONGEST_CELL else f"{flat[: _LONGEST_CELL - 1]}…"
