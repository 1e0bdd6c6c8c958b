"""Data on stdout, everything else on stderr; text for people, JSON with a schema name for programs."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

import click
from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.errors import InvalidTopologyError, LeanMQError, RemoteError

USAGE_EXIT = 64
"""click's own usage code is 2, which means "differences found" here."""
INTERRUPTED_EXIT = 130
BUG_EXIT = 70
"""The convention of sysexits.h for an internal error."""


class OutputError(LeanMQError):
    """The answer could not be written: the disk is full, or whoever read it went away."""

    def __init__(self, failure: OSError) -> None:
        self.reader_left = failure.errno == errno.EPIPE
        super().__init__(f"standard output cannot be written: {failure.strerror}")


class Output(Struct, frozen=True):
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
        try:
            click.echo(_encodable(text), color=wants_color(sys.stdout))
        except OSError as failure:
            raise OutputError(failure) from failure

    def note(self, text: str) -> None:
        """Something for the person watching, on stderr; never part of the data."""
        with suppress(OSError):  # nobody can be told that nobody can be told
            click.echo(_encodable(text), err=True, color=wants_color(sys.stderr))


def wants_color(stream: TextIO | None) -> bool:
    """Colour only on a terminal that has it, and never against NO_COLOR. A closed stream is None."""
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _encodable(text: str) -> str:
    """File names and arguments may hold bytes that are no UTF-8; they are shown escaped, as JSON does too."""
    return text.encode("utf-8", "backslashreplace").decode()


def report_failure(failure: BaseException, output: Output) -> int:
    """Say what went wrong, once and clearly; returns the exit code."""
    try:
        return _report_failure(failure, output)
    except OutputError as unwritable:
        _abandon_stdout(unwritable, output)
        return USAGE_EXIT if isinstance(failure, click.ClickException) else getattr(failure, "exit_code", 1)


def _report_failure(failure: BaseException, output: Output) -> int:
    match failure:
        case OutputError():
            return _abandon_stdout(failure, output)
        case InvalidTopologyError():
            report_diagnostics(failure.diagnostics, output)
            return failure.exit_code
        case LeanMQError():
            more: dict[str, Any] = {"stored_ids": list(failure.stored_ids)} if failure.stored_ids else {}
            if isinstance(failure, RemoteError) and failure.data is not None:
                more["remote"] = {"type": failure.type, "text": failure.text, "data": failure.data}
            kind = type(failure).__name__
            return _report(output, kind, failure.message, failure.hint, failure.exit_code, more)
        case click.ClickException():
            text = failure.format_message()
            return _report(output, "UsageError", text, _usage_hint(failure), USAGE_EXIT)
        case click.exceptions.Exit():
            return failure.exit_code
        case KeyboardInterrupt() | click.exceptions.Abort():
            return _report_interruption(output)
        case SystemExit():
            return failure.code if isinstance(failure.code, int) else 1
        case _:
            return _report_bug(output, failure)


def report_diagnostics(found: Sequence[Diagnostic], output: Output) -> None:
    """All findings of a topology file, as an error."""
    if output.is_json:
        problems = [item.to_dict() for item in found]
        error = {"type": "InvalidTopologyError", "message": "the topology is invalid", "hint": None}
        code = InvalidTopologyError.exit_code
        output.data("error", {"error": error, "exit_code": code, "diagnostics": problems}, "")
        return
    from leanmq_topology.cli.diagnostics_text import render_diagnostics

    output.note(render_diagnostics(found, color=output.color))


def _report(
    output: Output,
    kind: str,
    message: str,
    hint: str | None,
    code: int,
    more: Mapping[str, Any] | None = None,
) -> int:
    if output.is_json:
        error = {"type": kind, "message": message, "hint": hint}
        output.data("error", {"error": error, "exit_code": code, **(more or {})}, "")
    else:
        label = click.style("error", fg="red", bold=True) if output.color else "error"
        output.note(f"{label}: {message}")
        if hint:
            output.note(f"  {hint}")
    return code


def _report_interruption(output: Output) -> int:
    if output.is_json:
        return _report(output, "Interrupted", "interrupted", None, INTERRUPTED_EXIT)
    output.note("interrupted")
    return INTERRUPTED_EXIT


def _abandon_stdout(failure: OutputError, output: Output) -> int:
    """Say it on stderr, whatever form was asked for; to a reader that went away there is nothing to say."""
    if sys.stdout is not None:  # what is still buffered must not fail once more when the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if failure.reader_left:
        return 0
    return _report(Output(color=output.color), "", failure.message, None, failure.exit_code)


def _report_bug(output: Output, failure: BaseException) -> int:
    """Nothing a user did: say so, and keep the traceback for those who ask for it."""
    if os.environ.get("LEANMQ_DEBUG"):
        raise failure
    hint = "this is a mistake in leanmq, not in your files; LEANMQ_DEBUG=1 shows where, please report it"
    return _report(output, "InternalError", f"{type(failure).__name__}: {failure}", hint, BUG_EXIT)


def _usage_hint(failure: click.ClickException) -> str | None:
    context: click.Context | None = getattr(failure, "ctx", None)
    if context is None:
        return None
    see = f"see `{context.command_path} --help`"
    is_early = isinstance(failure, click.NoSuchOption) and context.parent is None
    return f"options stand after the command, as in `leanmq status -o json`; {see}" if is_early else see
