"""The socket under the blocking connection: parts, limits, interruptions, and what is no answer."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import hiredis
import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.wire import BUFFER_BYTES, TlsWire, Wire
from tests.support.certificates import Authority
from tests.support.chaos_proxy import ChaosProxy
from tests.support.servers import Server

SECONDS = 10.0
"""Longer than anything here takes."""


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire, and the far end of its socket."""
    near, far = socket.socketpair()
    yield Wire(near), far
    near.close()
    far.close()


@contextmanager
def interrupted(every_s: float) -> Iterator[list[int]]:
    """A signal keeps coming, as a sampling profiler's does; yields those heard."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield heard
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_answers_that_come_in_parts_are_put_together(ends: tuple[Wire, socket.socket]):
    wire, far = ends
    body = b"x" * (3 * BUFFER_BYTES)
    packed = b"$%d\r\n%b\r\n:7\r\n" % (len(body), body)

    def say() -> None:
        for start in range(0, len(packed), 50_000):
            far.sendall(packed[start : start + 50_000])

    saying = threading.Thread(target=say)
    saying.start()
    assert wire.read(SECONDS) == body
    assert wire.read(SECONDS) == 7
    saying.join()


def test_what_the_system_does_not_take_at_once_is_written_as_it_does(ends: tuple[Wire, socket.socket]):
    wire, far = ends
    said = bytes(range(256)) * 40_000
    writing = threading.Thread(target=wire.write, args=(said, SECONDS))
    writing.start()
    heard = bytearray()
    while len(heard) < len(said):
        heard += far.recv(1 << 16)
    writing.join()
    assert heard == said


def test_an_answer_after_the_first_moment_is_heard(ends: tuple[Wire, socket.socket]):
    wire, far = ends
    threading.Timer(0.05, far.sendall, (b"+late\r\n",)).start()
    assert wire.read(SECONDS) == b"late"


def test_no_answer_in_time_is_told_however_often_a_signal_interrupts(ends: tuple[Wire, socket.socket]):
    wire, _ = ends
    with interrupted(every_s=0.01) as heard:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            wire.read(0.2)
        assert time.monotonic() - began < SECONDS / 2
    assert len(heard) > 2


def test_a_peer_that_takes_nothing_is_given_up(ends: tuple[Wire, socket.socket]):
    wire, _ = ends
    with pytest.raises(TimeoutError):
        wire.write(b"x" * 50_000_000, 0.05)


def test_a_closed_connection_and_what_is_no_answer_are_told_apart(ends: tuple[Wire, socket.socket]):
    wire, far = ends
    far.sendall(b"+last\r\n?")
    assert wire.read(SECONDS) == b"last"
    with pytest.raises(hiredis.ProtocolError):
        wire.read(SECONDS)
    far.close()
    with pytest.raises(ConnectionError, match="the server closed it"):
        Wire(wire._socket).read(SECONDS)


def test_waiting_for_something_to_read_tells_of_what_was_read_already(ends: tuple[Wire, socket.socket]):
    wire, far = ends
    assert not wire.can_read(0.01)
    far.sendall(b"+a\r\n+b\r\n")
    assert wire.can_read(SECONDS)
    assert wire.read(SECONDS) == b"a"
    assert wire.can_read(0)
    assert wire.read(SECONDS) == b"b"
    assert not wire.can_read(0.01)


def test_an_interrupted_call_leaves_its_answer_to_nobody(server: Server):
    """Ctrl-C between write and read: the next call must not hear the answer to this one."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with ChaosProxy(server.socket_path) as proxy:
        connection = BlockingRedisConnection.open(parse_address(proxy.url))
        first = connection.connection_id
        proxy.hold_answers()
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for after_s in (0.002, 0.2):  # in the kernel's moment, and in what follows it
                signal.setitimer(signal.ITIMER_REAL, after_s)
                with pytest.raises(KeyboardInterrupt):
                    connection.execute(Call("echo", "ECHO", (), ("meant for nobody",), bytes))
                proxy.release_answers()
                assert connection.execute(Call("echo", "ECHO", (), ("mine",), bytes)) == b"mine"
                assert connection.connection_id != first
                proxy.hold_answers()
        finally:
            signal.signal(signal.SIGALRM, before)
            proxy.release_answers()
            connection.close()


def test_two_threads_write_and_read_one_tls_connection(tmp_path: Path):
    authority = Authority(tmp_path).make()
    certificate = authority.sign("server", "DNS:localhost")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate.path, certificate.key)
    near, far = socket.socketpair()
    trusting = ssl.create_default_context(cafile=str(authority.path))

    def echo() -> None:
        with served.wrap_socket(far, server_side=True) as peer:
            while chunk := peer.recv(1 << 16):
                peer.sendall(chunk)

    echoing = threading.Thread(target=echo)
    echoing.start()
    wire = TlsWire(trusting.wrap_socket(near, server_hostname="localhost"))
    words = [b"$%d\r\n%b\r\n" % (20_000, bytes([65 + n % 26]) * 20_000) for n in range(200)]
    writing = threading.Thread(target=lambda: [wire.write(word, SECONDS) for word in words])
    writing.start()
    heard = [wire.read(SECONDS) for _ in words]
    writing.join()
    assert heard == [word.split(b"\r\n")[1] for word in words]
    wire.close()
    echoing.join()


# -- looking out for an answer that should be there soon --------------------------------------------------


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each answer that was looked out for."""
    seen: list[str] = []
    look_out = Wire._look_out

    def note(wire: Wire) -> None:
        seen.append("looked")
        look_out(wire)

    monkeypatch.setattr(Wire, "_look_out", note)
    return seen


def test_an_answer_that_is_there_soon_is_not_slept_for(
    ends: tuple[Wire, socket.socket], looks: list[str], monkeypatch: pytest.MonkeyPatch
):
    wire, far = ends
    monkeypatch.setattr(Wire, "_receive", lambda wire: pytest.fail("it slept"))
    for n in range(100):
        far.sendall(b":%d\r\n" % n)
        assert wire.read_soon(SECONDS) == n
    assert len(looks) == 100


def test_a_server_that_is_never_so_fast_is_hardly_looked_out_for(
    ends: tuple[Wire, socket.socket], looks: list[str], monkeypatch: pytest.MonkeyPatch
):
    wire, far = ends
    sleep = Wire._receive

    def answer_late(wire: Wire) -> int:
        far.sendall(b":7\r\n")
        return sleep(wire)

    monkeypatch.setattr(Wire, "_receive", answer_late)
    assert [wire.read_soon(SECONDS) for _ in range(500)] == [7] * 500
    assert len(looks) == 8  # after 1, 2, 4, … answers


def test_a_server_that_became_fast_is_looked_out_for_again(
    ends: tuple[Wire, socket.socket], looks: list[str]
):
    wire, far = ends
    with pytest.raises(TimeoutError):
        wire.read_soon(0.001)  # in vain
    far.sendall(b":1\r\n:2\r\n")
    assert (wire.read_soon(SECONDS), wire.read_soon(SECONDS)) == (1, 2)  # slept for, read along
    looks.clear()
    for n in range(10):
        far.sendall(b":%d\r\n" % n)
        assert wire.read_soon(SECONDS) == n
    assert len(looks) == 10


def test_the_end_of_a_connection_is_told_while_it_is_looked_out_for(ends: tuple[Wire, socket.socket]):
    wire, far = ends
    far.close()
    with pytest.raises(ConnectionResetError):
        wire.read_soon(SECONDS)


def test_a_read_that_waits_on_the_server_is_not_looked_out_for(server: Server, looks: list[str]):
    address = parse_address(server.url)
    with closing(BlockingRedisConnection.open(address)) as connection:
        connection.execute(Call("ping", "PING", (), (), lambda reply: reply))
        assert looks == ["looked"]
        waiting = Call("wait", "BLPOP", ("nothing-here",), ("0.01",), lambda reply: reply, block_ms=10)
        assert connection.execute(waiting) is None
        assert looks == ["looked"]
