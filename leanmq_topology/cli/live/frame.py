"""The live view as lines of text: pure, so that it can be looked at without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click

from leanmq_topology.cli.commands.status import is_alarming
from leanmq_topology.cli.diagnostics_text import escape_text
from leanmq_topology.cli.live.samples import Samples
from leanmq_topology.operations.status import Status

HEADINGS = ("queue", "ready", "in flight", "delayed", "retried", "dead", "done/s")
LEAST_ROWS = 3
FRAME_LINES = 3
"""Head, headings, and the line below the rows."""


@dataclass(frozen=True, slots=True)
class Palette:
    """How parts are marked; without colour nothing is."""

    color: bool = False

    def dim(self, text: str) -> str:
        return click.style(text, dim=True) if self.color and text else text

    def bold(self, text: str) -> str:
        return click.style(text, bold=True) if self.color and text else text

    def bad(self, text: str) -> str:
        return click.style(text, fg="red", bold=True) if self.color and text else text

    def good(self, text: str) -> str:
        return click.style(text, fg="green") if self.color and text else text


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be shown beside the queues."""

    title: str
    """The namespace and where it is."""
    note: str = ""
    """What is served, or what went wrong with the last edit."""
    is_bad: bool = False
    """The note tells of something to mend."""
    last_errors: Mapping[str, str] = field(default_factory=dict)
    """By queue; empty where nobody tells."""
    hint: str = ""


def draw_frame(scene: Scene, samples: Samples, *, width: int, height: int, palette: Palette) -> list[str]:
    """At most `height` lines, none wider than `width` columns."""
    status = samples.newest
    lines = [_draw_head(scene, width, palette)]
    if status is None:
        lines.append(palette.dim(_cut(samples.problem or "looking…", width)))
        return lines
    room = max(height - FRAME_LINES, LEAST_ROWS)
    names = _choose(status, samples, room)
    lines += _draw_table(status, samples, names, scene, width, palette)
    hidden = len(status.queues) - len(names)
    tail = " · ".join(
        part
        for part in (f"{hidden:,} quieter queues not shown" if hidden else "", samples.problem, scene.hint)
        if part
    )
    return [*lines, palette.dim(_cut(tail, width))] if tail else lines


def _draw_head(scene: Scene, width: int, palette: Palette) -> str:
    title = _cut(f"── {scene.title} ", width)
    mark, style = ("✗ ", palette.bad) if scene.is_bad else ("● ", palette.good)
    note = _cut(f"{mark}{scene.note} ", max(width - len(title), 0)) if scene.note else ""
    rule = "─" * max(width - len(title) - len(note), 0)
    return palette.dim(title[:3]) + palette.bold(title[3:]) + style(note) + palette.dim(rule)


def _choose(status: Status, samples: Samples, room: int) -> list[str]:
    """All queues in their order where they fit, else the busiest."""
    names = list(status.queues)
    if len(names) <= room:
        return names
    busiest = sorted(names, key=lambda name: _business(status, samples, name), reverse=True)[:room]
    return [name for name in names if name in set(busiest)]


def _business(status: Status, samples: Samples, name: str) -> tuple[float, int]:
    state = status.states[name]
    waiting = state.ready + state.in_flight + state.delayed + state.dead
    return (samples.rate(name) or 0.0, waiting)


def _draw_table(
    status: Status, samples: Samples, names: Sequence[str], scene: Scene, width: int, palette: Palette
) -> list[str]:
    rows = [_cells(status, samples, name) for name in names]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [
        palette.dim(_cut(_join(HEADINGS, widths) + ("  last error" if scene.last_errors else ""), width))
    ]
    for name, row in zip(names, rows, strict=True):
        text = _cut(_join(row, widths), width)
        error = escape_text(scene.last_errors.get(name, ""))
        room = width - len(text) - 2
        line = (
            _mark_dead(text, row, widths, palette)
            if is_alarming(status.queues[name], status.states[name])
            else text
        )
        lines.append(f"{line}  {palette.bad(_cut(error, room))}" if error and room > 10 else line)
    return lines


def _cells(status: Status, samples: Samples, name: str) -> tuple[str, ...]:
    state = status.states[name]
    counters = state.counters or {}
    rate = samples.rate(name)
    paused = " (paused)" if state.state == "paused" else ""
    numbers = (state.ready, state.in_flight, state.delayed, counters.get("retried", 0), state.dead)
    return (f"{name}{paused}", *(f"{number:,}" for number in numbers), _show_rate(rate))


def _show_rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = cells
    padded = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return "  ".join([first.ljust(widths[0]), *padded])


def _mark_dead(text: str, row: Sequence[str], widths: Sequence[int], palette: Palette) -> str:
    """The count of dead letters stands out where it is one to be alarmed by."""
    end = sum(widths[:6]) + 2 * 5
    start = end - len(row[5])
    return text[:start] + palette.bad(text[start:end]) + text[end:]


def _cut(text: str, width: int) -> str:
    if width <= 0:
        return ""
    return text if len(text) <= width else text[: width - 1] + "…"
