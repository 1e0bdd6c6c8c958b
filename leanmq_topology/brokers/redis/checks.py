"""Is this server fit for messages? Judgements over `ServerFacts`; pure, nothing is asked here.

Thresholds and known bad versions stand in tables with where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from leanmq_topology.brokers.examination import Finding, Verdict
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.facts import ServerFacts, read_facts
from leanmq_topology.topology.durability import DISK, Durability

MOST_CLOCK_OFFSET_MS: Final = 2_000
"""Leases, delays and lifetimes go by the server's clock alone; only shown times go by ours."""
MEMORY_WARNING: Final = 0.8
"""Share of `maxmemory` at which there is still time to act."""
MOST_LAG_SECONDS: Final = 10

_LUA_FIXED: Final = {
    # CVE-2025-49844 (a script can break out of the Lua sandbox): first fixed release of each line.
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
_UNTENDED: Final = {"redis": {(7, 0)}, "valkey": set[tuple[int, int]]()}
"""Lines that ended before a fix came; distributors patch them without changing the version."""

_CONFIRMS_EARLY: Final = {
    # redis/redis#13793: unless it writes before each answer, WAITAOF tells that the disk has what it has not.
    # Came with Redis 7.4, gone with 8.0; Valkey has it from 8.0 on (9.1.2 measured, see test_power_loss.py).
    "redis": ((7, 4), (8, 0)),
    "valkey": ((8, 0), None),
}

_TURN_ON = "CONFIG SET appendonly yes, and the same in the server's configuration file"
_ALWAYS = "CONFIG SET appendfsync always, and the same in the server's configuration file"


class RedisExamination(Struct, frozen=True):
    """`examination.Examination` of a Redis or Valkey server."""

    seen: ServerFacts

    @property
    def facts(self) -> Mapping[str, Any]:
        seen = self.seen
        return {
            "product": seen.product,
            "version": seen.version,
            "role": seen.role,
            "replicas": seen.replicas,
            "append_only": seen.append_only,
            "fsync": seen.fsync,
            "snapshots": seen.snapshots,
            "eviction_policy": seen.eviction_policy,
            "used_memory": seen.used_memory,
            "maxmemory": seen.maxmemory,
            "clock_offset_ms": seen.clock_offset_ms,
        }

    @property
    def waits_for_disk(self) -> bool:
        return self.seen.waits_for_disk

    @property
    def shows_disk_writes(self) -> bool:
        return not self.seen.waits_for_disk or _confirms_early(self.seen)

    @property
    def offers(self) -> tuple[Durability, ...]:
        levels = [DISK, *([Durability(replicas=self.seen.replicas)] if self.seen.replicas else [])]
        return tuple(level for level in levels if self.judge(level).verdict is not Verdict.FAILED)

    def judge(self, level: Durability) -> Finding:
        check = f"durability {level}"
        for verdict, text, mend in _find_obstacles(level, self.seen):
            return Finding(check, verdict, text, mend)
        return Finding(check, Verdict.OK, f"sends can be confirmed at {level}")

    def check_entry(self) -> list[Finding]:
        return [check_eviction(self.seen)]

    def check_server(self) -> list[Finding]:
        checks = (
            check_version,
            check_role,
            check_eviction,
            check_memory,
            check_persistence,
            check_replicas,
            check_clock,
            check_settings,
            check_client_eviction,
        )
        return [check(self.seen) for check in checks]


def examine(now_ms: int) -> Call[RedisExamination]:
    """One look at a server, in one round trip. `now_ms` is our own clock."""
    reading = read_facts(now_ms)
    return Call(
        "examine",
        reading.command,
        (),
        (),
        lambda replies: RedisExamination(reading.read(replies)),
        followers=reading.followers,
    )


Obstacle = tuple[Verdict, str, str]


def _find_obstacles(level: Durability, seen: ServerFacts) -> Iterator[Obstacle]:
    """What stands in the way of a level, the worst first."""
    if level.disk:
        yield from _find_disk_obstacles(level, seen)
    if level.replicas > seen.replicas:
        connected = f"{seen.replicas or 'none'} {'are' if seen.replicas > 1 else 'is'} connected"
        yield (
            Verdict.FAILED,
            f"{level} needs that many replicas in step, and {connected}",
            "connect replicas (REPLICAOF on each), or choose a lower durability",
        )
    if level.disk and seen.waits_for_disk and seen.fsync != "always":
        yield (
            Verdict.WARNING,
            f"unless appendfsync is always, a send at {level} waits up to a second for the disk",
            f"{_ALWAYS} answers sooner",
        )


def _find_disk_obstacles(level: Durability, seen: ServerFacts) -> Iterator[Obstacle]:
    if seen.append_only is False:
        yield Verdict.FAILED, f"{level} needs the append-only file, which is off", _TURN_ON
    if not seen.append_write_ok:
        yield (
            Verdict.FAILED,
            "the last write to the append-only file failed",
            "look at free disk space and at the server's log",
        )
    if not seen.waits_for_disk:
        yield from _find_obstacles_of_old(level, seen)
    elif seen.fsync == "no":
        yield Verdict.FAILED, f"with appendfsync no, {level} is never confirmed", _ALWAYS
    elif _confirms_early(seen):
        yield from _find_obstacles_of_early(level, seen)


def _confirms_early(seen: ServerFacts) -> bool:
    first, fixed = _CONFIRMS_EARLY.get(seen.product, ((), ()))
    return bool(first) and seen.numbers >= first and (fixed is None or seen.numbers < fixed)


def _find_obstacles_of_early(level: Durability, seen: ServerFacts) -> Iterator[Obstacle]:
    """Its WAITAOF is right only where it has nothing to wait for."""
    early = f"{seen.product} {seen.version} confirms too early (redis/redis#13793)"
    yield from _find_late_writes(level, seen, early, "allow CONFIG GET to this user")


def _find_obstacles_of_old(level: Durability, seen: ServerFacts) -> Iterator[Obstacle]:
    """Without WAITAOF only a server that writes before each answer confirms its own disk, and no other."""
    if level.replicas:
        yield (
            Verdict.FAILED,
            f"{level} needs WAITAOF, which {seen.product} {seen.version} does not have",
            "use Redis 7.2 or newer, or Valkey",
        )
    show = "allow CONFIG GET to this user, or use Redis 7.2 or newer, or Valkey"
    yield from _find_late_writes(level, seen, "this is below Redis 7.2", show)


def _find_late_writes(level: Durability, seen: ServerFacts, because: str, show: str) -> Iterator[Obstacle]:
    """What keeps the disk from having a message before its send is answered."""
    if seen.fsync != "always":
        found = "is not shown to this user" if seen.fsync is None else f"is {seen.fsync}"
        yield (
            Verdict.FAILED,
            f"{because}, so {level} needs appendfsync always; it {found}",
            _ALWAYS if seen.fsync else show,
        )
    if seen.fsync_rests_on_rewrite:
        yield (
            Verdict.FAILED,
            f"no-appendfsync-on-rewrite is on, so {level} does not hold while the file is rewritten",
            "CONFIG SET no-appendfsync-on-rewrite no",
        )


def check_version(seen: ServerFacts) -> Finding:
    name, line = f"{seen.product} {seen.version}", seen.numbers[:2]
    patch = seen.numbers[2] if len(seen.numbers) > 2 else 0
    fixed = _LUA_FIXED.get(seen.product, {}).get((line[0], line[1])) if len(line) == 2 else None
    if seen.product == "redis" and line == (7, 0) and patch < 5:
        text = f"{name}: XAUTOCLAIM can corrupt memory (CVE-2022-35951)"
        return Finding("version", Verdict.FAILED, text, "upgrade to 7.0.5 or newer")
    if fixed is not None and patch < fixed:
        text = f"{name}: who may run scripts can take over the server (CVE-2025-49844)"
        mend = f"upgrade to {line[0]}.{line[1]}.{fixed} or newer"
        return Finding("version", Verdict.FAILED, text, mend)
    if line in _UNTENDED.get(seen.product, set()):
        text = f"{name}: this line gets no fixes any more (CVE-2025-49844 among others)"
        return Finding("version", Verdict.WARNING, text, "upgrade, unless your distributor patches it")
    return Finding("version", Verdict.OK, name)


def check_role(seen: ServerFacts) -> Finding:
    if seen.role == "master":
        return Finding("role", Verdict.OK, "a primary")
    text = "a read-only replica: nothing can be sent or handled here"
    return Finding("role", Verdict.FAILED, text, "name the primary in broker.url")


def check_eviction(seen: ServerFacts) -> Finding:
    policy = seen.eviction_policy
    if policy is None:
        text = "the server does not show maxmemory-policy; any but noeviction would delete messages unseen"
        return Finding("eviction", Verdict.WARNING, text, "make sure that it is noeviction")
    if policy == "noeviction":
        return Finding("eviction", Verdict.OK, "a full server refuses new messages and deletes none")
    text = f"maxmemory-policy is {policy}: a full server would delete messages unseen"
    mend = "CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration file"
    return Finding("eviction", Verdict.FAILED, text, mend)


def check_memory(seen: ServerFacts) -> Finding:
    used = _mebibytes(seen.used_memory)
    if not seen.maxmemory:
        return Finding("memory", Verdict.OK, f"{used} used, no limit set")
    share = seen.used_memory / seen.maxmemory
    text = f"{used} used of {_mebibytes(seen.maxmemory)} ({share:.0%})"
    mend = "let workers drain the queues, or CONFIG SET maxmemory higher"
    if share >= 1:
        return Finding("memory", Verdict.FAILED, f"{text}: sends are refused", mend)
    if share >= MEMORY_WARNING:
        return Finding("memory", Verdict.WARNING, f"{text}: sends are refused at 100 %", mend)
    return Finding("memory", Verdict.OK, text)


def check_persistence(seen: ServerFacts) -> Finding:
    if seen.append_only and not seen.append_write_ok:
        text = "the last write to the append-only file failed; the server may refuse changes"
        return Finding("persistence", Verdict.FAILED, text, "look at free disk space and at the server's log")
    if seen.append_only:
        how = f" (appendfsync {seen.fsync})" if seen.fsync else ""
        return Finding("persistence", Verdict.OK, f"append-only file{how}")
    if not seen.snapshot_ok:
        text = "the last snapshot failed, and there is no append-only file"
        return Finding("persistence", Verdict.FAILED, text, "look at free disk space and at the server's log")
    if seen.append_only is None:
        return Finding("persistence", Verdict.WARNING, "the server does not show how it persists", _TURN_ON)
    if seen.snapshots:
        text = "snapshots only: a server that stops abruptly loses what came after the last one"
        return Finding("persistence", Verdict.WARNING, text, _TURN_ON)
    text = "memory only: a restart of the server loses every message"
    return Finding("persistence", Verdict.WARNING, text, _TURN_ON)


def check_replicas(seen: ServerFacts) -> Finding:
    if not seen.replicas:
        return Finding("replicas", Verdict.OK, "none connected")
    text = f"{seen.replicas} in step, the slowest {seen.replica_lag_seconds or 0} s behind"
    if (seen.replica_lag_seconds or 0) > MOST_LAG_SECONDS:
        mend = "look at the network and the load of the replica"
        return Finding("replicas", Verdict.WARNING, text, mend)
    return Finding("replicas", Verdict.OK, text)


def check_clock(seen: ServerFacts) -> Finding:
    seconds = seen.clock_offset_ms / 1000
    if abs(seen.clock_offset_ms) <= MOST_CLOCK_OFFSET_MS:
        return Finding("clock", Verdict.OK, "the server's clock and ours agree")
    ahead = "ahead of" if seconds > 0 else "behind"
    text = f"the server's clock is {abs(seconds):.1f} s {ahead} ours, so times shown are off by that much"
    return Finding("clock", Verdict.WARNING, text, "set both clocks by NTP")


def check_settings(seen: ServerFacts) -> Finding:
    if not seen.settings_hidden:
        return Finding("settings", Verdict.OK, "readable")
    text = "CONFIG GET is not allowed to this user, so some checks are left out"
    return Finding("settings", Verdict.WARNING, text, "allow `+config|get`, or check the server's settings")


def check_client_eviction(seen: ServerFacts) -> Finding:
    """CVE-2026-23479: a blocked client that is evicted can crash Redis 7.2.0 to 8.6.2."""
    limited = seen.client_memory_limit not in {None, "", "0"}
    concerned = seen.product == "redis" and (7, 2, 0) <= seen.numbers < (8, 6, 3)
    if limited and concerned:
        text = f"maxmemory-clients is set, which can crash {seen.product} {seen.version} (CVE-2026-23479)"
        return Finding("client eviction", Verdict.WARNING, text, "CONFIG SET maxmemory-clients 0, or upgrade")
    return Finding("client eviction", Verdict.OK, "off" if not limited else "on")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
