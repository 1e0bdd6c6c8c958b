"""`leanmq render`."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec.structs import replace

from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.topology.masking import mask_url
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.written import write_topology
from leanmq_topology.topology.yaml_text import write_yaml


@click.command("render")
@click.argument("path", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@common_options()
def command(call: Invocation, path: Path | None) -> None:
    """Print the merged, defaulted topology, secrets masked.

    Overlays, the chosen environment, variables and defaults are filled in, and schemas stand in place. The
    output is itself a valid topology.
    """
    values = write_topology(_masked(call.with_file(path).load_topology()))
    call.output.data(
        "render", {"topology": values}, "" if call.output.is_json else write_yaml(values).rstrip()
    )


def _masked(topology: Topology) -> Topology:
    url = topology.broker.url
    return replace(topology, broker=replace(topology.broker, url=url and mask_url(url)))
