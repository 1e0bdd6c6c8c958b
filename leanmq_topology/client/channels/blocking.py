"""Publishing and listening without an event loop. A thread beside hears; the caller reads when it likes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Self, TypeVar

from leanmq_topology.brokers.protocol import BlockingListener, Broker, Heard, Operation, Publication, Stale
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.channels.inbox import SubscriptionStatistics
from leanmq_topology.client.channels.names import check_channel, check_channels, is_pattern
from leanmq_topology.client.channels.publishing import (
    MOST_AT_ONCE,
    MOST_TRIES,
    Item,
    keeps_changing,
    write_publication,
)
from leanmq_topology.client.channels.reading import Ear, report_callback
from leanmq_topology.client.channels.standing import Standings
from leanmq_topology.client.channels.tally import PublishStatistics, Tally
from leanmq_topology.client.options import SendOptions
from leanmq_topology.clock import Clock
from leanmq_topology.errors import BrokerError, BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.broadcast import ChannelMessage
from leanmq_topology.messages.routing import Destination
from leanmq_topology.topology.model import Topology
from leanmq_topology.upkeep.outage import Outage, Pauses

T = TypeVar("T")

HEAR_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 15.0
CONFIRM_SECONDS: Final = 10.0
"""The server is to confirm within this that it publishes to us."""


class SyncChannels:
    """What a blocking client does with ephemeral channels; threads may share it."""

    def __init__(
        self,
        topology: Topology,
        broker: Broker,
        execute_once: Callable[[Operation[Any]], Any],
        execute: Callable[[Operation[Any]], Any],
        view: AppliedView,
        open_listener: Callable[[], BlockingListener],
        clock: Clock,
    ) -> None:
        """`execute_once` tries once, `execute` in spite of breaks."""
        self._broker, self._view, self._clock = broker, view, clock
        self._execute_once, self._execute = execute_once, execute
        self._standings = Standings(topology, view)
        self._open_listener = open_listener
        self._subscriptions: set[SyncSubscription] = set()
        self._tally = Tally()

    def publish(self, items: Iterable[tuple[str, Any]], options: SendOptions) -> list[int]:
        """All are checked before any is published; in one round trip for up to 1,000."""
        left = [(at, check_channel(channel), data) for at, (channel, data) in enumerate(items)]
        answers = [0] * len(left)
        try:
            for _ in range(MOST_TRIES):
                publications = [self._write(channel, data, options) for _, channel, data in left]
                left = self._carry_out(left, publications, answers)
                if not left:
                    return answers
            raise keeps_changing(left[0][1])
        except LeanMQError:
            self._tally.fail(channel for _, channel, _ in left)
            raise

    def _write(self, channel: str, data: Any, options: SendOptions) -> Publication:
        standing = self._standings.find(channel) or self.learn(channel)
        return write_publication(standing, data, options, self._view, now_ms=self._clock())

    def _carry_out(
        self, items: Sequence[Item], publications: Sequence[Publication], answers: list[int]
    ) -> list[Item]:
        """Returns those whose channel has changed on the server; these were not published."""
        stale: list[Item] = []
        for start in range(0, len(items), MOST_AT_ONCE):
            part = slice(start, start + MOST_AT_ONCE)
            found = self._execute_once(self._broker.publish(publications[part]))
            for item, answer in zip(items[part], found, strict=True):
                if isinstance(answer, Stale):
                    self._standings.forget(item[1])
                    stale.append(item)
                else:
                    answers[item[0]] = answer
                    self._tally.count(item[1], answer)
        return stale

    def learn(self, channel: str) -> Destination:
        return self._standings.learn(channel, self._execute(self._broker.read_addresses([channel])))

    def statistics(self) -> PublishStatistics:
        return self._tally.statistics()

    def subscribe(self, names: Iterable[str], buffer: int) -> SyncSubscription:
        ear = Ear(self._standings, self._view, buffer)
        subscription = SyncSubscription(self, self._broker, ear, self._open_listener, check_channels(names))
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: SyncSubscription) -> None:
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.close()


class SyncSubscription:
    """Listens to channels: `for message in mq.subscribe("news", "alerts.*")`. As `Subscription`, blocking.

    Any thread may add, remove, read and close.
    """

    def __init__(
        self,
        channels: SyncChannels,
        broker: Broker,
        ear: Ear,
        open_listener: Callable[[], BlockingListener],
        names: Sequence[str],
    ) -> None:
        self._channels, self._broker, self._ear = channels, broker, ear
        self._names = dict.fromkeys(names)
        self._confirmed: set[str] = set()
        self._listener = open_listener()
        self._outage = Outage()
        self._changed = threading.Condition()
        self._line: threading.Thread | None = None
        self._calls: threading.Thread | None = None
        self._calling = False
        self._ended = threading.Event()

    @property
    def channels(self) -> tuple[str, ...]:
        """The names and patterns it listens to."""
        return tuple(self._names)

    @property
    def statistics(self) -> SubscriptionStatistics:
        return self._ear.inbox.statistics()

    def start(self) -> None:
        """Listen from now on: what is published after this returns is heard. Calling it again is harmless.

        Raises `BrokerUnavailableError`, and `SettingError` for a queue or a route that stores.
        """
        with self._changed:
            if self._line is not None or self._ended.is_set():
                return
            self._check(self._names)
            self._tell_all()
            self._line = threading.Thread(target=self._run, name="leanmq-subscription", daemon=True)
            self._line.start()
        self._await_confirmation(list(self._names))

    def add(self, *names: str) -> None:
        """Listen to these too. While it listens, what is published after this returns is heard."""
        fresh = [name for name in check_channels(names) if name not in self._names]
        self._check(fresh)
        self._names = {**self._names, **dict.fromkeys(fresh)}
        if self._line is None:
            return
        try:
            for name in fresh:
                self._listener.tell(self._broker.listen(name))
        except ConnectionError:
            return  # the line is down: they are asked for when it is back
        self._await_confirmation(fresh)

    def remove(self, *names: str) -> None:
        """Listen to these no longer; names it does not listen to are passed over."""
        gone = [name for name in check_channels(names) if name in self._names]
        self._names = {name: None for name in self._names if name not in gone}
        self._confirmed.difference_update(gone)
        if self._line is not None:
            with contextlib.suppress(ConnectionError):
                for name in gone:
                    self._listener.tell(self._broker.stop_listening(name))

    def next(self, wait: float | None = None) -> ChannelMessage | None:
        """The next message; None when `wait` seconds have passed without one, or it was closed."""
        self.start()
        until = None if wait is None else time.monotonic() + wait
        while not self._ended.is_set():
            heard = self._ear.inbox.take()
            if heard is not None:
                message = self._read(heard)
                if message is not None:
                    return message
                continue
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return None
            with self._changed:
                if not self._ear.inbox.waiting and not self._ended.is_set():
                    self._changed.wait(left)
        return None

    def listen(self, callback: Callable[[ChannelMessage], Any]) -> None:
        """Call this with each message from now on, in a thread of its own; returns at once.

        A callback that raises is logged, and the next message comes all the same.
        """
        self.start()
        if not self._calling:
            self._calling = True
            self._calls = threading.Thread(
                target=self._call, args=(callback,), name="leanmq-subscription-calls", daemon=True
            )
            self._calls.start()

    def stop(self) -> None:
        """Undo `listen`; it goes on listening, and messages wait to be read."""
        self._calling = False
        with self._changed:
            self._changed.notify_all()
        if self._calls is not None and self._calls is not threading.current_thread():
            self._calls.join()
        self._calls = None

    def close(self) -> None:
        """End it. Closing twice is harmless."""
        with self._changed:
            self._ended.set()
            self._changed.notify_all()
        self._channels.forget(self)
        self.stop()
        if self._line is None:
            self._listener.close()
        elif self._line is not threading.current_thread():
            with contextlib.suppress(BrokerError):  # an answer wakes it; without a line it is awake
                self._listener.tell(self._broker.check_line())
            self._line.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[ChannelMessage]:
        return self

    def __next__(self) -> ChannelMessage:
        message = self.next()
        if message is None:
            raise StopIteration
        return message

    def _read(self, heard: Heard) -> ChannelMessage | None:
        broadcast = self._ear.open(heard)
        if broadcast is None:
            return None
        if self._ear.standings.is_outdated(heard.channel, broadcast.digest):
            self._channels.learn(heard.channel)
        return self._ear.read(heard, broadcast)

    def _call(self, callback: Callable[[ChannelMessage], Any]) -> None:
        while self._calling and not self._ended.is_set():
            message = self.next(HEAR_SECONDS)
            if message is None:
                continue
            try:
                callback(message)
            except Exception:
                report_callback(message)

    def _check(self, names: Iterable[str]) -> None:
        """Names of queues and of routes that store are errors now, and not silence later."""
        for name in names:
            if not is_pattern(name):
                self._channels.learn(name)

    def _tell_all(self) -> None:
        self._listener.reopen()
        for name in self._names:
            self._listener.tell(self._broker.listen(name))

    def _await_confirmation(self, names: Sequence[str]) -> None:
        def there() -> bool:
            return self._ended.is_set() or self._confirmed.issuperset(names)

        with self._changed:
            if not self._changed.wait_for(there, timeout=CONFIRM_SECONDS):
                raise BrokerUnavailableError(
                    f"the server did not confirm {', '.join(names)} within {CONFIRM_SECONDS:g} s",
                    hint="it is tried on; what is published meanwhile may not be heard",
                )

    # -- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._keep_up()
        finally:
            self._listener.close()

    def _keep_up(self) -> None:
        """Hear, until closed; mend the line when it broke: one failure is one line in the log."""
        pauses, broken = Pauses(), False
        while not self._ended.is_set():
            try:
                if broken:
                    self._tell_all()
                    broken = False
                    self._outage.end()
                    pauses.reset()
                self._hear_all()
            except BrokerError as failure:
                if self._ended.is_set():
                    return
                self._ear.inbox.interruptions += not broken
                broken = True
                self._outage.begin(failure)
                with self._changed:
                    self._changed.wait_for(self._ended.is_set, timeout=pauses.seconds())

    def _hear_all(self) -> None:
        """Raises `BrokerUnavailableError` when the line broke, also when it is silent for too long."""
        silent_since = asked_at = time.monotonic()
        while not self._ended.is_set():
            heard = self._listener.hear(HEAR_SECONDS)
            now = time.monotonic()
            if heard is not None:
                silent_since = asked_at = now
                self._take(heard)
            elif now - silent_since >= 2 * CHECK_SECONDS:
                raise BrokerUnavailableError(f"nothing was heard for {now - silent_since:.0f} s")
            elif now - asked_at >= CHECK_SECONDS:
                asked_at = now
                self._listener.tell(self._broker.check_line())

    def _take(self, heard: Heard | str) -> None:
        with self._changed:
            if not isinstance(heard, str):
                self._ear.hear(heard)
            elif heard:
                self._confirmed.add(heard)
            self._changed.notify_all()
