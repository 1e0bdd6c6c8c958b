"""What a service manager hears, over a real datagram socket."""

from __future__ import annotations

import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology.runner.supervisor.members import Generation
from leanmq_topology.runner.supervisor.notify import Notifier
from leanmq_topology.runner.supervisor.supervisor import Supervisor
from leanmq_topology.runner.supervisor.wire import Failed


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    with (
        tempfile.TemporaryDirectory(prefix="lmq-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        name = str(Path(folder) / "s") if request.param == "path" else f"@lmq-{secrets.token_hex(8)}"
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(20)
        yield name, listening


def test_ready_reloading_refused_and_stopping_are_told(manager: tuple[str, socket.socket]):
    address, listening = manager
    notifier = Notifier.find({"NOTIFY_SOCKET": address}, 1)
    assert notifier is not None
    notifier.serving(Generation(1))
    assert listening.recv(1000) == b"READY=1\nSTATUS=generation 1 serves"
    notifier.reloading(Generation(2))
    assert listening.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.refused(Generation(2), Failed("SyntaxError", "orders.py:1: no such module\nand more"))
    assert b"generation 2 was refused: orders.py:1: no such module" in listening.recv(1000)
    notifier.stopping()
    assert listening.recv(1000).startswith(b"STOPPING=1")


def test_the_watchdog_is_fed_twice_as_often_as_it_asks(manager: tuple[str, socket.socket]):
    address, listening = manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "7"}
    notifier = Notifier.find(environ, 7)
    assert notifier is not None
    supervisor = Supervisor(lambda birth: lambda upward: 0, lambda dead: None)
    with supervisor.turns:
        notifier.attach(supervisor)
        supervisor.turns.turn()
        assert listening.recv(1000) == b"WATCHDOG=1"
        assert listening.recv(1000) == b"WATCHDOG=1"


def test_a_watchdog_meant_for_another_process_is_left_alone():
    notifier = Notifier.find({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "7"}, 8)
    assert notifier is not None
    supervisor = Supervisor(lambda birth: lambda upward: 0, lambda dead: None)
    with supervisor.turns:
        notifier.attach(supervisor)
        assert supervisor.turns.is_idle


def test_nobody_listens_without_a_socket_and_a_manager_that_is_gone_is_no_error():
    assert Notifier.find({}, 1) is None
    assert Notifier.find({"NOTIFY_SOCKET": "vsock:2:1234"}, 1) is None
    Notifier("/nowhere/at/all").stopping()
