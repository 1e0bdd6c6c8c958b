"""The keys of each section of the file: which field of the model they fill, and how they are read.

A key that is not listed is not the builder's business: the topology's JSON Schema has already refused it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from leanmq_topology.topology import fields
from leanmq_topology.topology.fields import Reader
from leanmq_topology.topology.model import (
    Backoff,
    Compatibility,
    Jitter,
    KeepAcked,
    OnExpire,
    OnFalse,
    OnRemove,
    Overflow,
)


class Field(Struct, frozen=True):
    """A key with one value: `attribute` of the model is what `read` makes of it."""

    attribute: str
    read: Reader


class Section(Struct, frozen=True):
    """A key with a mapping below it, read by a table of its own."""

    attribute: str
    fields: Mapping[str, Field | Section]


Fields = Mapping[str, Field | Section]

_names = fields.list_of(fields.read_text)
_lifetime = fields.word_or("none", None, fields.duration("1s", "3650d"))


def _read_keep_acked(value: Any) -> KeepAcked | None:
    if value == "none":
        return None
    if isinstance(value, str):
        return KeepAcked(duration_ms=fields.duration("1s", "3650d")(value))
    return KeepAcked(count=fields.count(1)(value))


RETRY: Fields = {
    "backoff": Field("backoff", fields.choice(Backoff)),
    "delay": Field("delay_ms", fields.duration("0s", "365d")),
    "max_delay": Field("max_delay_ms", fields.duration("0s", "365d")),
    "jitter": Field("jitter", fields.choice(Jitter)),
    "steps": Field("steps_ms", fields.list_of(fields.duration("0s", "365d"))),
    "never": Field("never", _names),
}
DEAD_LETTER: Fields = {
    "ttl": Field("ttl_ms", _lifetime),
    "max_length": Field("max_length", fields.count(1)),
    "alert_at": Field("alert_at", fields.count(1)),
}
DEDUPLICATION: Fields = {
    "window": Field("window_ms", fields.duration("1s", "7d")),
    "key": Field("key", fields.read_pointer),
}
LIFECYCLE: Fields = {
    "prevent_delete": Field("prevent_delete", fields.read_flag),
    "on_remove": Field("on_remove", fields.choice(OnRemove)),
}
QUEUE: Fields = {
    "accepts": Field("accepts", _names),
    "ttl": Field("ttl_ms", _lifetime),
    "on_expire": Field("on_expire", fields.choice(OnExpire)),
    "delay": Field("delay_ms", fields.duration("0s", "365d")),
    "max_deliveries": Field("max_deliveries", fields.count(1, 1000)),
    "max_crashes": Field("max_crashes", fields.count(1, 100)),
    "retry": Section("retry", RETRY),
    "visibility_timeout": Field("visibility_timeout_ms", fields.duration("1s", "12h")),
    "max_length": Field("max_length", fields.count(1)),
    "overflow": Field("overflow", fields.choice(Overflow)),
    "keep_acked": Field("keep_acked", _read_keep_acked),
    "deduplication": Section("deduplication", DEDUPLICATION),
    "max_message_size": Field("max_message_size", fields.size("1KiB", "16MiB")),
    "dead_letter": Section("dead_letter", DEAD_LETTER),
    "lifecycle": Section("lifecycle", LIFECYCLE),
    "durability": Field("durability", fields.read_durability),
}
TARGET: Fields = {
    "match": Field("match", fields.read_mapping),
    "topics": Field("topics", fields.list_of(fields.read_topic)),
}
ROUTE: Fields = {
    "accepts": Field("accepts", _names),
    "request": Field("request", fields.read_text),
    "reply": Field("reply", fields.read_text),
    "error": Field("error", fields.read_text),
    "queue": Field("queue", fields.read_text),
    "timeout": Field("timeout_ms", fields.duration("10ms", "1d")),
}
BATCH: Fields = {
    "size": Field("size", fields.count(1, 1000)),
    "wait": Field("wait_ms", fields.duration("0s", "1h")),
}
HANDLER: Fields = {
    "queue": Field("queue", fields.read_text),
    "call": Field("call", fields.read_text),
    "concurrency": Field("concurrency", fields.count(1, 1024)),
    "prefetch": Field("prefetch", fields.word_or("auto", None, fields.count(1, 10_000))),
    "timeout": Field("timeout_ms", fields.duration("10ms", "7d")),
    "on_false": Field("on_false", fields.choice(OnFalse)),
    "batch": Section("batch", BATCH),
    "then": Field("then", fields.read_text),
}
MESSAGE: Fields = {
    "version": Field("version", fields.count(1)),
    "compatibility": Field("compatibility", fields.choice(Compatibility)),
    "examples": Field("examples", fields.read_list),
}
BROKER: Fields = {
    "url": Field("url", fields.read_text),
    "namespace": Field("namespace", fields.read_text),
    "durability": Field("durability", fields.read_durability),
}
ROOT: Fields = {
    "name": Field("name", fields.read_text),
    "lifespan": Field("lifespan", fields.read_text),
    "middleware": Field("middleware", _names),
}
