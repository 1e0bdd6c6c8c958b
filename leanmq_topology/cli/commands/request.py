"""`leanmq request`."""

from __future__ import annotations

import click

from leanmq_topology.cli.content import read_data, read_header
from leanmq_topology.cli.options import Invocation, common_options

_MISSING = "say what to ask: JSON, @FILE, or - for standard input"


@click.command("request")
@click.argument("route")
@click.argument("content", metavar="[JSON|@FILE|-]", required=False)
@click.option("--timeout", metavar="DURATION", help="How long to wait, such as 5s; otherwise the route says.")
@click.option("--id", "message_id", metavar="ID", help="The request's stable id, made up if left out.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@common_options()
def command(
    call: Invocation,
    route: str,
    content: str | None,
    timeout: str | None,
    message_id: str | None,
    headers: tuple[str, ...],
) -> None:
    """Ask at a route of type request, wait for the reply, and print it as JSON.

    No reply in time exits 7: whether the request was handled is not known, and it is not started any more. A
    handler that failed for good exits 1, with the text of its exception.
    """
    from leanmq_topology.client import connect_sync
    from leanmq_topology.contracts.payload import encode_data

    topology = call.load_topology()
    data = read_data(content, missing=_MISSING)
    pairs = dict(read_header(text) for text in headers)
    with connect_sync(topology, url=call.broker_url(topology)) as client:
        reply = client.request(route, data, timeout=timeout, id=message_id, headers=pairs or None)
    call.output.data("request", {"reply": reply}, encode_data(reply).decode())
