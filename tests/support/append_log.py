"""The append-only file of a server: how long it is, and what a server makes of a part of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.final_state import Onlooker
from tests.support.servers import Server

Content = dict[str, object]
"""Every key of a namespace with what it holds; no times that run on."""


def log_file(folder: Path) -> Path:
    """The file that grows: Valkey and Redis from 7.0 on keep a folder of several."""
    grows = sorted(folder.glob("appendonlydir/*.incr.aof"))
    return grows[-1] if grows else folder / "appendonly.aof"


def log_length(server: Server) -> int:
    return log_file(server.folder).stat().st_size


@contextmanager
def server_with_log_cut(server: Server, length: int) -> Iterator[Server]:
    """Another server that starts from the first `length` bytes of this one's log."""
    folder = Path(tempfile.mkdtemp(prefix="lmq-"))
    shutil.copytree(server.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("s"))
    with log_file(folder).open("r+b") as log:
        log.truncate(length)
    other = Server(server.kind, server.binary, folder, arguments=server.arguments)
    try:
        yield other.start()
    finally:
        other.stop()


def read_content(url: str, namespace: str) -> Content:
    """All of a namespace, for comparing."""
    onlooker = Onlooker(url, namespace)
    try:
        return {key: _read_key(onlooker, key) for key in sorted(onlooker.scan(f"{{{namespace}}}:*"))}
    finally:
        onlooker.close()


def _read_key(onlooker: Onlooker, key: str) -> object:
    kind = onlooker.ask("TYPE", key)
    match kind:
        case b"stream":
            return _read_stream(onlooker, key)
        case b"hash":
            flat = onlooker.ask("HGETALL", key)
            assert isinstance(flat, list)
            return dict(zip(flat[::2], flat[1::2], strict=True))
        case b"zset":
            return onlooker.ask("ZRANGE", key, 0, -1, "WITHSCORES")
        case b"string":
            return onlooker.ask("GET", key)
    raise AssertionError(f"{key} holds a {kind!r}")


def _read_stream(onlooker: Onlooker, key: str) -> object:
    groups = onlooker.ask("XINFO", "GROUPS", key)
    assert isinstance(groups, list)
    found = []
    for flat in groups:
        facts = dict(zip(flat[::2], flat[1::2], strict=True))
        pending = onlooker.ask("XPENDING", key, facts[b"name"], "-", "+", 1000)
        assert isinstance(pending, list)
        held = [(entry, consumer, count) for entry, consumer, _, count in pending]
        found.append((facts[b"name"], facts[b"last-delivered-id"], held))
    return onlooker.ask("XRANGE", key, "-", "+"), found
