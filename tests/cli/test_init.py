"""`leanmq init`: what it writes runs at once, and what is there is safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanmq_topology.cli.scaffold import TEMPLATES, name_topology
from tests.support.commands import leanmq
from tests.support.servers import Server


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_it_writes_is_valid_in_every_respect_and_takes_its_own_example(
    template: str, tmp_path: Path, valkey: Server, namespace: str
):
    made = leanmq("init", "project", "--template", template, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "project"
    checked = leanmq("validate", "--strict", "--handlers", folder=folder)
    assert (checked.returncode, checked.stderr) == (0, "")
    (folder / "own.yaml").write_text(f"broker: {{namespace: {namespace}}}\n")
    files = ("-f", "topology.yaml", "-f", "own.yaml")
    assert leanmq("apply", *files, folder=folder, url=valkey.url).returncode == 0
    [example] = [line for line in made.stdout.splitlines() if "--example" in line]
    sent = leanmq(*example.split()[1:], *files, folder=folder, url=valkey.url)
    assert sent.returncode == 0, sent.stderr


def test_the_topology_is_named_after_its_folder(tmp_path: Path):
    leanmq("init", "My Shop 2", folder=tmp_path)
    assert "\nname: my-shop-2\n" in (tmp_path / "My Shop 2" / "topology.yaml").read_text()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("2-Shops!", "shops"), ("Ünï", "n"), ("...", "app"), ("a" * 99, "a" * 64)],
)
def test_any_folder_name_becomes_a_valid_name(folder: str, name: str):
    assert name_topology(Path("/work") / folder) == name


def test_a_topology_that_is_there_is_never_overwritten(tmp_path: Path):
    (tmp_path / "topology.yaml").write_text("mine")
    done = leanmq("init", folder=tmp_path)
    assert done.returncode == 1
    assert "topology.yaml is there already" in done.stderr
    assert (tmp_path / "topology.yaml").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["topology.yaml"]


def test_a_readme_that_is_there_stays(tmp_path: Path):
    (tmp_path / "README.md").write_text("mine")
    done = leanmq("init", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "README.md").read_text() == "mine"
    assert "README.md" not in done.stdout
    assert "Next: `leanmq dev`" in done.stdout


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").touch()
    done = leanmq("init", "file/below", folder=tmp_path)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
