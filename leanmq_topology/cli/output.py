"""Data on stdout, everything else on stderr; text for people, JSON with a schema name for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import click

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.errors import InvalidTopologyError, LeanMQError

USAGE_EXIT = 64
BUG_EXIT = 70
"""The convention of sysexits.h for an internal error."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command writes. `format` is `text` or `json` (`validate` also knows `github`)."""

    format: str = "text"
    color: bool = False

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Output:
        """Read the format before click does, so that a usage error is JSON too when JSON was asked for."""
        chosen = "text"
        for at, word in enumerate(arguments):
            if word in {"-o", "--output"} and at + 1 < len(arguments):
                chosen = arguments[at + 1]
            elif word.startswith("--output="):
                chosen = word.partition("=")[2]
            elif word.startswith("-o") and not word.startswith("--") and len(word) > 2:
                chosen = word[2:].lstrip("=")
        return cls(format=chosen, color=wants_color(sys.stderr))

    @property
    def is_json(self) -> bool:
        return self.format == "json"

    def data(self, command: str, payload: dict[str, Any], text: str) -> None:
        """The command's answer: `payload` as `leanmq.<command>/v1` JSON, or `text` as it is."""
        if self.is_json:
            self.line(json.dumps({"schema": f"leanmq.{command}/v1", **payload}, ensure_ascii=False, indent=2))
        elif text:
            self.line(text)

    def line(self, text: str) -> None:
        """One line (or block) of data on stdout."""
        click.echo(text)

    def note(self, text: str) -> None:
        """Something for the person watching, on stderr; never part of the data."""
        click.echo(text, err=True)


def wants_color(stream: TextIO) -> bool:
    """Colour only on a terminal that has it, and never against NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def report_failure(failure: BaseException, output: Output) -> int:
    """Say what went wrong, once and clearly; returns the exit code."""
    match failure:
        case InvalidTopologyError():
            report_diagnostics(failure.diagnostics, output)
            return failure.exit_code
        case LeanMQError():
            return _report(output, type(failure).__name__, failure.message, failure.hint, failure.exit_code)
        case click.ClickException():
            text = failure.format_message()
            return _report(output, "UsageError", text, _usage_hint(failure), USAGE_EXIT)
        case click.exceptions.Exit():
            return failure.exit_code
        case KeyboardInterrupt() | click.exceptions.Abort():
            output.note("interrupted")
            return 130
        case BrokenPipeError():
            # The reader went away: nothing left to say, and flushing at exit must not say it either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case SystemExit():
            return failure.code if isinstance(failure.code, int) else 1
        case _:
            return _report_bug(output, failure)


def report_diagnostics(found: Sequence[Diagnostic], output: Output) -> None:
    """All findings of a topology file, as an error."""
    if output.is_json:
        problems = [item.to_dict() for item in found]
        output.data(
            "error",
            {
                "error": {"type": "InvalidTopologyError", "message": "the topology is invalid"},
                "diagnostics": problems,
            },
            "",
        )
        return
    from leanmq_topology.cli.diagnostics_text import render_diagnostics

    output.note(render_diagnostics(found, color=output.color))


def _report(output: Output, kind: str, message: str, hint: str | None, code: int) -> int:
    if output.is_json:
        output.data(
            "error", {"error": {"type": kind, "message": message, "hint": hint}, "exit_code": code}, ""
        )
    else:
        label = click.style("error", fg="red", bold=True) if output.color else "error"
        output.note(f"{label}: {message}")
        if hint:
            output.note(f"  {hint}")
    return code


def _report_bug(output: Output, failure: BaseException) -> int:
    """Nothing a user did: say so, and keep the traceback for those who ask for it."""
    if os.environ.get("LEANMQ_DEBUG"):
        raise failure
    hint = "this is a mistake in leanmq, not in your files; LEANMQ_DEBUG=1 shows where, please report it"
    return _report(output, "InternalError", f"{type(failure).__name__}: {failure}", hint, BUG_EXIT)


def _usage_hint(failure: click.ClickException) -> str | None:
    context = getattr(failure, "ctx", None)
    return f"see `{context.command_path} --help`" if context else None
