"""Data and headers of a message, as they are given on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from leanmq_topology.errors import InvalidMessageError, SettingError

_MOST_SHOWN = 60


def read_data(content: str | None, *, missing: str) -> Any:
    """What `[JSON|@FILE|-]` means; `missing` is the complaint when nothing was given."""
    from leanmq_topology.contracts.payload import decode_data

    if content is None:
        raise click.UsageError(missing)
    return decode_data(_read_bytes(content))


def read_lines(content: str) -> Iterator[Any]:
    """What each line of `@FILE` or `-` means; empty ones are passed over.

    Raises `InvalidMessageError`, which names the line.
    """
    from leanmq_topology.contracts.payload import decode_data

    for number, line in enumerate(_read_bytes(content).splitlines(), start=1):
        if line.strip():
            try:
                yield decode_data(line)
            except InvalidMessageError as failure:
                raise InvalidMessageError(failure.path, f"{failure.reason} (line {number})") from None


def read_header(text: str) -> tuple[str, str]:
    """What `--header NAME=VALUE` means."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingError("--header", f"{text[:_MOST_SHOWN]!r} has no `=`", hint="write --header name=value")
    return name, value


def _read_bytes(content: str) -> bytes:
    if content == "-":
        return sys.stdin.buffer.read()
    if not content.startswith("@"):
        return content.encode(errors="surrogateescape")
    try:
        return Path(content[1:]).read_bytes()
    except OSError as failure:
        raise SettingError(content, f"cannot be read: {failure.strerror}") from failure
