"""What a session hears: channels come and go while commands are typed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from leanmq_topology.cli.channel_text import render_counts, render_message
from leanmq_topology.messages.broadcast import ChannelMessage

if TYPE_CHECKING:
    from leanmq_topology.client import SyncClient
    from leanmq_topology.client.channels.blocking import SyncSubscription

Say = Callable[[str], None]


class Listening:
    def __init__(self, client: SyncClient, say: Say) -> None:
        self._client, self._say = client, say
        self._subscription: SyncSubscription | None = None
        self._stopped = False
        self.injected: Counter[str] = Counter()

    @property
    def channels(self) -> tuple[str, ...]:
        return self._subscription.channels if self._subscription else ()

    def add(self, names: list[str]) -> None:
        """Listen to these too, and print what is heard unless that was stopped."""
        if self._subscription is None:
            subscription = self._client.subscribe(*names)
            try:
                subscription.start()
            except BaseException:
                subscription.close()
                raise
            self._subscription = subscription
        else:
            self._subscription.add(*names)
        if not self._stopped:
            self.begin()

    def remove(self, names: list[str]) -> list[str]:
        """Returns those that were not listened to."""
        unknown = [name for name in names if name not in self.channels]
        if self._subscription is not None:
            self._subscription.remove(*names)
        return unknown

    def begin(self) -> None:
        self._stopped = False
        if self._subscription is not None:
            self._subscription.listen(self._hear)

    def stop(self) -> None:
        """What is heard waits, and is printed when it begins again."""
        self._stopped = True
        if self._subscription is not None:
            self._subscription.stop()

    def inject(self, message: ChannelMessage) -> None:
        self.injected[message.channel] += 1
        self._say(f"{render_message(message)}  (injected)")

    def summary(self) -> list[str]:
        lines = []
        if self._subscription is not None:
            found = self._subscription.statistics
            lines.append(f"received   {render_counts(found.received)}")
            kinds = {"invalid": found.invalid, "dropped": found.dropped}
            lines += [f"{name:<9}  {render_counts(counts)}" for name, counts in kinds.items() if counts]
        if self.injected:
            lines.append(f"injected   {render_counts(self.injected)}")
        return lines

    def _hear(self, message: ChannelMessage) -> None:
        self._say(render_message(message))
