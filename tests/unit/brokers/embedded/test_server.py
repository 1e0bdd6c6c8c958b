from __future__ import annotations

from pathlib import Path

from leanmq_topology.brokers.embedded.server import (
    LOG_KEPT_BYTES,
    LOG_LIMIT_BYTES,
    Log,
    server_arguments,
)


def test_log_that_grew_too_long_keeps_its_end_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    lines = [f"line {number:09}" for number in range(LOG_LIMIT_BYTES // 15 + 1000)]
    path.write_text("\n".join(lines) + "\n")
    Log(str(path)).bound()
    kept = path.read_text().splitlines()
    assert LOG_KEPT_BYTES - 100 < path.stat().st_size <= LOG_KEPT_BYTES
    assert kept == lines[-len(kept) :]


def test_log_within_its_limit_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"x" * LOG_LIMIT_BYTES)
    Log(str(path)).bound()
    assert path.stat().st_size == LOG_LIMIT_BYTES


def test_log_shows_the_last_lines_of_this_start_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("of an earlier start\n")
    log = Log(str(path))
    log.remember()
    assert log.tail() == []
    with path.open("a") as file:
        file.write("".join(f"line {number}\n\n" for number in range(20)))
    assert log.tail() == [f"line {number}" for number in range(12, 20)]


def test_log_that_is_gone_shows_nothing(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "none"))
    log.remember()
    log.bound()
    assert log.tail() == []


def test_options_travel_as_arguments_with_no_way_in_but_the_socket() -> None:
    arguments = server_arguments(
        "/bin/valkey-server", socket_path="/t/s", data="/a folder/data", ephemeral=False
    )
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert options["--port"] == "0"
    assert options["--unixsocket"] == "/t/s"
    assert options["--unixsocketperm"] == "600"
    assert options["--dir"] == "/a folder/data"
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def test_ephemeral_server_writes_no_log_of_its_data() -> None:
    arguments = server_arguments("/bin/valkey-server", socket_path="/t/s", data="/t/data", ephemeral=True)
    assert dict(zip(arguments[1::2], arguments[2::2], strict=True))["--appendonly"] == "no"
