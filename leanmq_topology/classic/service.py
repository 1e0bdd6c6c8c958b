"""`WebhookService`: handles events in a thread; one signal stops every service of the process."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from leanmq_topology.classic.webhook import LeanMQWebhook

FAULT_PAUSE_SECONDS: Final = 1.0
WAKE_SECONDS: Final = 0.05
"""How often a thread that is to stop is woken: it may just have been about to wait."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_log = logging.getLogger("leanmq_topology.webhook")


class WebhookService:
    """Handles the events of a `LeanMQWebhook` in a thread of its own between `start` and `stop`."""

    def __init__(
        self,
        webhook: LeanMQWebhook,
        process_count: int = 10,
        block_for_seconds: float | None = 1,
        handle_signals: bool = True,
        worker_thread_timeout: float = 5,
    ) -> None:
        self.webhook = webhook
        self.process_count, self.block_for_seconds = process_count, block_for_seconds
        self.handle_signals, self.worker_thread_timeout = handle_signals, worker_thread_timeout
        self.worker_thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._stopping.set()

    @property
    def running(self) -> bool:
        """Between `start` and `stop`."""
        return not self._stopping.is_set()

    def start(self) -> None:
        """Start handling. Starting twice is harmless."""
        if self.running:
            return
        self._stopping.clear()
        if self.handle_signals:
            _switchboard.add(self)
        self.worker_thread = threading.Thread(target=self._work, name="leanmq-webhook", daemon=True)
        self.worker_thread.start()

    def stop(self) -> None:
        """Stop once the event under way is handled; waits `worker_thread_timeout` seconds for it."""
        self._stopping.set()
        _switchboard.remove(self)
        thread = self.worker_thread
        if thread is None or thread is threading.current_thread():
            return
        ends = time.monotonic() + self.worker_thread_timeout
        while thread.is_alive() and time.monotonic() < ends:
            self.webhook.wake()
            thread.join(WAKE_SECONDS)
        if thread.is_alive():
            _log.warning(
                "a handler still runs %g s after its service was stopped", self.worker_thread_timeout
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def is_alive(self) -> bool:
        """Whether it is running and its thread lives."""
        return self.running and self.worker_thread is not None and self.worker_thread.is_alive()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.webhook.process_messages(
                    block=True, timeout=self.block_for_seconds or 1, count=self.process_count
                )
            except Exception as failure:
                if not self._stopping.is_set():
                    _log.error("events could not be handled: %s", failure)
                self._stopping.wait(FAULT_PAUSE_SECONDS)


class _Switchboard:
    """Hears the signals for all services; hands them on to whoever heard them before when none is running."""

    def __init__(self) -> None:
        self._services: list[WebhookService] = []
        self._before: dict[int, Any] = {}

    def add(self, service: WebhookService) -> None:
        """Only the main thread may hear signals; elsewhere the program has to call `stop` itself."""
        if threading.current_thread() is not threading.main_thread():
            _log.info("not in the main thread: this service hears no signals")
            return
        self._services.append(service)
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before != self._hear:
                self._before[number] = before
                signal.signal(number, self._hear)

    def remove(self, service: WebhookService) -> None:
        if service in self._services:
            self._services.remove(service)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        services = list(self._services)
        for service in services:
            service._stopping.set()  # all first: they end side by side
            service.webhook.wake()
        for service in services:
            _log.info("signal %d: stopping", number)
            service.stop()
        if not services:
            self._hand_on(number, frame)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


_switchboard = _Switchboard()
