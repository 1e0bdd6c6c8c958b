"""Looks at a namespace again and again, in a thread, so that a slow server never stops the screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from leanmq_topology.cli.live.samples import Sample
from leanmq_topology.errors import LeanMQError, TopologyNotAppliedError

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import BlockingLink

EVERY_SECONDS = 0.5
SHARE = 10
"""A look may take a tenth of the time, so that a large namespace is not asked all the time."""

Open = Callable[[], "BlockingLink"]


class Sampler:
    """`newest` is the last look; use it in a `with`."""

    def __init__(self, open_link: Open, namespace: str, every_seconds: float = EVERY_SECONDS) -> None:
        self.newest: Sample | None = None
        self.where = ""
        """The server, as it may be shown; empty until it was reached."""
        self._open, self._namespace, self._every = open_link, namespace, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leanmq-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join(1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._open() as link:
                    self.where = link.url
                    while not self._stop.is_set():
                        self._pause(self._look(link))
            except LeanMQError as failure:
                self.newest = Sample(time.monotonic(), None, failure.message)
                self._pause(self._every)

    def _look(self, link: BlockingLink) -> float:
        """Returns how long it took, in seconds."""
        from leanmq_topology.operations.status import read_status

        began = time.monotonic()
        try:
            self.newest = Sample(began, read_status(link, self._namespace))
        except TopologyNotAppliedError:
            self.newest = Sample(began, None, f"nothing is applied to namespace {self._namespace} yet")
        return time.monotonic() - began

    def _pause(self, took_seconds: float) -> None:
        self._stop.wait(max(self._every, took_seconds * SHARE))
