"""From the call of a command to a session that runs until it is left."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from leanmq_topology.cli.options import Invocation
from leanmq_topology.cli.output import report_failure
from leanmq_topology.cli.session.completion import complete
from leanmq_topology.cli.session.conversation import Conversation
from leanmq_topology.cli.session.terminal import Terminal
from leanmq_topology.cli.session.verbs import verbs_of


def run_session(call: Invocation, session: str, *, writes: bool, first: str = "") -> None:
    """Obey until `exit` or the end of the input. `first` is a line that is obeyed before any is read.

    Exits 1 when lines came from elsewhere than a terminal and one of them failed.
    """
    from leanmq_topology.cli.main import COMMANDS
    from leanmq_topology.client import connect_sync

    topology = call.load_topology()
    verbs = verbs_of(session, frozenset(COMMANDS))
    namespace = topology.broker.namespace
    terminal = Terminal(f"{namespace}> ", call.output.line, lambda line: complete(line, verbs, topology))
    with connect_sync(topology, url=call.broker_url(topology)) as client:
        conversation = Conversation(
            client,
            topology,
            verbs,
            lambda words: _delegate(call, words),
            terminal.say,
            call.output.note,
            writes=writes,
        )
        if terminal.interactive:
            allowed = "" if writes or session == "sub" else "; it only looks (--write lets it send)"
            call.output.note(f"namespace {namespace}{allowed}; `help` lists commands, Tab completes")
        try:
            if not first or conversation.obey(first):
                for line in terminal.lines():
                    if not conversation.obey(line):
                        break
        except KeyboardInterrupt:
            pass
        finally:
            conversation.end()
    if conversation.failed and not terminal.interactive:
        raise click.exceptions.Exit(1)


def _delegate(call: Invocation, words: Sequence[str]) -> int:
    """Carry out another command on the same topology and server."""
    from leanmq_topology.cli.main import leanmq

    settings = call.settings
    where: list[str] = [part for file in call.topology_files() for part in ("-f", str(file))]
    if settings.environment:
        where += ["--env", settings.environment]
    if settings.url:
        where += ["--url", settings.url]
    try:
        code = leanmq.main(args=[*words, *where], prog_name="leanmq", standalone_mode=False)
    except Exception as failure:
        code = report_failure(failure, call.output)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0
