"""Leases that begin in the future, as a server has them whose clock went back.

No command writes such a time (XCLAIM takes `now` instead), so the stream is dumped, the times in the dump are
moved, and it is restored. Nothing of the clock of this machine or of a shared server is touched.
"""

from __future__ import annotations

from functools import cache

from tests.support.stage import Stage

_POLYNOMIAL = 0x95AC9329AC4BC9B5
_CHECKSUM_BYTES = 8
_DELIVERY_TIME = 2
"""Its place in a row of XINFO STREAM … FULL."""


def move_leases(stage: Stage, queue: str, by_ms: int) -> int:
    """Let every lease of this queue have begun so much later; returns how many there are."""
    key = stage.keys.queue(queue)
    payload = stage.raw("DUMP", key)
    times = _delivery_times(stage, key)
    for time_ms in sorted(set(times), reverse=by_ms > 0):  # what was moved is not met again
        payload = payload.replace(_encode(time_ms), _encode(time_ms + by_ms))
    body = payload[:-_CHECKSUM_BYTES]
    stage.raw("RESTORE", key, 0, body + _crc64(body).to_bytes(8, "little"), "REPLACE")
    assert all(
        later == time_ms + by_ms for time_ms, later in zip(times, _delivery_times(stage, key), strict=True)
    )
    return len(times)


def _delivery_times(stage: Stage, key: str) -> list[int]:
    facts = _pairs(stage.raw("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    [group] = facts[b"groups"]
    return [row[_DELIVERY_TIME] for row in _pairs(group)[b"pending"]]


def _pairs(flat: list) -> dict:  # type: ignore[type-arg]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _encode(time_ms: int) -> bytes:
    return time_ms.to_bytes(8, "little")


def _crc64(data: bytes) -> int:
    """The checksum of a dump (CRC-64/Jones)."""
    crc, table = 0, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


@cache
def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table
