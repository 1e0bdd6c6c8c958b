"""Content decides what changed: dates, links and events do not."""

from __future__ import annotations

import os
from pathlib import Path

from leanmq_topology.runner.reload.snapshot import ABSENT, WatchList, list_changes, shorten, take_snapshot


def look(*files: Path, folders: frozenset[Path] = frozenset()) -> dict[Path, str]:
    return take_snapshot(WatchList(frozenset(files), folders))


def test_a_touch_is_no_change(tmp_path: Path):
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    before = look(file)
    os.utime(file, (1, 1))
    assert list_changes(before, look(file)) == []


def test_other_content_of_the_same_size_and_date_is_a_change(tmp_path: Path):
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    os.utime(file, ns=(5, 5))
    before = look(file)
    file.write_text("x = 2\n")
    os.utime(file, ns=(5, 5))
    assert list_changes(before, look(file)) == [file]


def test_a_link_that_leads_elsewhere_is_a_change_if_the_content_is_another(tmp_path: Path):
    for name, text in {"one": "1", "two": "2", "same": "1"}.items():
        (tmp_path / name).write_text(text)
    link = tmp_path / "link"
    link.symlink_to("one")
    before = look(link)
    for target, expected in {"same": [], "two": [link]}.items():
        link.unlink()
        link.symlink_to(target)
        assert list_changes(before, look(link)) == expected


def test_deleting_and_making_a_file_are_changes(tmp_path: Path):
    file = tmp_path / "a.py"
    before = look(file)
    assert before == {file: ABSENT}
    file.touch()
    there = look(file)
    assert list_changes(before, there) == [file]
    file.unlink()
    assert list_changes(there, look(file)) == [file]


def test_a_new_module_in_a_watched_folder_is_a_change_but_no_editor_file_is(tmp_path: Path):
    folders = frozenset({tmp_path})
    before = look(folders=folders)
    for name in (".a.py.swp", "a.py~", "4913", ".#a.py", "orders.log"):
        (tmp_path / name).touch()
    assert list_changes(before, look(folders=folders)) == []
    (tmp_path / "a.py").touch()
    assert list_changes(before, look(folders=folders)) == [tmp_path]


def test_only_what_both_looks_know_can_differ(tmp_path: Path):
    assert list_changes({tmp_path / "a": "1"}, {tmp_path / "b": "1"}) == []


def test_paths_are_shown_as_one_would_type_them(tmp_path: Path):
    assert shorten([tmp_path / "shop" / "a.py", Path("/etc/b.py")], tmp_path) == ["shop/a.py", "/etc/b.py"]
