"""`leanmq graph`."""

from __future__ import annotations

from pathlib import Path

import click

from leanmq_topology.cli.drawing import draw_data, draw_mermaid, draw_text
from leanmq_topology.cli.options import Invocation, common_options


@click.command("graph")
@click.argument("path", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@common_options(formats=("text", "mermaid", "json"))
def command(call: Invocation, path: Path | None) -> None:
    """Draw what leads where: routes, queues, handlers, dead letters."""
    topology = call.with_file(path).load_topology()
    if call.output.format == "mermaid":
        call.output.line(draw_mermaid(topology))
    elif call.output.is_json:
        call.output.data("graph", draw_data(topology), "")
    else:
        call.output.line(draw_text(topology))
