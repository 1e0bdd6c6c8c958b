"""What an `embedded:` URL says."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from leanmq_topology.brokers.embedded.keeper import DEFAULT_LINGER_MS
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import SettingError
from leanmq_topology.topology.values import parse_duration

SCHEME = "embedded:"
_PARAMETERS = ("ephemeral", "linger")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """An embedded broker; which folder it belongs to is the caller's to say."""

    ephemeral: bool = False
    """A server of its own for each opening: it keeps no files and is gone when closing returns."""
    linger_ms: int = DEFAULT_LINGER_MS
    """How long the server stays after its last user, so that the next command need not start it."""

    @property
    def masked(self) -> str:
        """The URL, for people."""
        return f"{SCHEME}?ephemeral=1" if self.ephemeral else SCHEME


def parse_embedded(url: str) -> EmbeddedAddress:
    """`embedded:`, `embedded:?ephemeral=1`, `embedded:?linger=200ms`; raises `SettingError`."""
    if not url.lower().startswith(SCHEME):
        raise _wrong("embedded: needs its colon", hint="write embedded: or embedded:?ephemeral=1")
    place, _, query = url[len(SCHEME) :].partition("?")
    if place not in {"", "//"}:
        raise _wrong(
            "embedded: takes no host or path", hint="its data is kept in .leanmq/ beside the topology file"
        )
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            hint = did_you_mean(name, _PARAMETERS) or "it has ephemeral and linger"
            raise _wrong(f"embedded: has no parameter {name[:32]!r}", hint=hint)
        given[name] = value
    ephemeral = _read_truth(given.get("ephemeral", "0"))
    return EmbeddedAddress(ephemeral, 0 if ephemeral else _read_linger(given.get("linger")))


def _read_truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise _wrong("ephemeral must be true or false", hint="write embedded:?ephemeral=1")
    return _TRUTH[text.lower()]


def _read_linger(text: str | None) -> int:
    if text is None:
        return DEFAULT_LINGER_MS
    try:
        return parse_duration(text)
    except ValueError as failure:
        raise _wrong(f"linger: {failure}", hint="write embedded:?linger=5s") from None


def _wrong(reason: str, *, hint: str) -> SettingError:
    return SettingError("broker.url", reason, hint=hint)
