"""What a server says of itself, read in one round trip. Judged by `checks`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from leanmq_topology.brokers.redis.calls import Call, Refused, Word

SETTINGS: Final = ("*append*", "save", "maxmemory-clients", "protected-mode")
"""Asked one by one: 6.2 takes one pattern a call, and `*` would bring passwords too."""

_QUESTIONS: Final[tuple[tuple[Word, ...], ...]] = (
    ("INFO",),
    ("COMMAND", "INFO", "WAITAOF"),
    *(("CONFIG", "GET", pattern) for pattern in SETTINGS),
)


class ServerFacts(Struct, frozen=True, kw_only=True):
    """A server as it describes itself. None: it does not say, as managed servers may not."""

    product: str = "redis"
    version: str = "0"
    role: str = "master"
    eviction_policy: str | None = None
    maxmemory: int = 0
    """Bytes; 0: no limit."""
    used_memory: int = 0
    append_only: bool | None = None
    append_write_ok: bool = True
    fsync: str | None = None
    """`always`, `everysec` or `no`."""
    fsync_rests_on_rewrite: bool | None = None
    """Nothing is forced to disk while the append-only file is rewritten."""
    snapshots: str | None = None
    """When snapshots are taken, as `save` has it; empty: never."""
    snapshot_ok: bool = True
    waits_for_disk: bool = False
    """It knows WAITAOF."""
    replicas: int = 0
    """Connected and in step."""
    replica_lag_seconds: int | None = None
    """Of the slowest of them."""
    client_memory_limit: str | None = None
    protected_mode: bool | None = None
    settings_hidden: bool = False
    """CONFIG is not allowed to this user."""
    clock_offset_ms: int = 0
    """Server time less ours; as exact as one round trip."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])


def read_facts(now_ms: int) -> Call[ServerFacts]:
    """Ask a server all that `checks` judges. `now_ms` is our own clock."""
    return Call("examine", "TIME", (), (), lambda replies: _read(replies, now_ms), followers=_QUESTIONS)


def _read(replies: Sequence[Any], now_ms: int) -> ServerFacts:
    (seconds, micros), info, command, *settings = replies
    told = {} if isinstance(info, Refused) else _read_info(info)
    known = _read_settings(settings)
    replicas = _read_replicas(told)
    return ServerFacts(
        product=told.get("server_name", "redis"),
        version=told.get("valkey_version") or told.get("redis_version", "0"),
        role=told.get("role", "master"),
        eviction_policy=told.get("maxmemory_policy"),
        maxmemory=int(told.get("maxmemory", 0)),
        used_memory=int(told.get("used_memory", 0)),
        append_only=_read_switch(told.get("aof_enabled") or known.get("appendonly")),
        append_write_ok=told.get("aof_last_write_status", "ok") == "ok",
        fsync=known.get("appendfsync"),
        fsync_rests_on_rewrite=_read_switch(known.get("no-appendfsync-on-rewrite")),
        snapshots=known.get("save"),
        snapshot_ok=told.get("rdb_last_bgsave_status", "ok") == "ok",
        waits_for_disk=isinstance(command, list) and bool(command) and command[0] is not None,
        replicas=len(replicas),
        replica_lag_seconds=max(replicas, default=None),
        client_memory_limit=known.get("maxmemory-clients"),
        protected_mode=_read_switch(known.get("protected-mode")),
        settings_hidden=all(isinstance(reply, Refused) for reply in settings),
        clock_offset_ms=int(seconds) * 1000 + int(micros) // 1000 - now_ms,
    )


def _read_info(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _read_settings(replies: Sequence[Any]) -> dict[str, str]:
    return {
        reply[at].decode(): reply[at + 1].decode()
        for reply in replies
        if isinstance(reply, list)
        for at in range(0, len(reply), 2)
    }


def _read_replicas(told: dict[str, str]) -> list[int]:
    """The lag in seconds of each replica that is in step."""
    lines = (
        dict(part.partition("=")[::2] for part in value.split(","))
        for name, value in told.items()
        if name.startswith("slave") and name[5:].isdecimal()
    )
    return [int(line.get("lag", 0)) for line in lines if line.get("state") == "online"]


def _read_switch(text: str | None) -> bool | None:
    return None if text is None else text in {"yes", "1"}
