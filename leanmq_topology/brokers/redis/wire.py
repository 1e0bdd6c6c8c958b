"""One socket that is waited on: RESP2 words leave, answers are heard in order, each in its time.

Sending never waits in the kernel, and a read waits there for a moment only: an answer that comes at once, as
nearly all do, costs one system call. Whatever takes longer is waited for by `poll`, which keeps to its time
however often signals interrupt it. Before it waits at all, a server nearby is given the time in which a core
that slept would wake up.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import hiredis

from leanmq_topology.brokers.redis.address import Address

MOMENT_MS: Final = 5
"""How long the kernel waits for an answer by itself; long beside a round trip, short beside any limit."""
LOOK_OUT_S: Final = 0.000_15
"""How long an answer is looked for before it is slept for: a virtual machine takes 50 to 100 us to wake a
core, as long as a server beside it takes to answer. One across a network seldom is that fast."""
MOST_UNLOOKED: Final = 1023
"""Answers that are slept for at once after looking out was in vain so often."""
LEAST_S: Final = 0.001
BUFFER_BYTES: Final = 64 * 1024
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """A connected socket, and the answers read from it that nobody took yet.

    One thread may write while another reads. Every method raises `OSError` when the connection broke
    (`TimeoutError`: not in time), and `hiredis.HiredisError` for what is no answer; it is of no use from
    then on.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._reader = hiredis.Reader()
        self._buffer = bytearray(BUFFER_BYTES)
        self._unlooked = self._unlooked_next = 0
        self._prepare()

    def write(self, packed: bytes, limit_s: float) -> None:
        """Hand all of it to the system, which may take nothing for at most `limit_s`."""
        try:
            sent = self._send(packed)
        except _NOT_NOW:
            sent = self._attempt(select.POLLOUT, limit_s, self._send, packed)
        if sent < len(packed):
            self._write_rest(memoryview(packed)[sent:], limit_s)

    def read(self, limit_s: float) -> Any:
        """The next answer, an error reply as `hiredis.ReplyError`; nothing may come for at most `limit_s`."""
        answer = self._reader.gets()
        while answer is False:  # not whole yet; RESP2 itself has no booleans
            self._take(self._attempt(select.POLLIN, limit_s, self._receive))
            answer = self._reader.gets()
        return answer

    def read_soon(self, limit_s: float) -> Any:
        """As `read`, where the server has the answer as soon as it has the question.

        It is looked for again and again for a moment, for as long as that pays: each time in vain doubles how
        many answers are slept for before the next try.
        """
        if self._unlooked:
            self._unlooked -= 1
        elif not self._reader.has_data() and self._look_out():
            answer = self._reader.gets()
            if answer is not False:
                return answer
        return self.read(limit_s)

    def can_read(self, limit_s: float) -> bool:
        """Whether something to read, or the end, comes within that time. For the thread that reads."""
        return self._reader.has_data() or self._await(select.POLLIN, limit_s)

    def close(self) -> None:
        """Closing twice is harmless."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _prepare(self) -> None:
        self._socket.setblocking(True)
        moment = struct.pack("ll", 0, MOMENT_MS * 1000)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, moment)

    def _send(self, data: bytes | memoryview) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def _receive(self) -> int:
        return self._socket.recv_into(self._buffer)

    def _look_out(self) -> bool:
        """Whether something came; the reader has it."""
        until = time.perf_counter() + LOOK_OUT_S
        while True:
            try:
                count = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if time.perf_counter() > until:
                    self._unlooked = self._unlooked_next = min(2 * self._unlooked_next + 1, MOST_UNLOOKED)
                    return False
                os.sched_yield()  # the server may want this very core
            else:
                if not count:
                    raise _closed()
                self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # its stub knows bytes only
                self._unlooked_next = 0
                return True

    def _take(self, count: int) -> None:
        """Have the reader take in what was received."""
        if not count:
            raise _closed()
        self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # its stub knows bytes only

    def _write_rest(self, rest: memoryview, limit_s: float) -> None:
        while rest:
            rest = rest[self._attempt(select.POLLOUT, limit_s, self._send, rest) :]

    def _attempt(self, event: int, limit_s: float, step: Callable[..., int], *given: Any) -> int:
        """Take a step now, or once the socket is ready for it within that time."""
        until = None
        while True:
            try:
                return step(*given)
            except ssl.SSLWantReadError:  # TLS may have to read before it writes, and the other way round
                event = select.POLLIN
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            except BlockingIOError:
                pass
            until = until or time.monotonic() + limit_s
            if not self._await(event, until - time.monotonic()):
                raise TimeoutError

    def _await(self, event: int, limit_s: float) -> bool:
        waiting = select.poll()
        waiting.register(self._socket, event)
        return bool(waiting.poll(max(limit_s, 0.0) * 1000))


def _closed() -> OSError:
    return ConnectionResetError("the server closed it")


class TlsWire(Wire):
    """The same over TLS, whose state two threads may not touch at once: neither ever waits inside."""

    _socket: ssl.SSLSocket

    def read_soon(self, limit_s: float) -> Any:
        """Deciphering it costs more than a core that wakes up."""
        return self.read(limit_s)

    def can_read(self, limit_s: float) -> bool:
        """Also what was deciphered already, which no `poll` tells of."""
        return self._socket.pending() > 0 or super().can_read(limit_s)

    def _prepare(self) -> None:
        self._touching = threading.Lock()
        self._socket.setblocking(False)

    def _send(self, data: bytes | memoryview) -> int:
        with self._touching:
            return self._socket.send(data)

    def _receive(self) -> int:
        with self._touching:
            return self._socket.recv_into(self._buffer)


def dial(address: Address, limit_s: float) -> Wire:
    """Connect, within that time.

    Raises `OSError` (`ssl.SSLError` of TLS), `ValueError` for a host that cannot be one, and `SettingError`
    for a file that TLS cannot use.
    """
    context = address.tls_context() if address.tls else None
    with contextlib.ExitStack() as undo:
        connected = _connect(address, limit_s)
        undo.callback(connected.close)
        if context is None:
            wire = Wire(connected)
        else:
            protected = context.wrap_socket(connected, server_hostname=address.host)
            undo.callback(protected.close)
            wire = TlsWire(protected)
        undo.pop_all()
        return wire


def _connect(address: Address, limit_s: float) -> socket.socket:
    limit_s = max(limit_s, LEAST_S)  # 0 would mean not to wait, and so another error
    if address.path is None:
        connected = socket.create_connection((address.host, address.port), limit_s)
        tune(connected)
        return connected
    connecting = socket.socket(socket.AF_UNIX)
    try:
        connecting.settimeout(limit_s)
        connecting.connect(address.path)
    except BaseException:
        connecting.close()
        raise
    return connecting


def tune(connected: socket.socket) -> None:
    """Small writes leave at once, and a peer that vanished is noticed."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
