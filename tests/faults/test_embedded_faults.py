"""What breaks around an embedded broker: no process may stay, no acknowledged write may go."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from leanmq_topology.brokers.embedded import starter
from leanmq_topology.brokers.embedded.address import EmbeddedAddress
from leanmq_topology.brokers.embedded.folder import StateFolder
from leanmq_topology.brokers.embedded.launcher import hold, look, stop
from leanmq_topology.errors import BrokerRefusedError, BrokerUnavailableError
from tests.support.processes import HOLDING, HoldingCommand, is_alive, wait_until, wait_until_gone
from tests.support.promises import require_root
from tests.support.servers import Server, require_binary

AT_ONCE = EmbeddedAddress(linger_ms=0)
TIES = pytest.mark.parametrize("tie", ["kernel", "guard"])
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path, force=True)


def write(facts: dict[str, Any], key: str) -> None:
    with Redis(unix_socket_path=facts["socket"]) as client:
        assert client.set(key, "x")


def assert_kept(folder: Path, key: str) -> None:
    with hold(folder, AT_ONCE) as held, Redis(unix_socket_path=held.facts.socket) as client:
        assert client.get(key) == b"x"


# -- something is killed ---------------------------------------------------------------------------------


@TIES
def test_killed_command_leaves_nothing_running(folder: Path, tie: str) -> None:
    with HoldingCommand(folder, tie=tie) as command:
        facts = command.wait_for_facts()
        write(facts, "kept")
        command.process.kill()
        wait_until_gone(facts["keeper_pid"], facts["server_pid"])
    assert_kept(folder, "kept")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_signal_to_a_command_and_its_children_is_not_for_the_server_of_all(
    folder: Path, number: signal.Signals
) -> None:
    with HoldingCommand(folder) as first, HoldingCommand(folder) as other:
        facts = first.wait_for_facts()
        other.wait_for_facts()
        first.send_signal(number)
        first.process.wait(20)
        write(facts, "kept")
        running = look(folder)
        assert running is not None
        assert running.server_pid == facts["server_pid"]
        other.let_go()
    wait_until_gone(facts["keeper_pid"], facts["server_pid"])
    assert_kept(folder, "kept")


def test_command_killed_while_it_starts_the_server_leaves_nothing_running(folder: Path) -> None:
    with HoldingCommand(folder) as command:
        record = folder / ".leanmq" / "server.json"
        wait_until(record.exists, "the start")
        command.process.kill()
        running = look(folder)
        if running is not None:
            wait_until_gone(running.keeper_pid, running.server_pid)
    with hold(folder, AT_ONCE):
        pass


def test_server_that_does_not_obey_is_killed(folder: Path) -> None:
    binary = require_binary("valkey9")
    code = """
import os, signal, sys
from leanmq_topology.brokers.embedded import server
server.STOP_SECONDS = 0.2
binary, folder = sys.argv[1:]
arguments = server.server_arguments(binary, socket_path=f"{folder}/s", data=folder, ephemeral=True)
lock = os.open(f"{folder}/lock", os.O_CREAT | os.O_RDWR)
log = server.Log(f"{folder}/log")
child = server.Server(arguments, socket_path=f"{folder}/s", data=folder, log=log, lock=lock, tie="kernel")
child.start()
print(child.pid)
os.kill(child.pid, signal.SIGSTOP)
child.stop()
print(child.pid)
"""
    with tempfile.TemporaryDirectory(prefix="lq") as place:
        ran = subprocess.run(
            [sys.executable, "-c", code, str(binary), place], capture_output=True, text=True, check=True
        )
    first, after = [int(line) for line in ran.stdout.splitlines() if line.isdecimal()]
    assert not is_alive(first)
    assert after == 0


def test_killed_shell_with_all_it_started_leaves_nothing_running(folder: Path) -> None:
    """What closing a terminal window the hard way does."""
    facts_file = folder / "facts"
    holding = shlex.join([sys.executable, "-c", HOLDING, str(folder), "100", "kernel"])
    started = f"{holding} > {shlex.quote(str(facts_file))} & wait"
    with subprocess.Popen(["sh", "-c", started], stdin=subprocess.PIPE, process_group=0) as shell:
        wait_until(lambda: facts_file.exists() and facts_file.read_text().endswith("\n"), "the share")
        facts = json.loads(facts_file.read_text())
        os.killpg(shell.pid, signal.SIGKILL)
    wait_until_gone(facts["keeper_pid"], facts["server_pid"])


@TIES
def test_killed_keeper_takes_its_server_along_and_the_next_command_starts_anew(
    folder: Path, tie: str
) -> None:
    with HoldingCommand(folder, tie=tie) as command:
        facts = command.wait_for_facts()
        write(facts, "kept")
        os.kill(facts["keeper_pid"], signal.SIGKILL)
        wait_until_gone(facts["server_pid"])
        assert_kept(folder, "kept")
    assert not Path(facts["socket"]).parent.exists(), "the next start removes what the killed keeper left"


def test_folder_of_a_killed_keeper_is_free_only_once_its_server_is_gone(folder: Path) -> None:
    """Two servers on one append-only file would destroy it."""
    with HoldingCommand(folder, tie="guard") as command:
        facts = command.wait_for_facts()
        guard = find_guard(facts)
        os.kill(guard, signal.SIGSTOP)
        os.kill(facts["keeper_pid"], signal.SIGKILL)
        wait_until_gone(facts["keeper_pid"])
        assert is_alive(facts["server_pid"])
        assert StateFolder.beside(folder).try_lock() is None
        os.kill(guard, signal.SIGCONT)
        with hold(folder, AT_ONCE) as next_one:
            assert not is_alive(facts["server_pid"])
            assert next_one.facts.server_pid != facts["server_pid"]


def find_guard(facts: dict[str, Any]) -> int:
    """The third process of a keeper without the kernel's help."""
    children = {child.pid for child in psutil.Process(facts["keeper_pid"]).children()}
    (guard,) = children - {facts["server_pid"]}
    return guard


@TIES
def test_killed_server_comes_back_for_those_who_use_it(folder: Path, tie: str) -> None:
    with HoldingCommand(folder, tie=tie) as command:
        facts = command.wait_for_facts()
        write(facts, "kept")
        os.kill(facts["server_pid"], signal.SIGKILL)
        wait_until(lambda: find_server(folder) not in {0, facts["server_pid"]}, "another server")
        with Redis(unix_socket_path=facts["socket"]) as client:
            assert client.get("kept") == b"x"
        revived = find_server(folder)
        command.let_go()
    wait_until_gone(facts["keeper_pid"], revived)


def find_server(folder: Path) -> int:
    running = look(folder)
    return running.server_pid if running else 0


def test_server_that_keeps_dying_is_given_up(folder: Path) -> None:
    with HoldingCommand(folder) as command:
        facts = command.wait_for_facts()
        killed = {0}
        while is_alive(facts["keeper_pid"]):
            server = find_server(folder)
            if server not in killed:
                killed.add(server)
                os.kill(server, signal.SIGKILL)
            assert len(killed) < 10
    assert len(killed - {0}) >= 3
    wait_until_gone(*(killed - {0}))
    assert not Path(facts["socket"]).parent.exists()
    assert not (folder / ".leanmq" / "server.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_keeper_told_to_end_stops_its_server_cleanly(folder: Path, number: signal.Signals) -> None:
    with HoldingCommand(folder) as command:
        facts = command.wait_for_facts()
        write(facts, "kept")
        os.kill(facts["keeper_pid"], number)
        wait_until_gone(facts["keeper_pid"], facts["server_pid"])
    assert "ready to exit" in (folder / ".leanmq" / "server.log").read_text()
    assert not (folder / ".leanmq" / "server.json").exists()
    assert_kept(folder, "kept")


# -- something is left over, or is not ours --------------------------------------------------------------


@pytest.mark.parametrize(
    "left", ["", "{", "[]", '{"runtime": 7}', '{"runtime": "/nowhere"}', '{"runtime": ""}']
)
def test_record_that_leads_nowhere_is_replaced(folder: Path, left: str) -> None:
    StateFolder.beside(folder).prepare()
    (folder / ".leanmq" / "server.json").write_text(left)
    with hold(folder, AT_ONCE) as held:
        assert is_alive(held.facts.server_pid)


def test_record_that_leads_to_an_open_folder_is_not_believed(folder: Path) -> None:
    """A checkout may bring a record along; it must not lead to a stranger's socket."""
    state = StateFolder.beside(folder)
    state.prepare()
    stranger = Path(tempfile.mkdtemp(prefix="leanmq-"))
    state.write_runtime(stranger)
    assert state.read_runtime() == stranger
    stranger.chmod(0o755)
    assert state.read_runtime() is None
    stranger.rmdir()


def test_another_server_on_our_socket_is_refused(folder: Path) -> None:
    binary = require_binary("valkey9")
    stranger = Server("valkey9", binary).start()
    with hold(folder, AT_ONCE) as held:
        socket = Path(held.facts.socket)
        socket.unlink()
        socket.symlink_to(stranger.socket_path)
        with pytest.raises(BrokerRefusedError, match=f"another server .* \\(pid {held.facts.server_pid}\\)"):
            hold(folder, AT_ONCE)
    stranger.stop()


# -- it cannot start -------------------------------------------------------------------------------------


def test_damaged_data_is_one_clear_error_with_what_the_server_said(folder: Path) -> None:
    with hold(folder, AT_ONCE) as held, Redis(unix_socket_path=held.facts.socket) as client:
        for number in range(100):
            client.set(f"key{number}", "x" * 100)
    (log,) = (folder / ".leanmq" / "data" / "appendonlydir").glob("*.incr.aof")
    content = log.read_bytes()
    log.write_bytes(content[:3000] + b"?" * 500 + content[3500:])
    with pytest.raises(BrokerUnavailableError, match="Bad file format") as caught:
        hold(folder, AT_ONCE)
    assert "valkey-check-aof" in str(caught.value.hint)
    assert look(folder) is None
    log.write_bytes(content)
    with hold(folder, AT_ONCE):
        pass


@pytest.mark.parametrize(
    ("script", "said", "hint"),
    [
        ("echo 'Fatal: No space left on device'; exit 1", "No space left", "disk is full"),
        ("exit 1", "the server ended while starting", "server.log"),
        ("for i in 1 2 3 4 5 6 7 8 9 10 11; do echo line$i; done; exit 1", "line11", "server.log"),
    ],
)
def test_server_that_ends_at_once_is_one_clear_error(
    folder: Path, script: str, said: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = write_program(folder, script)
    monkeypatch.setattr(starter, "find_server_binary", lambda: program)
    with pytest.raises(BrokerUnavailableError, match=said) as caught:
        hold(folder)
    assert hint in str(caught.value.hint)
    assert "line3" not in str(caught.value)
    assert look(folder) is None
    assert sorted(path.name for path in (folder / ".leanmq").iterdir()) == [
        ".gitignore",
        "data",
        "keeper.lock",
        "server.log",
    ]


def test_program_that_cannot_be_run_is_one_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_program(folder, "exit 0")
    program.write_bytes(b"\x7fELF nonsense")
    monkeypatch.setattr(starter, "find_server_binary", lambda: program)
    with pytest.raises(BrokerUnavailableError, match=r"cannot run .*Exec format error"):
        hold(folder)


def write_program(folder: Path, script: str) -> Path:
    program = folder / "server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_ephemeral_server_that_does_not_start_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = write_program(folder, "exit 1")
    monkeypatch.setattr(starter, "find_server_binary", lambda: program)
    with tempfile.TemporaryDirectory(prefix="lq") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        with pytest.raises(BrokerUnavailableError, match="ended while starting"):
            hold(folder, EmbeddedAddress(ephemeral=True, linger_ms=0))
        wait_until(lambda: not list(Path(place).iterdir()), "the removal of the temporary folder")


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_folder_that_may_not_be_written_is_one_clear_error(mode: int) -> None:
    with tempfile.TemporaryDirectory(prefix="lq") as place:
        Path(place).chmod(0o755)
        closed = Path(place) / "closed"
        closed.mkdir()
        closed.chmod(mode)
        told = hold_without_rights(closed)
        closed.chmod(0o700)
    assert "permission denied" in told
    assert "LEANMQ_URL" in told


def test_state_folder_of_another_user_is_one_clear_error() -> None:
    require_root()
    with tempfile.TemporaryDirectory(prefix="lq") as place:
        Path(place).chmod(0o755)
        StateFolder.beside(Path(place)).prepare()
        told = hold_without_rights(Path(place))
    assert f"{place}/.leanmq belongs to user 0, this is user {NOBODY}" in told


def hold_without_rights(folder: Path) -> str:
    """What somebody without root's rights is told."""
    code = """
import os, sys
from pathlib import Path
from leanmq_topology.brokers.embedded.launcher import hold
from leanmq_topology.errors import BrokerUnavailableError
if os.geteuid() == 0:
    os.setuid(int(sys.argv[2]))
try:
    hold(Path(sys.argv[1]))
except BrokerUnavailableError as failure:
    print(failure, failure.hint)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, folder, str(NOBODY)], capture_output=True, text=True, check=True, cwd="/"
    )
    return ran.stdout
