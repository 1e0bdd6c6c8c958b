"""Where a server is and how to enter it, read from a URL.

    redis://[user[:password]@]host[:port][/db][?parameter=value&…]      also valkey://
    rediss://…                                                          the same over TLS, also valkeys://
    unix://[user[:password]@]/path/to/socket[?db=0&…]

Parameters: `db`, `client_name`, `timeout`, `connect_timeout` and `confirm_timeout` (durations such as
`10s`), and for TLS `ca_file`, `cert_file`, `key_file` and `tls_verify` (`true` by default). What stands in a
user name, password or path and is special in a URL is percent-encoded. No error and no `repr` ever shows a
password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import unquote

from msgspec import Struct

from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import SettingError
from leanmq_topology.topology.values import format_duration, parse_duration

T = TypeVar("T")

DEFAULT_PORT: Final = 6379
DEFAULT_TIMEOUT_MS: Final = 10_000
DEFAULT_CONNECT_TIMEOUT_MS: Final = 5_000
DEFAULT_CONFIRM_TIMEOUT_MS: Final = 5_000
"""A disk that is written once a second takes up to one by itself, and a rewrite of the log more."""
LONGEST_CONFIRM_TIMEOUT_MS: Final = 5 * 60 * 1000
"""The server remembers a flush for 10 minutes: whoever waits longer could not repeat it safely."""
LONGEST_SOCKET_PATH: Final = 107
"""Bytes that fit into `sun_path` on Linux, less the closing zero."""

_SETTING = "broker.url"
_PLAIN = frozenset({"redis", "valkey"})
_TLS = frozenset({"rediss", "valkeys"})
_LATER = re.compile(r"(redis|rediss|valkey|valkeys)\+(sentinel|cluster)")
_PARAMETERS = frozenset({"db", "client_name", "timeout", "connect_timeout", "confirm_timeout"})
_TLS_PARAMETERS = frozenset({"ca_file", "cert_file", "key_file", "tls_verify"})
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Address(Struct, frozen=True, kw_only=True):
    """One server. `path` is set for a Unix socket, and `host` and `port` do not count then."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    tls_verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_name: str | None = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    """How long an answer may take; a blocking read gets its own time on top."""
    connect_timeout_ms: int = DEFAULT_CONNECT_TIMEOUT_MS
    confirm_timeout_ms: int = DEFAULT_CONFIRM_TIMEOUT_MS
    """How long disk or replicas may take to have a durable send."""

    def __repr__(self) -> str:
        return f"Address({self.masked!r})"

    @property
    def masked(self) -> str:
        """The URL without its password, for people."""
        user = f"{self.username or ''}{':***' if self.password is not None else ''}"
        entrance = f"{user}@" if user else ""
        if self.path is not None:
            return f"unix://{entrance}{self.path}{f'?db={self.database}' if self.database else ''}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{entrance}{host}:{self.port}/{self.database}"

    def tls_context(self) -> ssl.SSLContext:
        """Certificate and host name are checked unless `tls_verify=false`; TLS 1.2 is the least.

        Raises `SettingError` for a file that cannot be used.
        """
        context = _use("ca_file", self.ca_file, lambda: ssl.create_default_context(cafile=self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if (certificate := self.cert_file) is not None:
            _use("cert_file", certificate, lambda: context.load_cert_chain(certificate, self.key_file))
        return context


def parse_address(url: str) -> Address:
    """Read a server URL. Raises `SettingError` that names the part at fault and never shows the password."""
    scheme, rest = _split_scheme(url)
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    entrance, at, place = authority.rpartition("@")
    if not at and "@" in f"{path}{query}":
        raise _wrong(
            "the user or password holds a character that ends it early",
            hint="write `/` as %2F, `?` as %3F, `#` as %23 and `@` as %40 in a user name or password",
        )
    username, password = _read_entrance(entrance)
    tls = scheme in _TLS
    parameters = _read_parameters(query, _PARAMETERS | _TLS_PARAMETERS if tls else _PARAMETERS)
    host, port, socket_path = (
        ("localhost", DEFAULT_PORT, _read_socket_path(place, slash + path))
        if scheme == "unix"
        else (*_read_host(place), None)
    )
    return Address(
        host=host,
        port=port,
        path=socket_path,
        database=_read_database("" if scheme == "unix" else path, parameters.get("db")),
        username=username,
        password=password,
        tls=tls,
        tls_verify=_read_truth("tls_verify", parameters.get("tls_verify", "true")),
        ca_file=parameters.get("ca_file"),
        cert_file=parameters.get("cert_file"),
        key_file=parameters.get("key_file"),
        client_name=_read_client_name(parameters.get("client_name")),
        timeout_ms=_read_duration("timeout", parameters, DEFAULT_TIMEOUT_MS),
        connect_timeout_ms=_read_duration("connect_timeout", parameters, DEFAULT_CONNECT_TIMEOUT_MS),
        confirm_timeout_ms=_read_confirm_timeout(parameters),
    )


def _split_scheme(url: str) -> tuple[str, str]:
    if not url.strip():
        raise _wrong("it is empty", hint="write redis://localhost:6379, or leave it out for `embedded:`")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise _wrong("it holds a space or a control character", hint="write a space as %20")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise _wrong("it has no scheme", hint="write redis://HOST:PORT or unix:///PATH")
    scheme = scheme.lower()
    if _LATER.fullmatch(scheme):
        raise _wrong(f"{scheme}:// is not supported yet", hint="name one server with redis:// or rediss://")
    if scheme not in _PLAIN | _TLS | {"unix"}:
        # Shown only when it looks like one: what stands before `://` may be a mistyped password.
        shown = f" {scheme}://" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,19}", scheme) else ""
        raise _wrong(
            f"the scheme{shown} is not one of a server",
            hint="use redis://, rediss://, valkey://, valkeys:// or unix://",
        )
    if "#" in rest:
        raise _wrong("it holds a `#`", hint="write `#` as %23")
    return scheme, rest


def _read_entrance(entrance: str) -> tuple[str | None, str | None]:
    username, colon, password = entrance.partition(":")
    try:
        return (
            unquote(username, errors="strict") or None,
            unquote(password, errors="strict") if colon and password else None,
        )
    except UnicodeDecodeError:
        raise _wrong("the user or password is not percent-encoded UTF-8") from None


def _read_host(place: str) -> tuple[str, int]:
    if "," in place:
        raise _wrong(
            "it lists several hosts",
            hint="one server per URL; Sentinel and Cluster are not supported yet",
        )
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+(?:%[\w.]+)?)\](?::(.*))?", place)
    if bracketed:
        return bracketed[1], _read_port(bracketed[2])
    host, colon, port = place.partition(":")
    if ":" in port or "[" in place:
        raise _wrong("the host is not readable", hint="write an IPv6 address in brackets: redis://[::1]:6379")
    return host or "localhost", _read_port(port if colon else None)


def _read_port(text: str | None) -> int:
    if not text:
        return DEFAULT_PORT
    # The text itself is not shown: a password with an unescaped `@` or `:` ends up here.
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
        raise _wrong("the port is not a number from 1 to 65535")
    return int(text)


def _read_socket_path(place: str, path: str) -> str:
    if place:
        raise _wrong("the socket path is not absolute", hint="write three slashes: unix:///run/valkey.sock")
    socket_path = unquote(path)
    if socket_path in {"", "/"}:
        raise _wrong("the socket path is missing", hint="write unix:///run/valkey.sock")
    if len(socket_path.encode()) > LONGEST_SOCKET_PATH:
        raise _wrong(f"the socket path is longer than the {LONGEST_SOCKET_PATH} bytes a system takes")
    return socket_path


def _read_parameters(query: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in known:
            tls_only = name in _TLS_PARAMETERS
            hint = "it belongs to rediss://" if tls_only else did_you_mean(name, known)
            raise _wrong(f"there is no parameter {name[:32]!r}", hint=hint)
        if name in found:
            raise _wrong(f"the parameter {name!r} is given twice")
        found[name] = unquote(value)
    return found


def _read_database(path: str, parameter: str | None) -> int:
    if path and parameter is not None:
        raise _wrong("the database is given twice, in the path and as `db`")
    text = path or parameter
    if text is None or text == "":
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise _wrong("the database is not a number", hint="write redis://HOST:PORT/0")
    return int(text)


def _read_client_name(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[!-~]{1,64}", text):
        raise _wrong("client_name must be 1 to 64 printable ASCII characters without spaces")
    return text


def _read_truth(name: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise _wrong(f"{name} must be true or false")
    return _TRUTH[text.lower()]


def _read_duration(name: str, parameters: Mapping[str, str], default_ms: int) -> int:
    if name not in parameters:
        return default_ms
    try:
        duration_ms = parse_duration(parameters[name])
    except ValueError as failure:
        raise _wrong(f"{name}: {failure}", hint=f"write {name}=10s") from None
    if duration_ms < 1:
        raise _wrong(f"{name} must be longer than 0")
    return duration_ms


def _read_confirm_timeout(parameters: Mapping[str, str]) -> int:
    duration_ms = _read_duration("confirm_timeout", parameters, DEFAULT_CONFIRM_TIMEOUT_MS)
    if duration_ms > LONGEST_CONFIRM_TIMEOUT_MS:
        raise _wrong(f"confirm_timeout must not be longer than {format_duration(LONGEST_CONFIRM_TIMEOUT_MS)}")
    return duration_ms


def _use(name: str, file: str | None, load: Callable[[], T]) -> T:
    """Load a file for TLS; the system's own errors do not name it."""
    try:
        return load()
    except (OSError, ValueError) as failure:
        raise _wrong(f"{name} {file!r} cannot be used: {failure}") from failure


def _wrong(reason: str, *, hint: str | None = None) -> SettingError:
    return SettingError(_SETTING, reason, hint=hint)
