"""What a session publishes: one message, examples, and again and again in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from leanmq_topology.cli.channel_text import render_counts
from leanmq_topology.errors import LeanMQError, SettingError
from leanmq_topology.topology.model import EphemeralRoute, Topology

if TYPE_CHECKING:
    from leanmq_topology.client import SyncClient

Say = Callable[[str], None]

TEST_MESSAGES: Final = 3
MOST_TEST_MESSAGES: Final = 1000


class Publishing:
    def __init__(self, client: SyncClient, topology: Topology, say: Say) -> None:
        self._client, self._topology, self._say = client, topology, say
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def publish(self, channel: str, data: Any) -> None:
        heard = self._client.publish(channel, data)
        self._say(f"heard by {heard:,}")

    def publish_examples(self, channel: str | None, count: int) -> None:
        """To one channel, or to every one that is declared with an example."""
        channels = [channel] if channel else self._declared_channels()
        if not channels:
            raise SettingError("batch", "no ephemeral route is declared", hint="name a channel: batch news")
        for name in channels:
            messages = [(name, self._make_example(name, number)) for number in range(count)]
            heard = self._client.publish_many(messages)
            self._say(f"{name}: {count} published, heard by {sum(heard):,} in all")

    def repeat(self, channel: str, seconds: float, count: int, data: Any) -> None:
        """The first one now, in this thread, so that what is wrong is said at once."""
        wanted = data if data is not None else self._make_example(channel, 0)
        self._client.publish(channel, wanted)
        self._ending.clear()
        thread = threading.Thread(
            target=self._repeat, args=(channel, seconds, count, data), name="leanmq-periodic", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def summary(self) -> list[str]:
        found = self._client.stats()
        lines = [f"published  {render_counts(found.published)}, heard by {sum(found.received.values()):,}"]
        if found.failed:
            lines.append(f"failed     {render_counts(found.failed)}")
        return lines

    def _repeat(self, channel: str, seconds: float, count: int, data: Any) -> None:
        done = 1
        try:
            while done < count and not self._ending.wait(seconds):
                self._client.publish(channel, data if data is not None else self._make_example(channel, done))
                done += 1
        except LeanMQError as failure:
            self._say(f"periodic {channel} ended: {failure.message}")
        else:
            self._say(f"periodic {channel}: {done} of {count} published")

    def _declared_channels(self) -> list[str]:
        return [name for name, route in self._topology.routes.items() if isinstance(route, EphemeralRoute)]

    def _make_example(self, channel: str, number: int) -> Any:
        route = self._topology.routes.get(channel)
        accepts = route.accepts if isinstance(route, EphemeralRoute) else ()
        if not accepts:
            return {"test": number}
        examples = self._topology.messages[accepts[0]].examples
        if not examples:
            raise SettingError(
                "batch", f"message type {accepts[0]!r} has no example", hint="add `examples:` to it"
            )
        return examples[number % len(examples)]
