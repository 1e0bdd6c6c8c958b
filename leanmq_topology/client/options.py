"""What a sender may say besides target and data. Durations are seconds, or text such as `5m`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from leanmq_topology.client.handling import being_handled
from leanmq_topology.contracts.topics import find_topic_problem
from leanmq_topology.errors import InvalidMessageError, SettingError
from leanmq_topology.messages.causation import inherit_headers
from leanmq_topology.messages.message import (
    HEADER_CORRELATION,
    HEADER_REPLY_TO,
    HEADER_SCHEMA,
    HEADER_TIME,
    RESERVED_PREFIX,
)
from leanmq_topology.topology.durability import Durability
from leanmq_topology.topology.model import DAY_MS
from leanmq_topology.topology.values import format_duration, parse_duration

LONGEST_TTL_MS: Final = 3650 * DAY_MS
LONGEST_DELAY_MS: Final = 365 * DAY_MS
MOST_HEADER_BYTES: Final = 16 * 1024

_ID = re.compile(r"[!-~]{1,128}")
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_OURS = frozenset({HEADER_TIME, HEADER_SCHEMA, HEADER_REPLY_TO})


class SendOptions(Struct, frozen=True):
    """Checked options of a send; None leaves the choice to the topology."""

    type: str | None = None
    id: str | None = None
    ttl_ms: int | None = None
    delay_ms: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    durability: Durability | None = None
    topic: str | None = None

    @property
    def adds_only_headers(self) -> bool:
        """As what a handler sends by a client does, which refers to the message being handled."""
        return (self.type, self.id, self.ttl_ms, self.delay_ms, self.durability, self.topic) == _NOTHING[:6]


_NOTHING: Final = (None,) * 8
PLAIN: Final = SendOptions()


def read_options(
    *,
    type: str | None = None,
    id: str | None = None,
    ttl: float | str | None = None,
    delay: float | str | None = None,
    topic: str | None = None,
    headers: Mapping[str, str] | None = None,
    correlation_id: str | None = None,
    durability: str | None = None,
) -> SendOptions:
    """Check what a caller said. Raises `SettingError` for a value, `InvalidMessageError` for a header.

    While a message is handled, what is sent refers to it (see `messages.causation`).
    """
    cause = being_handled.get()
    if cause is None and (type, id, ttl, delay, topic, headers, correlation_id, durability) == _NOTHING:
        return PLAIN
    _check_kinds(type, id, headers)
    _check_topic(topic)
    ttl_ms = None if ttl is None else read_duration("ttl", ttl, LONGEST_TTL_MS)
    if ttl_ms == 0:
        raise SettingError("ttl", "must be longer than 0")
    delay_ms = None if delay is None else read_duration("delay", delay, LONGEST_DELAY_MS)
    level = None if durability is None else _read_durability(durability)
    checked = _read_headers(headers or {}, correlation_id)
    if cause is not None:
        checked = inherit_headers(checked, cause)
    return SendOptions(type, id, ttl_ms, delay_ms, checked, level, topic)


def _check_kinds(kind: Any, message_id: Any, headers: Any) -> None:
    if message_id is not None and not (isinstance(message_id, str) and _ID.fullmatch(message_id)):
        raise SettingError("id", "must be 1 to 128 printable ASCII characters without spaces")
    if kind is not None and not isinstance(kind, str):
        raise SettingError("type", "must be text, the name of a message type")
    if headers is not None and not isinstance(headers, Mapping):
        raise SettingError("headers", "must be a mapping of names to text")


def _check_topic(topic: Any) -> None:
    if topic is not None:
        problem = (
            find_topic_problem(topic) if isinstance(topic, str) else "must be text, words joined by dots"
        )
        if problem:
            raise SettingError("topic", problem, hint="such as user.created")


def _read_durability(value: Any) -> Durability:
    if isinstance(value, Durability):
        return value
    try:
        return Durability.parse(value if isinstance(value, str) else repr(value))
    except ValueError as failure:
        raise SettingError("durability", str(failure)) from None


def read_duration(name: str, value: Any, longest_ms: int) -> int:
    """Milliseconds of a number of seconds, or of text such as `5m`. Raises `SettingError`."""
    if isinstance(value, str):
        try:
            duration_ms = parse_duration(value)
        except ValueError as failure:
            raise SettingError(name, str(failure)) from None
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingError(name, f"{value!r} is not a number of seconds")
    else:
        duration_ms = round(value * 1000)
    if not 0 <= duration_ms <= longest_ms:
        raise SettingError(name, f"must lie between 0s and {format_duration(longest_ms)}")
    return duration_ms


def _read_headers(headers: Mapping[str, str], correlation_id: str | None) -> dict[str, str]:
    checked = {name: _check_header(name, value) for name, value in headers.items()}
    if correlation_id is not None:
        checked[HEADER_CORRELATION] = _check_header(HEADER_CORRELATION, correlation_id)
    size = sum(len(name) + len(value.encode()) for name, value in checked.items())
    if size > MOST_HEADER_BYTES:
        raise InvalidMessageError("", f"{size} bytes of headers are more than {MOST_HEADER_BYTES}")
    return checked


def _check_header(name: object, value: object) -> str:
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise InvalidMessageError("", f"{name!r:.80} is not a header name", hint="letters, digits, `_.-`")
    if name in _OURS or name.startswith(RESERVED_PREFIX):
        raise InvalidMessageError("", f"the header {name!r} is set by leanmq itself")
    if not isinstance(value, str) or not value.isprintable():
        raise InvalidMessageError("", f"the header {name!r} must be printable text")
    return value
