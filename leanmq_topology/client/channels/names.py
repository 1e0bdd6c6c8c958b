"""The names of channels, and patterns of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from leanmq_topology.errors import SettingError

_CHANNEL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:/*?-]{1,128}")


def is_pattern(name: str) -> bool:
    """`*` stands for any text, `?` for one character."""
    return "*" in name or "?" in name


def check_channel(name: Any) -> str:
    """A name to publish to. Raises `SettingError`."""
    if isinstance(name, str) and _CHANNEL.fullmatch(name):
        return name
    if isinstance(name, str) and is_pattern(name):
        raise SettingError(
            "channel", f"{name!r} is a pattern; a message goes to one channel", hint="name the channel"
        )
    raise SettingError(
        "channel", f"{name!r:.80} is no name of a channel: letters, digits, `_.:/-`, at most 128"
    )


def check_channels(names: Iterable[Any]) -> list[str]:
    """Names and patterns to listen to, each once. Raises `SettingError`."""
    found: dict[str, None] = {}
    for name in names:
        if isinstance(name, str) and is_pattern(name) and _PATTERN.fullmatch(name):
            found[name] = None
        else:
            found[check_channel(name)] = None
    return list(found)
