"""From what was heard to a message: checked against what its channel takes, as applied. Pure."""

from __future__ import annotations

import logging

from leanmq_topology.brokers.protocol import Heard
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.channels.inbox import Inbox
from leanmq_topology.client.channels.standing import Standings
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.broadcast import Broadcast, ChannelMessage, decode_broadcast
from leanmq_topology.messages.routing import check_data

logger = logging.getLogger("leanmq.client")


class Ear:
    """What both colours of a subscription know and count."""

    def __init__(self, standings: Standings, view: AppliedView, size: int) -> None:
        self.standings, self._view = standings, view
        self.inbox = Inbox(size)
        self._full_said = False
        self._invalid_said: set[str] = set()

    def hear(self, heard: Heard) -> bool:
        """Keep it until it is read. False: too many wait already."""
        kept = self.inbox.put(heard)
        if not kept and not self._full_said:
            self._full_said = True
            logger.warning(
                "messages come faster than they are read: those above the bound are dropped (%s first)",
                heard.channel,
                extra={"event": "subscriber_slow", "channel": heard.channel},
            )
        return kept

    def open(self, heard: Heard) -> Broadcast | None:
        """None: it is no message of ours, and counted."""
        broadcast = decode_broadcast(heard.payload)
        if broadcast is None:
            self._refuse(heard, "it was not published by this package")
        return broadcast

    def read(self, heard: Heard, broadcast: Broadcast) -> ChannelMessage | None:
        """The message; None: it breaks what its channel takes, and is counted."""
        standing = self.standings.find(heard.channel)
        contracts = standing.contracts if standing is not None else {}
        contract = contracts.get(broadcast.type) or self._view.declared(broadcast.type)
        try:
            if contracts and broadcast.type not in contracts:
                raise InvalidMessageError(
                    "", f"{heard.channel} takes only {', '.join(sorted(contracts))}", type=broadcast.type
                )
            data = decode_data(bytes(broadcast.data))
            check_data(contract, data)
        except InvalidMessageError as failure:
            self._refuse(heard, failure.message)
            return None
        self.inbox.received[heard.channel] += 1
        return ChannelMessage.heard(broadcast, data, heard.channel, heard.pattern)

    def _refuse(self, heard: Heard, reason: str) -> None:
        self.inbox.invalid[heard.channel] += 1
        if heard.channel not in self._invalid_said:
            self._invalid_said.add(heard.channel)
            logger.warning(
                "a message on %s is left out: %s (said once a channel)",
                heard.channel,
                reason,
                extra={"event": "invalid_broadcast", "channel": heard.channel},
            )


def report_callback(message: ChannelMessage) -> None:
    """A callback raised: say so, and go on."""
    logger.exception(
        "the callback failed for message %s on %s",
        message.id,
        message.channel,
        extra={"event": "callback_failed", "channel": message.channel},
    )
