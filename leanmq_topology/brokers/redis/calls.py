"""A broker operation as a value: what to send, and how to read the answer. No I/O here.

Two connections carry such values out (`connection` blocking, `async_connection` asyncio), so nothing about
delivery is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import hiredis
import msgspec

from leanmq_topology.brokers.redis.failures import unwrap_reply
from leanmq_topology.brokers.redis.keys import Keys, relocate
from leanmq_topology.errors import LeanMQError

T = TypeVar("T")

Word = bytes | str | int
"""What hiredis packs: text as UTF-8, numbers in decimal."""

LARGE_BYTES: Final = 32 * 1024
"""Of a word that is better joined than packed."""

_LUA: Final = Path(__file__).with_name("lua")
_INCLUDE = re.compile(rb"^-- (include|embed) ([a-z_]+)\n", re.MULTILINE)


class Script(msgspec.Struct, frozen=True):
    """One Lua file; the server knows it by the SHA-1 of its text."""

    name: str
    text: bytes
    sha: str


@cache
def load_script(name: str) -> Script:
    """The script `lua/<name>.lua`, read once a process.

    Scripts cannot call each other. A line `-- include <part>` stands for `lua/shared/<part>.lua`, and
    `-- embed <script>` for the whole of another script.
    """
    text = _read_lua(f"{name}.lua")
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest())


def load_all_scripts() -> None:
    """Read every script now, so that none has to be later, when no file may be to be had."""
    for script in _LUA.glob("*.lua"):
        load_script(script.stem)


class Refused(msgspec.Struct, frozen=True):
    """The error reply to a follower, as a value: what it means depends on the reply to the call itself."""

    text: str


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One operation: a script, or a bare command such as `XREADGROUP`.

    For a script `keys` are its KEYS and `arguments` its ARGV; for a bare command they are simply written one
    after the other. `read` is pure: it turns the raw RESP2 reply (bytes, int, list, None) into the result, or
    raises a typed error.
    """

    name: str
    command: Script | str
    keys: tuple[str, ...]
    arguments: tuple[Word, ...]
    read: Callable[[Any], T]
    block_ms: int = 0
    """How long the server itself may wait before it answers; the connection waits that much longer."""
    read_error: Callable[[str], LeanMQError | None] | None = None
    """What an error reply (its whole text) means here, where that is more than the general rule."""
    followers: tuple[tuple[Word, ...], ...] = ()
    """Bare commands that leave right behind it, in the same write on the same connection.

    With any, `read` gets a list: the reply to the call itself, then one a follower, errors as `Refused`.
    """
    otherwise: Callable[[], Call[T]] | None = None
    """What is carried out in its place when the answer is nil: the server did nothing and must know more."""
    if_missing: Callable[[], Call[T]] | None = None
    """What is carried out in its place when the server says NOGROUP: the queue may lie elsewhere."""
    packed: bytes = b""
    """Its `words` as they go over the wire, where whoever made it packed them already, for less."""

    def words(self) -> tuple[Word, ...]:
        """What is written first: a script by its SHA."""
        if isinstance(self.command, Script):
            return ("EVALSHA", self.command.sha, len(self.keys), *self.keys, *self.arguments)
        return (self.command, *self.keys, *self.arguments)

    def written(self) -> tuple[Word, ...] | bytes:
        """The same, packed already where it may be."""
        return self.packed or self.words()

    def full_words(self) -> tuple[Word, ...]:
        """What is written when the server does not know the script: the same call with its text."""
        if isinstance(self.command, Script):
            return ("EVAL", self.command.text, len(self.keys), *self.keys, *self.arguments)
        return self.words()


@cache
def _read_lua(path: str) -> bytes:
    """Kept, because one part is included by many scripts."""
    text = (_LUA / path).read_bytes()
    return _INCLUDE.sub(_expand, text)


def _expand(line: re.Match[bytes]) -> bytes:
    name = f"{line[2].decode()}.lua"
    return _read_lua(name if line[1] == b"embed" else f"shared/{name}")


def is_forgotten(call: Call[Any], text: str) -> bool:
    """Whether this error reply asks for the script's text: the server does not know it, or no longer."""
    return text.startswith("NOSCRIPT") and isinstance(call.command, Script)


def amend(call: Call[T], text: str, keys: Keys | None) -> tuple[Call[T], tuple[Word, ...]] | None:
    """The call to be made instead after this error reply, and what to write for it; None: the reply stands.

    `keys` take in where a queue lies, so that the next call goes there at once.
    """
    if is_forgotten(call, text):
        return call, call.full_words()
    said = unwrap_reply(text)
    moved = relocate(call.keys, said)
    if moved is None:
        return None
    if keys is not None:
        keys.learn(said)
    again = msgspec.structs.replace(call, keys=moved, packed=b"")
    return again, again.words()


def pack_words(words: tuple[Word, ...] | bytes) -> bytes:
    """A command as it goes over the wire; one that is packed already stays as it is."""
    if isinstance(words, bytes):
        return words
    for word in words:
        if type(word) is bytes and len(word) > LARGE_BYTES:
            return join_words(words, b"*%d\r\n" % len(words))
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub knows one item only
    return packed


def join_words(words: tuple[Word, ...], start: bytes = b"") -> bytes:
    """Words as they go over the wire, each copied once: for a mebibyte hiredis takes forty times as long."""
    parts = [start]
    for word in words:
        encoded = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(encoded), encoded, b"\r\n")
    return b"".join(parts)


def as_call(operation: object) -> Call[Any]:
    """The operation as the Redis connections understand it; anything else is a mistake of the caller."""
    if not isinstance(operation, Call):
        raise TypeError(f"{type(operation).__name__} is not an operation of the Redis broker")
    return operation
