"""The options that say which dead letters are meant, the same for every `dlq` command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.messages.selection import Selection, parse_condition
from leanmq_topology.topology.values import parse_duration


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--id --reason --error --where --older-than`; the command gets them as `selection`."""

    @click.option("--id", "ids", multiple=True, metavar="ID", help="Only this message; repeat for more.")
    @click.option(
        "--reason",
        "reasons",
        multiple=True,
        type=click.Choice([reason.value for reason in DeadReason]),
        help="Only these; repeat for more.",
    )
    @click.option("--error", metavar="TEXT", help="Only where `Type: message` of the error holds this text.")
    @where_option
    @click.option(
        "--older-than",
        metavar="DURATION",
        callback=_each(parse_duration),
        help="Only what died longer ago, such as 2h.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        ids: Sequence[str],
        reasons: Sequence[str],
        error: str | None,
        where: Sequence[Any],
        older_than: int | None,
        **kwargs: Any,
    ) -> Any:
        selection = Selection(
            ids=frozenset(ids),
            reasons=frozenset(map(DeadReason, reasons)),
            error=error,
            where=tuple(where),
            older_than_ms=older_than,
        )
        return command(*args, selection=selection, **kwargs)

    return wrapped


def where_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--where`; the command gets the conditions as `where`."""
    return click.option(
        "--where",
        multiple=True,
        metavar="/POINTER=VALUE",
        callback=_each(parse_condition),
        help="Only where the data has this value there; repeat for more conditions.",
    )(command)


def _each(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that parses the value, or each of several, and turns `ValueError` into a usage error."""

    def convert(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(map(parse, value))
            return None if value is None else parse(value)
        except ValueError as failure:
            raise click.BadParameter(str(failure), context, parameter) from failure

    return convert
