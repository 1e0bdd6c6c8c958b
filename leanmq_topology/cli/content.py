"""Data and headers of a message, as they are given on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from leanmq_topology.errors import SettingError

_MOST_SHOWN = 60


def read_data(content: str | None, *, missing: str) -> Any:
    """What `[JSON|@FILE|-]` means; `missing` is the complaint when nothing was given."""
    from leanmq_topology.contracts.payload import decode_data

    if content is None:
        raise click.UsageError(missing)
    if content == "-":
        return decode_data(sys.stdin.buffer.read())
    if not content.startswith("@"):
        return decode_data(content.encode(errors="surrogateescape"))
    try:
        return decode_data(Path(content[1:]).read_bytes())
    except OSError as failure:
        raise SettingError(content, f"cannot be read: {failure.strerror}") from failure


def read_header(text: str) -> tuple[str, str]:
    """What `--header NAME=VALUE` means."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingError("--header", f"{text[:_MOST_SHOWN]!r} has no `=`", hint="write --header name=value")
    return name, value
