"""What is applied for a channel, as far as a client has asked; read again when a message says it changed."""

from __future__ import annotations

import time
from typing import Any, Final

from leanmq_topology.client.applied import AppliedView, Fields
from leanmq_topology.errors import SettingError
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.model import EphemeralRoute, Topology
from leanmq_topology.topology.specs import read_resource

UNDECLARED: Final = ""
"""The digest of a channel that nobody declared."""
REREAD_SECONDS: Final = 1.0
"""A sender that goes by what is not applied any more makes nobody ask more often."""


class Standings:
    """Channels by name: their digest, and the types they take. A channel nobody declared takes any object."""

    def __init__(self, topology: Topology, view: AppliedView) -> None:
        self._topology, self._view = topology, view
        self._known: dict[str, Destination] = {}
        self._asked: dict[str, tuple[str, float]] = {}
        """The digest on whose account a channel was read last, and when."""

    def find(self, channel: str) -> Destination | None:
        """None: it must be read from the server first."""
        return self._known.get(channel)

    def is_outdated(self, channel: str, digest: str) -> bool:
        """Whether a message of this digest calls for reading the channel (once more)."""
        known = self._known.get(channel)
        if known is None:
            return True
        if known.digest == digest:
            return False
        asked, asked_at = self._asked.get(channel, ("", 0.0))
        now = time.monotonic()
        if asked == digest and now - asked_at < REREAD_SECONDS:
            return False
        self._asked[channel] = (digest, now)
        return True

    def forget(self, channel: str) -> None:
        self._known.pop(channel, None)

    def learn(self, channel: str, fields: Fields) -> Destination:
        """Take in what the server answered (`read_addresses`).

        Raises `TopologyNotAppliedError` for a channel that is declared here and not applied, `SettingError`
        for the name of a queue or of a route that stores.
        """
        entry: Any = fields.get(f"routes.{channel}")
        if entry is None and f"queues.{channel}" in fields:
            raise stores(channel, "a queue")
        if entry is None and isinstance(self._topology.routes.get(channel), EphemeralRoute):
            raise self._view.not_applied(channel)
        found = Destination(channel, UNDECLARED, ()) if entry is None else self._read(channel, entry, fields)
        self._known[channel] = found
        return found

    def _read(self, channel: str, entry: Any, fields: Fields) -> Destination:
        route = read_resource(f"routes.{channel}", entry["spec"])
        if not isinstance(route, EphemeralRoute):
            raise stores(channel, f"a {entry['spec']['type']} route")
        contracts = {kind: self._view.read_contract(kind, fields) for kind in route.accepts}
        return Destination(channel, fields.get(f"@{channel}", UNDECLARED), (), contracts)


def stores(name: str, what: str) -> SettingError:
    return SettingError(
        "channel",
        f"{name!r} is {what}, which stores its messages; only ephemeral channels are published to and heard",
        hint="use `send` for it, and `consume` or a handler on its queue",
    )
