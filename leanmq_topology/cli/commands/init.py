"""`leanmq init`: a folder that runs at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from leanmq_topology.cli.options import read_working_directory
from leanmq_topology.cli.output import Output
from leanmq_topology.cli.scaffold import KEPT, TEMPLATES, Template, name_topology
from leanmq_topology.errors import LeanMQError


class ScaffoldError(LeanMQError):
    """The folder cannot be filled."""


@click.command("init")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False), metavar="[DIR]")
@click.option(
    "--template",
    type=click.Choice(list(TEMPLATES)),
    default="starter",
    show_default=True,
    help="; ".join(f"{name}: {template.summary}" for name, template in TEMPLATES.items()) + ".",
)
@click.option(
    "-o", "--output", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Form of the answer on stdout.",
)  # fmt: skip
def command(folder: Path | None, template: str, output_format: str) -> None:
    """Make a small project that runs at once, in DIR or here.

    Nothing is overwritten: a README.md or .gitignore that is there stays, anything else that is there
    already is an error.
    """
    chosen, goal = TEMPLATES[template], folder or Path()
    name = name_topology((read_working_directory() / goal).resolve())
    written = write_files(goal, chosen.files(name))
    facts = {"folder": str(goal), "template": template, "files": written}
    Output(format=output_format).data("init", facts, tell(goal, written, chosen))


def write_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Returns what was written. Raises `ScaffoldError` before that if one of them is there already."""
    there = [path for path in files if os.path.lexists(folder / path)]
    in_the_way = [path for path in there if path not in KEPT]
    if in_the_way:
        raise ScaffoldError(
            f"{', '.join(in_the_way)} {'is' if len(in_the_way) == 1 else 'are'} there already",
            hint="name another folder: `leanmq init DIR`",
        )
    missing = [path for path in files if path not in there]
    try:
        for path in missing:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(files[path], encoding="utf-8")
    except OSError as failure:
        raise ScaffoldError(f"{failure.filename} cannot be written: {failure.strerror}") from failure
    return missing


def tell(folder: Path, written: Sequence[str], template: Template) -> str:
    """What was written, and what to type next."""
    steps = [*([] if folder == Path() else [f"cd {folder}"]), "leanmq dev"]
    return "\n".join(
        [
            *(f"wrote {folder / path}" for path in written),
            "",
            f"Next: `{' && '.join(steps)}`; in a second terminal",
            *(f"  leanmq {words}" for words in template.try_next),
            "Then change a file and save it.",
        ]
    )
