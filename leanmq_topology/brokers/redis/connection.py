"""The blocking connection: one socket, one operation at a time, nothing repeated behind the caller's back.

redis-py connects, enters and speaks TLS; its retries are off and its timeouts are ours. hiredis packs and
parses.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Any, Protocol, Self, TypeVar, cast

from redis import connection as client
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ClientConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as ClientTimeoutError
from redis.retry import Retry

from leanmq_topology.brokers.protocol import Operation
from leanmq_topology.brokers.redis.address import Address
from leanmq_topology.brokers.redis.calls import Call, Refused, Script, Word, as_call, pack_words
from leanmq_topology.brokers.redis.failures import (
    CHANGED_ROLE,
    cannot_connect,
    client_error_text,
    connecting_took_too_long,
    refuse_tls,
    reply_code,
    timed_out,
    translate_client,
)
from leanmq_topology.brokers.redis.handshake import (
    GREETING,
    Greeting,
    read_greeting,
    refuse_unknown_greeting,
)
from leanmq_topology.errors import LeanMQError

T = TypeVar("T")

BLOCK_MARGIN_MS = 5_000
"""A blocking read may answer this much after the server's own time is up."""


class Socket(Protocol):
    """What is used of redis-py's connection classes, with types."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def read_response(self, disable_decoding: bool = False, *, timeout: float) -> Any: ...


class BlockingRedisConnection:
    """Carries calls out one at a time. Not for use by two threads at once.

    A connection that broke is opened again by the next call; the call that met the break fails and is never
    repeated here, because only the caller knows whether repeating is harmless.
    """

    def __init__(self, address: Address, *, client_name: str) -> None:
        self._address = address
        self._client_name = client_name
        self._socket: Socket | None = None
        self._greeting: Greeting | None = None
        self._process = os.getpid()
        self._closed = False

    @classmethod
    def open(cls, address: Address, *, client_name: str = "leanmq") -> Self:
        """Connect, enter, and check that the server will do.

        Raises `BrokerUnavailableError` if it cannot be reached, `BrokerRefusedError` if it says no.
        """
        connection = cls(address, client_name=client_name)
        connection._connected()
        return connection

    @property
    def connection_id(self) -> int:
        """The server's number for this connection (`Receiver.end_fetch` takes it); 0 while not connected."""
        return self._greeting.connection_id if self._greeting and self._socket else 0

    @property
    def address(self) -> Address:
        return self._address

    def execute(self, operation: Operation[T]) -> T:
        """Carry one operation out. Every error is one of `leanmq_topology.errors`."""
        call = as_call(operation)
        connection = self._connected()
        limit_ms = call.block_ms + BLOCK_MARGIN_MS if call.block_ms else self._address.timeout_ms
        timeout_s = limit_ms / 1000
        try:
            reply = self._exchange(connection, call, timeout_s)
        except (RedisError, OSError) as failure:
            raise self._translate(failure, call, timeout_s) from failure
        except BaseException:
            # Interrupted between write and read: the answer to come belongs to nobody.
            self._drop()
            raise
        if reply is None and call.otherwise is not None:
            return cast(T, self.execute(call.otherwise()))
        return cast(T, call.read(reply))

    def close(self) -> None:
        """Close the socket; a closed connection stays closed. Closing twice is harmless."""
        self._closed = True
        self._drop()

    def _connected(self) -> Socket:
        if self._process != os.getpid():
            # A forked child must not speak on its parent's socket; dropping the descriptor is enough.
            self._process, self._socket = os.getpid(), None
        if self._closed:
            raise cannot_connect("this connection was closed", where=self._address.masked)
        if self._socket is None:
            self._socket, self._greeting = self._connect()
        return self._socket

    def _connect(self) -> tuple[Socket, Greeting]:
        where = self._address.masked
        socket = _make_socket(self._address, self._client_name)
        try:
            socket.connect()
            reply = _speak(socket, GREETING, self._address.timeout_ms / 1000)
            return socket, read_greeting(reply, where=where, again=self._greeting is not None)
        except LeanMQError:
            socket.disconnect()
            raise
        except ResponseError as failure:
            socket.disconnect()
            if "unknown command" in str(failure).lower():
                raise refuse_unknown_greeting(where=where) from failure
            raise translate_client(failure, where=where, unknown=False) from failure
        except (ClientTimeoutError, TimeoutError) as failure:
            socket.disconnect()
            raise connecting_took_too_long(where=where, tls=self._address.tls) from failure
        except (RedisError, OSError, ValueError) as failure:
            socket.disconnect()
            if isinstance(failure, ClientConnectionError) and type(failure) is not ClientConnectionError:
                raise translate_client(failure, where=where, unknown=False) from failure
            raise refuse_tls(failure, where=where) or cannot_connect(str(failure), where=where) from failure
        except BaseException:
            socket.disconnect()
            raise

    def _exchange(self, connection: Socket, call: Call[Any], timeout_s: float) -> Any:
        try:
            return _converse(connection, call, call.words(), timeout_s)
        except NoScriptError:
            if not isinstance(call.command, Script):
                raise
            return _converse(connection, call, call.full_words(), timeout_s)

    def _translate(self, failure: Exception, call: Call[Any], timeout_s: float) -> Exception:
        where = self._address.masked
        if isinstance(failure, ResponseError):
            text = client_error_text(failure)
            if reply_code(text) in CHANGED_ROLE:
                self._drop()
            meant = call.read_error(text) if call.read_error else None
            return meant or translate_client(failure, where=where, unknown=False)
        self._drop()
        if isinstance(failure, ClientTimeoutError | TimeoutError):
            return timed_out(where=where, seconds=timeout_s)
        return translate_client(failure, where=where, unknown=True)

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None and self._process == os.getpid():
            with contextlib.suppress(RedisError, OSError):
                socket.disconnect()


def _make_socket(address: Address, client_name: str) -> Socket:
    common: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "client_name": address.client_name or client_name,
        "driver_info": None,
        "protocol": 2,
        "socket_timeout": address.timeout_ms / 1000,
        "socket_connect_timeout": address.connect_timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
    }
    kinds: Any = client
    if address.path is not None:
        return cast(Socket, kinds.UnixDomainSocketConnection(path=address.path, **common))
    common |= {"host": address.host, "port": address.port, "socket_keepalive": True}
    if not address.tls:
        return cast(Socket, kinds.Connection(**common))
    address.tls_context()  # names what is wrong with its files, which redis-py would not
    tls = {
        "ssl_ca_certs": address.ca_file,
        "ssl_certfile": address.cert_file,
        "ssl_keyfile": address.key_file,
        "ssl_cert_reqs": "required" if address.tls_verify else "none",
        "ssl_check_hostname": address.tls_verify,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
    return cast(Socket, kinds.SSLConnection(**tls, **common))


def _converse(connection: Socket, call: Call[Any], words: tuple[Word, ...], timeout_s: float) -> Any:
    """Say the call and its followers in one write, and hear every answer before judging any."""
    if not call.followers:
        return _speak(connection, words, timeout_s)
    said = b"".join(map(pack_words, (words, *call.followers)))
    connection.send_packed_command([said], check_health=False)
    replies = [_hear(connection, timeout_s) for _ in range(len(call.followers) + 1)]
    if isinstance(replies[0], ResponseError):
        raise replies[0]
    return [
        Refused(client_error_text(reply)) if isinstance(reply, ResponseError) else reply for reply in replies
    ]


def _hear(connection: Socket, timeout_s: float) -> Any:
    """The next answer, an error reply as a value."""
    try:
        return connection.read_response(disable_decoding=True, timeout=timeout_s)
    except ResponseError as failure:
        return failure


def _speak(connection: Socket, words: tuple[Word, ...], timeout_s: float) -> Any:
    connection.send_packed_command([pack_words(words)], check_health=False)
    return connection.read_response(disable_decoding=True, timeout=timeout_s)
