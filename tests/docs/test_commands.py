"""`docs/commands.md` names every command and option, and its examples print what it shows."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from leanmq_topology.brokers.embedded.launcher import stop
from leanmq_topology.cli.main import leanmq as group
from tests.docs.test_examples import run_until_settled
from tests.support.commands import leanmq
from tests.support.pages import as_pattern

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = {
    title.strip("` "): text
    for title, _, text in (part.partition("\n") for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:])
}
EVERYWHERE = "For all commands"
COMMON = {"files", "environment", "url", "output_format"}
EXAMPLE = re.compile(r"(?P<after><!-- after the worker -->\n)?```console\n(?P<body>.*?)```", re.DOTALL)
CODES = re.compile(r"^\| ([0-9, ]+) \|", re.MULTILINE)
NUMBER = re.compile(r"[0-9]+")


def list_commands(within: click.Group = group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(within)
    for name in within.list_commands(context):
        command = within.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from list_commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


FOUND = dict(list_commands())


def test_every_command_has_its_section_and_every_section_its_command():
    assert [title for title in SECTIONS if title != EVERYWHERE] != []
    assert set(SECTIONS) - {EVERYWHERE} == set(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_every_option_of_a_command_is_mentioned(name: str):
    command, section = FOUND[name], SECTIONS[name]
    for param in command.params:
        if isinstance(param, click.Option) and param.name not in COMMON:
            for spelling in param.opts:
                assert re.search(rf"`{spelling}[` ]", section), f"{spelling} is missing in {name}"
            if isinstance(param.type, click.Choice):
                for choice in param.type.choices:
                    assert f"`{choice}`" in section, f"{choice} is missing in {name}"


@pytest.mark.parametrize("name", FOUND)
def test_a_form_of_output_that_only_some_commands_have_is_mentioned(name: str):
    for param in FOUND[name].params:
        if param.name == "output_format" and isinstance(param.type, click.Choice):
            for form in set(param.type.choices) - {"text", "json"}:
                assert f"`-o {form}`" in SECTIONS[name]


def test_the_common_options_are_those_of_every_command():
    common = [param for param in FOUND["status"].params if param.name in COMMON]
    spellings = [spelling for param in common for spelling in param.opts]
    assert len(spellings) == 6
    for spelling in spellings:
        assert re.search(rf"`{spelling}[` ]", SECTIONS[EVERYWHERE])


@pytest.mark.parametrize("name", FOUND)
def test_every_section_tells_exit_codes_of_the_table(name: str):
    table = {int(code) for row in CODES.findall(PAGE) for code in row.split(",")}
    told = SECTIONS[name].rpartition("Exit codes: ")[2]
    codes = {int(code) for code in NUMBER.findall(re.sub(r"\(.*?\)", "", told, flags=re.DOTALL))}
    assert 0 in codes
    assert codes <= table


def test_every_command_but_those_that_do_not_end_or_are_typed_has_an_example_that_is_run():
    shown = {name for name, section in SECTIONS.items() if EXAMPLE.search(section)}
    assert set(FOUND) - shown == {"demo", "dev", "run", "shell"}


def test_the_examples_print_what_the_page_shows(tmp_path: Path):
    folder = tmp_path / "shop"
    shutil.copytree(ROOT / "examples" / "shop", folder)
    log = ""
    try:
        for found in EXAMPLE.finditer(PAGE):
            if found["after"]:
                _, log = run_until_settled(folder, "embedded:")
            for example in re.split(r"^\$ ", found["body"], flags=re.MULTILINE)[1:]:
                check_example(example, folder, log)
    finally:
        stop(folder, force=True)


def check_example(example: str, folder: Path, log: str) -> None:
    """`log` is that of the worker so far: it tells why a message went another way than the page shows."""
    command, _, shown = example.partition("\n")
    done = leanmq(*shlex.split(command)[1:], folder=folder)
    printed = done.stdout + done.stderr
    assert re.fullmatch(as_pattern(shown), printed), f"$ {command}\n{printed}\n{log}"
