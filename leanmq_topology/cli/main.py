"""The `leanmq` command: finds the sub-command, turns every error into one clear message and an exit code.

Sub-commands are imported when called: `leanmq --help` and `validate` never pay for a client library.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from leanmq_topology.cli.output import USAGE_EXIT, Output, report_failure
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.garbage import paused_collection

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module under cli.commands, one line of help); the order is the order of `leanmq --help`
    "init": ("init", "Make a small project that runs at once."),
    "demo": ("demo", "See the whole system work, in ten seconds."),
    "validate": ("validate", "Check topology files; no server needed."),
    "render": ("render", "Print the merged, defaulted topology, secrets masked."),
    "graph": ("graph", "Draw queues, routes and handlers."),
    "explain": ("explain", "Explain a code (LMQ203) or an address (queues.billing)."),
    "plan": ("plan", "Show what apply would change, and which messages are concerned."),
    "apply": ("apply", "Make the server match the file."),
    "history": ("history", "Show what was applied, when and by whom."),
    "send": ("send", "Send a validated message."),
    "request": ("request", "Send a request and print the reply."),
    "dev": ("dev", "Apply, run and follow every edit, on one screen."),
    "run": ("run", "Run the handlers of a topology."),
    "pub": ("pub", "Publish on an ephemeral channel."),
    "sub": ("sub", "Listen to ephemeral channels."),
    "shell": ("shell", "Type commands against one topology."),
    "status": ("status", "Show queues, counters and workers."),
    "workers": ("workers", "Show the worker processes, wherever they run."),
    "top": ("top", "Watch the queues live."),
    "peek": ("peek", "Look at the messages of a queue without taking them."),
    "tail": ("tail", "Follow what arrives in queues, without taking it."),
    "trace": ("trace", "Show where a message is now, and what it caused."),
    "dlq": ("dlq", "Look into dead-letter queues; replay or discard what lies there."),
    "purge": ("purge", "Take everything out of queues; --undo brings it back."),
    "pause": ("pause", "Have workers stop reading queues; senders go on."),
    "resume": ("resume", "Have workers read paused queues again."),
    "adopt": ("adopt", "Take over the queues that the package LeanMQ left on a server."),
    "doctor": ("doctor", "Check server and namespace, and say what mends what is wrong."),
    "server": ("server", "Start, stop or look at the embedded broker."),
    "version": ("version", "Print versions."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with paused_collection():
            module = import_module(f"leanmq_topology.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = did_you_mean(name, COMMANDS)
        raise click.UsageError(f"there is no command {name!r}" + (f"; {near}" if near else ""), ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leanmq-topology", message="%(package)s %(version)s")
def leanmq() -> None:
    """Message queues as code for Redis and Valkey.

    One YAML file declares queues, schemas, routes and handlers; `leanmq apply` makes a server match it and
    `leanmq run` runs its handlers. New here? Try `leanmq demo`.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit. Never shows a traceback for an expected error."""
    arguments = sys.argv[1:] if argv is None else argv
    output = Output.from_arguments(arguments)
    try:
        with _obeying_sigterm():
            code = leanmq.main(args=arguments, prog_name="leanmq", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        output.note(help_wanted.format_message())
        code = USAGE_EXIT
    except BaseException as failure:
        code = report_failure(failure, output)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _obeying_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind a command as Ctrl-C does: locks are released, helpers end, temporary files go."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
