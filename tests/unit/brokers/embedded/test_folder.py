from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from leanmq_topology.brokers.embedded.folder import (
    SOCKET_PATH_BYTES,
    StateFolder,
    make_runtime,
    measure,
    remove_runtime,
)
from leanmq_topology.errors import BrokerUnavailableError
from tests.support.promises import require_root


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    state = StateFolder.beside(tmp_path)
    state.prepare()
    return state


def test_state_folder_keeps_itself_out_of_git(state: StateFolder) -> None:
    assert (state.path / ".gitignore").read_text() == "*\n"


def test_preparing_twice_changes_nothing(state: StateFolder) -> None:
    (state.path / ".gitignore").write_text("mine\n")
    state.prepare()
    assert (state.path / ".gitignore").read_text() == "mine\n"


def test_file_in_the_place_of_the_state_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / ".leanmq").write_text("")
    with pytest.raises(BrokerUnavailableError, match=r"cannot use .*\.leanmq") as caught:
        StateFolder.beside(tmp_path).prepare()
    assert "--url" in str(caught.value.hint)


def test_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailableError, match="no such file or directory"):
        StateFolder.beside(tmp_path / "none").prepare()


def test_lock_is_held_by_one_and_free_when_its_file_is_closed(state: StateFolder) -> None:
    lock = state.try_lock()
    assert lock is not None
    assert state.try_lock() is None
    os.close(lock)
    again = state.try_lock()
    assert again is not None
    os.close(again)


def test_lock_lives_on_in_a_copy_of_the_open_file(state: StateFolder) -> None:
    lock = state.try_lock()
    assert lock is not None
    inherited = os.dup(lock)
    os.close(lock)
    assert state.try_lock() is None
    os.close(inherited)


def test_lock_is_not_taken_through_a_symbolic_link(state: StateFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (state.path / "keeper.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BrokerUnavailableError, match=r"keeper\.lock"):
        state.try_lock()


def test_runtime_folder_is_private_short_and_remembered(state: StateFolder) -> None:
    runtime = make_runtime()
    state.write_runtime(runtime)
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(runtime / "k")) <= SOCKET_PATH_BYTES
    assert state.read_runtime() == runtime
    state.remove_stale_runtime()
    assert not runtime.exists()
    assert state.read_runtime() is None


@pytest.mark.parametrize("name", ["other", "leanmq"])
def test_runtime_folder_with_a_foreign_name_is_not_believed(
    state: StateFolder, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir(mode=0o700)
    state.write_runtime(tmp_path / name)
    assert state.read_runtime() is None


def test_runtime_folder_of_another_user_is_not_believed(state: StateFolder) -> None:
    require_root()
    runtime = make_runtime()
    os.chown(runtime, 65534, -1)
    state.write_runtime(runtime)
    assert state.read_runtime() is None
    runtime.rmdir()


def test_removing_a_runtime_folder_takes_only_our_sockets() -> None:
    runtime = make_runtime()
    (runtime / "k").touch()
    (runtime / "notes").touch()
    remove_runtime(runtime)
    assert [path.name for path in runtime.iterdir()] == ["notes"]
    (runtime / "notes").unlink()
    runtime.rmdir()


def test_temporary_directory_that_cannot_be_written_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(BrokerUnavailableError, match="no such file or directory"):
        make_runtime()


def test_measure_counts_the_bytes_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "one").write_bytes(b"x" * 10)
    (tmp_path / "deep" / "two").write_bytes(b"x" * 32)
    assert measure(tmp_path) == 42
