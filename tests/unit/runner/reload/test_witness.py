"""The files that imports used, failed on or looked for in vain."""

from __future__ import annotations

import importlib
import os
import py_compile
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import leanmq_topology
from leanmq_topology.runner.reload.snapshot import ABSENT, digest_file
from leanmq_topology.runner.reload.witness import ImportWitness


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """First on `sys.path`; modules that were imported from it are forgotten again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


PACKAGE_PATH = list(leanmq_topology.__path__)
Seen = Callable[[str], dict[Path, str]]


@pytest.fixture
def seen(folder: Path) -> Seen:
    """Imports a module and returns what of the folder was asked for."""

    def watch(name: str) -> dict[Path, str]:
        importlib.invalidate_caches()
        witness = ImportWitness()
        witness.start()
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError):
            pass
        finally:
            witness.stop()
        return {path: told for path, told in witness.snapshot().items() if path.is_relative_to(folder)}

    return watch


def write(file: Path, text: str = "") -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_a_module_its_package_and_what_they_import_are_seen_with_their_content(folder: Path, seen: Seen):
    files = [
        write(folder / "wtn_shop" / "__init__.py"),
        write(folder / "wtn_shop" / "billing.py", "from wtn_shop import tax\nimport wtn_rates, colorsys\n"),
        write(folder / "wtn_shop" / "tax.py", "import json, click\n"),
        write(folder / "wtn_rates.py"),
    ]
    assert seen("wtn_shop.billing") == {file: digest_file(file) for file in files}


def test_a_module_that_is_no_python_is_seen_though_it_was_never_imported(folder: Path, seen: Seen):
    broken = write(folder / "wtn_broken.py", "def f(:\n")
    write(folder / "wtn_outer.py", "import wtn_broken\n")
    assert broken in seen("wtn_outer")


def test_a_module_that_is_missing_is_awaited_where_it_was_looked_for(folder: Path, seen: Seen):
    write(folder / "wtn_lonely" / "__init__.py", "from . import tax\n")
    found = seen("wtn_lonely")
    assert found[folder / "wtn_lonely" / "tax.py"] == ABSENT
    assert found[folder / "wtn_lonely" / "tax" / "__init__.py"] == ABSENT


def test_an_import_that_may_fail_is_awaited_too(folder: Path, seen: Seen):
    write(folder / "wtn_able.py", "try:\n    import wtn_settings\nexcept ImportError:\n    pass\n")
    assert seen("wtn_able")[folder / "wtn_settings.py"] == ABSENT


def test_what_is_installed_and_what_comes_with_python_is_not_watched(folder: Path):
    witness = ImportWitness()
    for module, path in {"json": None, "click": None, "leanmq_topology.clock": PACKAGE_PATH}.items():
        assert witness.find_spec(module, path) is None
    assert not witness.seen


def test_a_folder_without_init_is_a_package_whose_modules_are_seen(folder: Path, seen: Seen):
    file = write(folder / "wtn_space" / "orders.py")
    assert list(seen("wtn_space.orders")) == [file]


def test_the_newest_code_is_loaded_though_bytecode_of_the_same_size_and_date_lies_beside_it(folder: Path):
    file = write(folder / "wtn_cached.py", "ANSWER = 1\n")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    py_compile.compile(str(file), doraise=True)
    file.write_text("ANSWER = 2\n")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert subprocess_answer(folder, "pass") == "1"  # what Python does by itself
    witnessing = "from leanmq_topology.runner.reload.witness import ImportWitness; ImportWitness().start()"
    assert subprocess_answer(folder, witnessing) == "2"


def subprocess_answer(folder: Path, before: str) -> str:
    code = f"{before}\nimport wtn_cached\nprint(wtn_cached.ANSWER)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_module_that_is_imported_later_is_told_and_a_second_look_at_its_source_is_not(folder: Path):
    file = write(folder / "wtn_later.py", "def f(): ...\n")
    witness = ImportWitness()
    told: list[dict[Path, str]] = []
    witness.on_more = lambda more: told.append(dict(more))
    witness.start()
    try:
        module = importlib.import_module("wtn_later")
        loaded = digest_file(file)
        file.write_text("def f(): return 2\n")
        assert module.__loader__.get_source("wtn_later") == "def f(): return 2\n"
    finally:
        witness.stop()
    assert [more for more in told if file in more] == [{file: loaded}]
    assert witness.snapshot()[file] == loaded
