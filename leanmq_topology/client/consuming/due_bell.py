"""Hears of what a housekeeper with nothing to do has to know sooner than it would look for it.

What `runner.doorbell` is to a worker: a connection that only listens, here with a thread of its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from leanmq_topology.brokers.protocol import LOOK_CALL, BlockingListener, Broadcaster, Heard
from leanmq_topology.errors import BrokerError, BrokerUnavailableError
from leanmq_topology.upkeep.listening import CHECK_SECONDS
from leanmq_topology.upkeep.outage import Pauses

STOP_SECONDS: Final = 1.0
"""A line on which nothing answers is left behind after that; it ends by itself."""


class DueBell:
    """Calls `rung` when something will be due within five seconds, and when no more is heard of that.

    And `called` when there is something to look at.
    """

    def __init__(
        self,
        broker: Broadcaster,
        listener: BlockingListener,
        rung: Callable[[], None],
        called: Callable[[], None],
    ) -> None:
        self._broker, self._listener = broker, listener
        self._rung, self._called = rung, called
        self.works = False
        """Whatever is put in from now on is heard of, if it is due within five seconds."""
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Listen from now on. Starting twice is harmless."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="leanmq-due-bell", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it, and its connection."""
        self._ended.set()
        if self._thread is not None:
            with contextlib.suppress(BrokerError):  # an answer wakes it; without a line it is awake
                self._listener.tell(self._broker.check_line())
            self._thread.join(STOP_SECONDS)

    # -- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        """A failure is no news: it only means that the housekeeper looks more often."""
        pauses = Pauses()
        try:
            while not self._ended.is_set():
                with contextlib.suppress(BrokerError):
                    self._listener.reopen()
                    self._listener.tell(self._broker.listen_for_upkeep())
                    self._hear_all(pauses)
                if self.works:
                    self.works = False
                    self._rung()
                self._ended.wait(pauses.seconds())
        finally:
            self.works = False  # whatever ended it
            self._listener.close()

    def _hear_all(self, pauses: Pauses) -> None:
        """Raises `BrokerError` when the line broke or this user may not listen, also when it says nothing."""
        asked = False
        while not self._ended.is_set():
            heard = self._listener.hear(CHECK_SECONDS)
            if isinstance(heard, Heard):
                (self._called if heard.payload == LOOK_CALL else self._rung)()
            elif heard:
                self.works = True
                pauses.reset()
            elif heard is None and asked:
                raise BrokerUnavailableError("what listens hears nothing any more")
            asked = heard is None
            if asked:
                self._listener.tell(self._broker.check_line())
