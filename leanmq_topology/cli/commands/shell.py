"""`leanmq shell`."""

from __future__ import annotations

import click

from leanmq_topology.cli.options import Invocation, common_options


@click.command("shell")
@click.option("--write", is_flag=True, help="Allow what changes the server: send, pub, request, dlq replay…")
@common_options(formats=("text",))
def command(call: Invocation, write: bool) -> None:
    """Type commands against one topology: look, listen, and with --write send and publish too.

    On a terminal there is a history, and Tab completes commands, queues, channels, types, and the fields and
    values of data from the schemas. Otherwise commands are read from standard input, one a line; one that
    fails makes the exit code 1.
    """
    from leanmq_topology.cli.session.opening import run_session

    run_session(call, "shell", writes=write)
