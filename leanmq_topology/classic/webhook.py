"""`LeanMQWebhook`: functions called by path, each path one queue pair, one waiting read for all of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from leanmq_topology.classic.exceptions import LeanMQError, translated
from leanmq_topology.classic.leanmq import LeanMQ
from leanmq_topology.classic.queues import Queue
from leanmq_topology.classic.service import WebhookService
from leanmq_topology.client.consuming.delivery import SyncDelivery
from leanmq_topology.client.waiting import Doorbell
from leanmq_topology.topology.model import Topology

Handler = Callable[[dict[str, Any]], Any]
H = TypeVar("H", bound=Handler)

FAULT_PAUSE_SECONDS: Final = 1.0
LONGEST_QUIET_SECONDS: Final = 10.0
"""So long a loop that waits relies on being told of what comes; then it looks into its queues again."""
_log = logging.getLogger("leanmq_topology.webhook")


@dataclass(frozen=True, slots=True)
class WebhookRoute:
    """One path, and who handles it."""

    path: str
    handler: Handler
    queue: Queue


class LeanMQWebhook:
    """Calls a handler for every event sent to its path, one event at a time, in the order they came.

    A handler that raises has its event tried again `max_retries` times, by the queue's backoff, then moved
    to the dead-letter queue with the error. An event that a process died with comes back.
    """

    def __init__(
        self,
        redis_host: str = "localhost",
        redis_port: int = 6379,
        redis_db: int = 0,
        redis_password: str | None = None,
        prefix: str = "webhook:",
        process_interval: float = 1,
        auto_start: bool = True,
        *,
        max_retries: int = 0,
    ) -> None:
        """`process_interval` is how long `start_processing` waits at a time, in seconds.

        `auto_start` starts nothing, as in LeanMQ: call `run_service` or `start_processing`.
        """
        mq = LeanMQ(redis_host, redis_port, redis_db, redis_password, prefix)
        self._begin(mq, process_interval, auto_start, max_retries)

    @classmethod
    def from_topology(
        cls,
        topology: Topology | str | Path,
        *,
        url: str | None = None,
        process_interval: float = 1,
        max_retries: int | None = None,
    ) -> Self:
        """One whose paths are what a topology declares: `/orders` is its queue `orders`, or route if sent to.

        What is sent there is held against its schemas. An event that fails is tried again as its queue
        declares (`max_deliveries`, `retry`), unless `max_retries` says otherwise. Any other path has a pair
        of its own.
        """
        made = cls.__new__(cls)
        made._begin(LeanMQ.from_topology(topology, url=url), process_interval, True, max_retries)
        return made

    def _begin(self, mq: LeanMQ, process_interval: float, auto_start: bool, max_retries: int | None) -> None:
        self.mq = mq
        self.routes: list[WebhookRoute] = []
        self.process_interval, self.auto_start, self.max_retries = process_interval, auto_start, max_retries
        self._queues: dict[str, Queue] = {}
        self._doorbell: Doorbell | None = None
        self._looked: tuple[float, list[WebhookRoute]] | None = None
        """When the queues of these were found empty, and nothing was heard of them since."""
        self._one_at_a_time = threading.Lock()
        self._stopping = threading.Event()
        self._stopping.set()

    @property
    def is_processing(self) -> bool:
        """Whether `start_processing` is under way."""
        return not self._stopping.is_set()

    # -- routes and events ------------------------------------------------------------------------------

    def get(self, path: str) -> Callable[[H], H]:
        """Decorator: this function handles what is sent to the path. It gets one dict.

        The dict is what was sent, and in `_leanmq.webhook` the path and when it was sent. Registering a path
        again replaces its handler. Raises `QueueError` for a route, whose events lie in the queues behind it.
        """
        normal = normalize_path(path)
        queue = self._queue(normal)
        queue.insist_holding()

        def register(handler: H) -> H:
            others = (route for route in self.routes if route.path != normal)
            self.routes = [*others, WebhookRoute(normal, handler, queue)]
            return handler

        return register

    def send(self, path: str, data: dict[str, Any], *, type: str | None = None) -> str:
        """Send an event to a path, whether or not somebody handles it yet; returns its message id.

        `type` says which of several declared types it is. Raises as `Queue.send_message` does.
        """
        return self._queue(normalize_path(path)).send_message(data, type=type)

    def process_messages(self, block: bool = False, timeout: float = 1, count: int = 10) -> int:
        """Handle what is there, at most `count` events a path; returns how many were handled well.

        With `block` it waits up to `timeout` seconds for the first event of any path.
        """
        with self._one_at_a_time:
            bell = self._bell()
            if not (block and self._is_quiet()):
                handled, found = self._look(bell, count)
                if found or not block:
                    return handled
            if not self._wait(bell, timeout):
                return 0
            self._looked = None
            return self._handle_all(count)[0]

    def start_processing(self) -> None:
        """Handle events until `stop_processing` is called, from another thread or from a handler."""
        self._stopping.clear()
        try:
            while not self._stopping.is_set():
                self._process_once(self.process_interval)
        except KeyboardInterrupt:
            _log.info("interrupted: no further events are handled")
        finally:
            self._stopping.set()

    def stop_processing(self) -> None:
        """End `start_processing` once the event under way is handled."""
        self._stopping.set()
        self.wake()

    def run_service(
        self,
        process_count: int = 10,
        block_for_seconds: float | None = 1,
        handle_signals: bool = True,
        worker_thread_timeout: float = 5,
        log_level: int | str = logging.INFO,
    ) -> WebhookService:
        """Handle events in a thread of its own, until the service is stopped, or SIGINT or SIGTERM comes.

        Signals are heard only where Python lets them be: when this is called in the main thread.
        """
        _log.setLevel(log_level)
        service = WebhookService(
            self, process_count, block_for_seconds, handle_signals, worker_thread_timeout
        )
        service.start()
        return service

    def wake(self) -> None:
        """Whoever waits for events answers at once."""
        bell = self._doorbell
        if bell is not None:
            bell.wake()

    def close(self) -> None:
        """Stop, and free every connection."""
        self.stop_processing()
        self.mq.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- handling ---------------------------------------------------------------------------------------

    def _process_once(self, wait: float) -> None:
        try:
            self.process_messages(block=True, timeout=wait)
        except LeanMQError as failure:
            _log.error("events could not be fetched: %s", failure)
            self._stopping.wait(FAULT_PAUSE_SECONDS)

    def _is_quiet(self) -> bool:
        """Whether waiting is all there is to do: who waits on asks no queue again."""
        if self._looked is None:
            return False
        since, routes = self._looked
        in_time = time.monotonic() < since + LONGEST_QUIET_SECONDS
        return routes is self.routes and in_time and self._are_quiet(routes)

    def _look(self, bell: Doorbell, count: int) -> tuple[int, int]:
        """Handle what is there; what comes from now on is heard. Answers as `_handle_all`."""
        self._looked, routes, now = None, self.routes, time.monotonic()
        with translated():
            bell.listen([route.queue._queue for route in routes])
        handled, found = self._handle_all(count)
        if not found and self._are_quiet(routes):  # a paused queue may hold what nobody is told of again
            self._looked = (now, routes)
        return handled, found

    def _are_quiet(self, routes: list[WebhookRoute]) -> bool:
        return all(self.mq.is_quiet(route.queue) for route in routes)

    def _handle_all(self, count: int) -> tuple[int, int]:
        """How many were handled well, and how many there were."""
        handled = found = 0
        for route in self.routes:
            for delivery in self.mq.take(route.queue, count):
                found += 1
                handled += self._handle(route, delivery)
        return handled, found

    def _handle(self, route: WebhookRoute, delivery: SyncDelivery) -> bool:
        told = {"webhook": {"path": route.path, "timestamp": delivery.sent_at}}
        try:
            route.handler(delivery.data | {"_leanmq": told})
        except Exception as failure:
            _log.error("%s: event %s: %r", route.path, delivery.entry_id, failure)
            self._give_up(delivery, failure)
            return False
        with translated(route.queue.name):
            delivery.ack()
        return True

    def _give_up(self, delivery: SyncDelivery, failure: Exception) -> None:
        reason = f"Processing error: {failure}"
        with translated():
            if self.max_retries is None or delivery.attempt <= self.max_retries:
                delivery.nack(reason=reason)
            else:
                delivery.reject(reason)

    def _queue(self, path: str) -> Queue:
        name = path_to_queue_name(path)
        if name not in self._queues:
            self._queues[name] = self.mq.create_queue_pair(name)[0]
        return self._queues[name]

    def _bell(self) -> Doorbell:
        if self._doorbell is None:
            self._doorbell = self.mq.open_doorbell()
        return self._doorbell

    def _wait(self, bell: Doorbell, seconds: float) -> bool:
        with translated():
            return bell.wait(seconds)


def normalize_path(path: str) -> str:
    """With a slash at the front and none at the end."""
    return "/" + path.strip("/")


def path_to_queue_name(path: str) -> str:
    """One queue a path: `/a/b`, `/a_b` and `/a-b` are `a/b`, `a_b` and `a-b`; the root is `/`."""
    return path.strip("/") or "/"
