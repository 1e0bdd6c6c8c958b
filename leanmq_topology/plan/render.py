"""A plan for people and for programs. Display only: nothing decides by what stands here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.plan.changes import (
    ACTIONS,
    Backlog,
    Blocked,
    Change,
    Create,
    Orphan,
    Plan,
    Removal,
    Remove,
    Update,
)
from leanmq_topology.plan.fields import FieldChange, compare_fields
from leanmq_topology.topology.specs import Spec

SYMBOLS = {"create": "+", "update": "~", "delete": "-", "orphan": "-", "blocked": "!"}
_COLORS = {"create": "32", "update": "33", "delete": "31", "orphan": "36", "blocked": "31"}
_REMOVALS = {
    Removal.DELETE: "no longer in the file; deleted",
    Removal.DRAIN: "no longer in the file; takes no more messages, and goes once it is empty",
    Removal.RETAIN: "no longer in the file; kept with its messages, and owned by nobody from then on",
}
_INDENT = " " * 10
_WIDEST_ADDRESS = 44
_WIDTH = 100
_MOST_FIELDS = 12
"""Field changes shown for one resource; a rewritten schema would fill the screen."""

_MOST_NAMES = 5


def render_text(plan: Plan, *, assurance: Sequence[str] = (), color: bool = False) -> str:
    """One row a change, each beginning with its symbol; what needs a reader's eye below its row.

    `assurance` are lines on what the topology's durability covers.
    """
    if not plan.differs:
        return f"No changes: the server matches the file (generation {plan.generation})."
    width = min(max((len(change.address) for change in plan.changes), default=0), _WIDEST_ADDRESS)
    lines = [line for change in plan.changes for line in _change_lines(change, width, color)]
    ends = (summary_line(plan), _record_line(plan), history_line(plan), *assurance)
    footer = [line for line in ends if line]
    return "\n".join([*lines, "", *footer] if lines else footer)


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The JSON of `leanmq plan -o json`. Before and after are recorded specs: ms, bytes, defaults in."""
    return {
        "summary": plan.summary(),
        "changes": [
            {
                "address": change.address,
                "action": change.action,
                "before": change.before,
                "after": change.after,
                "risk": change.risk.value,
                "backlog": None if change.backlog is None else asdict(change.backlog),
                "blocked_by": [hazard.to_dict() for hazard in change.hazards],
            }
            for change in plan.changes
        ],
        "fingerprint": plan.fingerprint,
    }


def summary_line(plan: Plan) -> str:
    """`2 to create, 1 to update, 1 orphan, 12 unchanged.`"""
    counts = plan.summary()
    parts = [_count(action, counts[action]) for action in ACTIONS if counts[action]]
    unchanged = [f"{counts['unchanged']:,} unchanged"] if counts["unchanged"] or not parts else []
    return ", ".join([*parts, *unchanged]) + "."


def _count(action: str, count: int) -> str:
    words = {
        "create": "to create",
        "update": "to update",
        "delete": "to delete",
        "orphan": "orphan" if count == 1 else "orphans",
    }
    return f"{count:,} {words.get(action, action)}"


def history_line(plan: Plan) -> str:
    """What keeping acknowledged messages costs, in one line; empty where no queue begins to."""
    names = [
        change.address.partition(".")[2]
        for change in plan.changes
        if isinstance(change, Create | Update)
        and change.after.get("keep_acked")
        and not (change.before or {}).get("keep_acked")
    ]
    if not names:
        return ""
    shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    return f"History kept (keep_acked) in {shown}: an acknowledgement there costs about six times as much."


def describe_change(change: Change) -> str:
    """What a row says beside its address."""
    match change:
        case Create(reason=None):
            return _describe_new(change.address, change.after)
        case Orphan(reason=None):
            return "no longer in the file; kept as it is"
        case Remove(step=step):
            return _REMOVALS[step]
        case Blocked(wanted=Remove()):
            return "no longer in the file"
        case _:
            return change.reason or ""


def describe_backlog(backlog: Backlog) -> str:
    """`9,840 ready, 3 in flight, 0 delayed, 2 dead, oldest 4m`"""
    counts = f"{backlog.ready:,} ready, {backlog.in_flight:,} in flight, {backlog.delayed:,} delayed"
    age = "" if backlog.oldest_age_seconds is None else f", oldest {format_age(backlog.oldest_age_seconds)}"
    return f"{counts}, {backlog.dead:,} dead{age}"


def list_fields(change: Change) -> list[FieldChange]:
    """Which fields an update changes, blocked or not."""
    wanted = change.wanted if isinstance(change, Blocked) else change
    return compare_fields(wanted.before, wanted.after) if isinstance(wanted, Update) else []


def shows_backlog(change: Change) -> bool:
    """Messages are counted where the change is risky, or where some lie."""
    if change.backlog is None:
        return False
    lies_there = change.backlog.total > 0 and (change.reason is not None or isinstance(change, Orphan))
    return bool(change.hazards) or lies_there


def format_age(seconds: float) -> str:
    """An age as one rounded-down unit: `12s`, `4m`, `3h`, `2d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _change_lines(change: Change, width: int, color: bool) -> Iterator[str]:
    head = _paint(f"{SYMBOLS[change.action]} {change.action:<7}", _COLORS[change.action], color)
    yield f"{head} {change.address:<{width}}  {describe_change(change)}".rstrip()
    fields = list_fields(change)
    for field in fields[:_MOST_FIELDS]:
        yield f"{_INDENT}{field.path}: {field.before} -> {field.after}"
    if len(fields) > _MOST_FIELDS:
        yield f"{_INDENT}and {len(fields) - _MOST_FIELDS} more fields"
    if shows_backlog(change) and change.backlog:
        yield f"{_INDENT}{describe_backlog(change.backlog)}"
    for hazard in change.hazards:
        yield from _hazard_lines(hazard, color)


def _hazard_lines(hazard: Diagnostic, color: bool) -> Iterator[str]:
    label = _paint(f"{hazard.severity.value} {hazard.code}", "31" if hazard.is_error else "33", color)
    yield f"{_INDENT}{label}"
    for text in (hazard.message, hazard.suggestion or ""):
        yield from wrap(text, _WIDTH, initial_indent=f"{_INDENT}  ", subsequent_indent=f"{_INDENT}  ")


def _record_line(plan: Plan) -> str:
    """Said only where no resource changes, for otherwise it goes without saying."""
    if plan.record_reason is None or plan.writes or plan.blocked:
        return ""
    return f"The record on the server is to be written: {plan.record_reason}."


def _describe_new(address: str, spec: Spec) -> str:
    kind = address.partition(".")[0]
    if kind == "queues":
        return f"accepts {', '.join(spec['accepts']) or 'any JSON object'}"
    if kind == "routes":
        queues = [target["queue"] for target in spec.get("to", ())]
        queues += [spec["queue"]] if "queue" in spec else []
        nobody = "whoever listens" if spec["type"] == "ephemeral" else "nobody"
        return f"{spec['type']} to {', '.join(queues) or nobody}"
    return f"version {spec['version']}"


def _paint(text: str, code: str, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color else text
