"""Which folders are watched for a path, links and missing parts included."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanmq_topology.runner.reload.places import list_folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def test_a_file_is_watched_by_its_folder(root: Path):
    (root / "a.py").touch()
    assert list_folders([root / "a.py"]) == {root}


def test_a_file_that_is_missing_is_awaited_in_the_deepest_folder_there_is(root: Path):
    assert list_folders([root / "shop" / "tax" / "rates.py"]) == {root}
    (root / "shop").mkdir()
    assert list_folders([root / "shop" / "tax" / "rates.py"]) == {root / "shop"}


def test_a_folder_that_is_a_link_is_watched_where_the_link_lies_and_where_it_leads(root: Path):
    release = root / "releases" / "1"
    release.mkdir(parents=True)
    (release / "topology.yaml").touch()
    (root / "current").symlink_to(Path("releases") / "1")
    assert list_folders([root / "current" / "topology.yaml"]) == {root, release}


def test_a_kubernetes_volume_is_watched_where_its_links_are_swapped(root: Path):
    data = root / "..2026_11_29"
    data.mkdir()
    (data / "topology.yaml").touch()
    (root / "..data").symlink_to(data.name)
    (root / "topology.yaml").symlink_to(Path("..data") / "topology.yaml")
    assert list_folders([root / "topology.yaml"]) == {root, data}


def test_a_link_that_leads_upwards_is_followed(root: Path):
    (root / "shared").mkdir()
    (root / "shared" / "a.yaml").touch()
    (root / "app").mkdir()
    (root / "app" / "a.yaml").symlink_to(Path("..") / "shared" / "a.yaml")
    assert list_folders([root / "app" / "a.yaml"]) == {root / "app", root / "shared"}


def test_links_that_lead_in_a_circle_end(root: Path):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    assert list_folders([root / "one"]) == {root}


def test_a_watched_folder_is_watched_itself(root: Path):
    (root / "shop").mkdir()
    assert list_folders([root / "shop"]) == {root, root / "shop"}
