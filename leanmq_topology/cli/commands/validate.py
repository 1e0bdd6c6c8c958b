"""`leanmq validate`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.diagnostics import Diagnostic, count_errors, sort_diagnostics
from leanmq_topology.document.reader import Document
from leanmq_topology.errors import InvalidTopologyError
from leanmq_topology.topology.loading import check_files
from leanmq_topology.topology.model import Topology

MOST_WARNINGS = 10
"""Warnings of one code that are shown as text: a thousand alike hide the one that differs."""


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="Also warn about what is allowed but seldom wise.")
@click.option("--handlers", is_flag=True, help="Import the handler modules and check the functions too.")
@common_options(formats=("text", "json", "github"))
def command(call: Invocation, paths: tuple[Path, ...], strict: bool, handlers: bool) -> None:
    """Check topology files; no server needed.

    Reports every mistake at once, each with its place, and exits 3 if there is one. Warnings alone exit 0.
    """
    files = (*paths, *call.settings.files) or call.topology_files()
    checked = check_files(
        files, environment=call.settings.environment, environ=call.settings.environ, strict=strict
    )
    topology, found = checked.topology, list(checked.found)
    if handlers and topology is not None and checked.document is not None:
        found = sort_diagnostics([*found, *_check_handlers(topology, checked.document)])
    is_valid = topology is not None and not count_errors(found)
    match call.output.format:
        case "json":
            diagnostics = [item.to_dict() for item in found]
            call.output.data("validate", {"valid": is_valid, "diagnostics": diagnostics}, "")
        case "github":
            _print_github(call, found)
        case _:
            _print_text(call, files, topology if is_valid else None, found)
    sys.exit(0 if is_valid else InvalidTopologyError.exit_code)


def _check_handlers(topology: Topology, document: Document) -> Iterator[Diagnostic]:
    """What is wrong with the functions; where their own file says nothing, the place of the `call`."""
    # Imports the users' code, and what it imports: only on request.
    from leanmq_topology.runner.handlers import check_handlers

    places: dict[str, tuple[str | int, ...]] = {
        "lifespan": ("lifespan",),
        **{f"handlers.{name}.call": ("handlers", name, "call") for name in topology.handlers},
        **{f"middleware[{at}]": ("middleware", at) for at in range(len(topology.middleware))},
    }
    for item in check_handlers(topology):
        place = places.get(item.address)
        yield replace(item, span=document.span(place)) if place and item.span is None else item


def _print_text(
    call: Invocation, files: Sequence[Path], topology: Topology | None, found: list[Diagnostic]
) -> None:
    shown, hidden = _abridge(found)
    if shown:
        from leanmq_topology.cli.diagnostics_text import render_diagnostics

        call.output.note(render_diagnostics(shown, color=call.output.color))
    for code, count in hidden.items():
        call.output.note(f"… and {count:,} more {code} (all of them: -o json)")
    if topology is not None:
        names, verb = ", ".join(map(str, files)), "are" if len(files) > 1 else "is"
        call.output.line(f"{names} {verb} valid: {_count_resources(topology)}")


def _print_github(call: Invocation, found: list[Diagnostic]) -> None:
    if found:
        from leanmq_topology.cli.diagnostics_text import render_github

        call.output.line(render_github(found))


def _abridge(found: Sequence[Diagnostic]) -> tuple[list[Diagnostic], Counter[str]]:
    """All errors, the first warnings of each code, and how many were left out."""
    seen: Counter[str] = Counter()
    shown = []
    for item in found:
        seen[item.code] += not item.is_error
        if item.is_error or seen[item.code] <= MOST_WARNINGS:
            shown.append(item)
    hidden = {code: count - MOST_WARNINGS for code, count in seen.items() if count > MOST_WARNINGS}
    return shown, Counter(hidden)


def _count_resources(topology: Topology) -> str:
    sections = {
        "queue": topology.queues,
        "route": topology.routes,
        "message": topology.messages,
        "handler": topology.handlers,
    }
    return ", ".join(_count(len(section), word) for word, section in sections.items())


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
