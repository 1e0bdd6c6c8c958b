"""`leanmq server start|status|stop|url`: the embedded broker of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.options import Invocation, common_options, read_working_directory
from leanmq_topology.errors import BrokerUnavailableError, SettingError

if TYPE_CHECKING:
    from leanmq_topology.brokers.embedded.line import ServerFacts

KEYS = (
    "running",
    "url",
    "pid",
    "keeper_pid",
    "server",
    "version",
    "started_at",
    "pinned",
    "unwritten",
    "holders",
    "data",
    "data_bytes",
)
"""Of the JSON form, whether it runs or not."""


@click.group("server")
def command() -> None:
    """Start, stop or look at the embedded broker.

    `embedded:` is a real Valkey that the commands of a folder share. It starts with the first of them and
    stops shortly after the last; `start` keeps it until `stop`. Its data is in .leanmq/ beside the topology.
    """


@command.command("start")
@common_options()
def start(call: Invocation) -> None:
    """Start it, and keep it running until `leanmq server stop`."""
    from leanmq_topology.brokers.embedded.launcher import hold

    folder = find_folder(call)
    with hold(folder, name="leanmq server start") as held:
        held.pin()
    report_state(call, folder)


@command.command("status")
@common_options()
def status(call: Invocation) -> None:
    """Show whether it runs, where, and who uses it."""
    report_state(call, find_folder(call))


@command.command("stop")
@click.option("--force", is_flag=True, help="Stop it even while other commands use it, or its disk is full.")
@common_options()
def stop(call: Invocation, force: bool) -> None:
    """Stop it; while other commands use it, or its disk is full, it stops when that ends."""
    from leanmq_topology.brokers.embedded.launcher import stop as stop_server

    folder = find_folder(call)
    facts = stop_server(folder, force=force)
    if facts is None:
        call.output.data("server", describe_stopped(folder), "")
        call.output.note(f"no embedded broker is running in {folder}")
    elif facts.ending:
        call.output.data("server", describe_stopped(folder), "stopped")
    else:
        call.output.data("server", describe(facts), "")
        if facts.unwritten:
            call.output.note(
                f"the disk of {folder} is full: it stays until all it was sent is written\n"
                "  make room, or give that up with `leanmq server stop --force`"
            )
            return
        call.output.note(
            f"still used by {_name_holders(facts)}; it stops when they end\n"
            "  stop it now with `leanmq server stop --force`"
        )


@command.command("url")
@common_options()
def url(call: Invocation) -> None:
    """Print its URL, for other Redis clients. It must be running."""
    from leanmq_topology.brokers.embedded.launcher import look

    folder = find_folder(call)
    facts = look(folder)
    if facts is None:
        raise BrokerUnavailableError(
            f"no embedded broker is running in {folder}", hint="start it with `leanmq server start`"
        )
    call.output.data("server", describe(facts), facts.url)


def find_folder(call: Invocation) -> Path:
    """The folder whose broker is meant: the topology file's, else the working directory."""
    _check_url(call.settings.url)
    try:
        return call.topology_files()[0].resolve().parent
    except SettingError:
        return read_working_directory()


def _check_url(named: str | None) -> None:
    """`--url` may say `embedded:`; any other server is not ours to start or stop."""
    from leanmq_topology.brokers.connect import is_embedded
    from leanmq_topology.brokers.embedded.address import parse_embedded

    if named is None:
        return
    if not is_embedded(named):
        raise SettingError(
            "--url", "`leanmq server` is about the embedded broker only", hint="leave --url out"
        )
    if parse_embedded(named).ephemeral:
        raise SettingError(
            "--url", "an ephemeral broker ends with its command", hint="leave ?ephemeral=1 out"
        )


def report_state(call: Invocation, folder: Path) -> None:
    from leanmq_topology.brokers.embedded.launcher import look

    facts = look(folder)
    if facts is None:
        text = f"not running\n  folder  {folder}"
        call.output.data("server", describe_stopped(folder), text)
        return
    call.output.data("server", describe(facts), render(facts))


def describe_stopped(folder: Path) -> dict[str, Any]:
    """The same keys, with what is still known."""
    from leanmq_topology.brokers.embedded.folder import StateFolder, measure

    data = StateFolder.beside(folder).data
    kept = {"data": str(data), "data_bytes": measure(data)} if data.is_dir() else {}
    return {
        **dict.fromkeys(KEYS),
        **dict.fromkeys(("running", "pinned", "unwritten"), False),
        "holders": [],
        **kept,
    }


def describe(facts: ServerFacts) -> dict[str, Any]:
    """What `-o json` prints."""
    from leanmq_topology.brokers.embedded.folder import measure

    return {
        "running": True,
        "url": facts.url,
        "pid": facts.server_pid,
        "keeper_pid": facts.keeper_pid,
        "server": facts.server_name,
        "version": facts.server_version,
        "started_at": facts.started_at,
        "pinned": facts.pinned,
        "unwritten": facts.unwritten,
        "holders": list(facts.holders),
        "data": facts.data,
        "data_bytes": measure(Path(facts.data)),
    }


def render(facts: ServerFacts) -> str:
    from leanmq_topology.brokers.embedded.folder import measure
    from leanmq_topology.topology.values import format_size

    stays = "until `leanmq server stop`" if facts.pinned else "while commands use it"
    if facts.unwritten:
        stays = "until its disk has room for all it was sent"
    rows = {
        "url": facts.url,
        "server": f"{facts.server_name.capitalize()} {facts.server_version}, pid {facts.server_pid}",
        "data": f"{facts.data} ({format_size(measure(Path(facts.data)))})",
        "stays": stays,
        "users": _name_holders(facts) or "none",
    }
    return "\n".join(["running", *(f"  {name:<7} {value}" for name, value in rows.items())])


def _name_holders(facts: ServerFacts) -> str:
    return ", ".join(f"{holder['name']} (pid {holder['pid']})" for holder in facts.holders)
