"""`leanmq send`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.errors import InvalidMessageError, SettingError, UnknownTargetError
from leanmq_topology.topology.model import Topology

_MOST_SHOWN = 60


@click.command("send")
@click.argument("target")
@click.argument("content", metavar="[JSON|@FILE|-]", required=False)
@click.option("--type", "kind", metavar="TYPE", help="Message type; needed where the target takes several.")
@click.option(
    "--ttl", metavar="DURATION", help="How long it may wait, such as 5m; the queue's own may be shorter."
)
@click.option("--delay", metavar="DURATION", help="Not before this time has passed, such as 30s.")
@click.option(
    "--id",
    "message_id",
    metavar="ID",
    help="The message's stable id, made up if left out; again within 10 minutes, it is not stored twice.",
)
@click.option(
    "--topic", metavar="TOPIC", help="On a topic route, what chooses the queues; otherwise the type does."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@click.option("--example", is_flag=True, help="Send the first example of the type, from the topology file.")
@common_options()
def command(
    call: Invocation,
    target: str,
    content: str | None,
    kind: str | None,
    ttl: str | None,
    delay: str | None,
    message_id: str | None,
    topic: str | None,
    headers: tuple[str, ...],
    example: bool,
) -> None:
    """Send one validated message to a queue or a route, and print its id.

    The data is JSON: as an argument, from a file (@order.json), or from standard input (-). Data that breaks
    its schema exits 3, names the place, and writes nothing.
    """
    from leanmq_topology.client import connect_sync

    topology = call.load_topology()
    if example and content is not None:
        raise click.UsageError("--example and data exclude each other")
    data = _find_example(topology, target, kind) if example else _read_data(content)
    pairs = dict(_read_header(text) for text in headers)
    with connect_sync(topology, url=call.broker_url(topology)) as client:
        sent = client.send(
            target, data, type=kind, id=message_id, ttl=ttl, delay=delay, topic=topic, headers=pairs or None
        )
    call.output.data("send", {"id": sent}, sent)


def _read_data(content: str | None) -> Any:
    from leanmq_topology.contracts.payload import decode_data

    if content is None:
        raise click.UsageError("say what to send: JSON, @FILE, - for standard input, or --example")
    if content == "-":
        return decode_data(sys.stdin.buffer.read())
    if not content.startswith("@"):
        return decode_data(content.encode(errors="surrogateescape"))
    try:
        return decode_data(Path(content[1:]).read_bytes())
    except OSError as failure:
        raise SettingError(content, f"cannot be read: {failure.strerror}") from failure


def _read_header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingError("--header", f"{text[:_MOST_SHOWN]!r} has no `=`", hint="write --header name=value")
    return name, value


def _find_example(topology: Topology, target: str, kind: str | None) -> Any:
    """The first example of the type that the target takes."""
    from leanmq_topology.diagnostics import closest

    declared = topology.queues.get(target) or topology.routes.get(target)
    if declared is None:
        raise UnknownTargetError(target, closest=closest(target, topology.target_names()))
    accepts: tuple[str, ...] = getattr(declared, "accepts", ())
    chosen = kind or (accepts[0] if len(accepts) == 1 else None)
    if chosen is None:
        what = f"{target} takes {', '.join(accepts)}" if accepts else f"{target} takes any message"
        raise SettingError("--example", what, hint="say which one with --type")
    message = topology.messages.get(chosen)
    if message is None or not message.examples:
        raise InvalidMessageError("", "the topology has no example of it", type=chosen)
    return message.examples[0]
