"""A client of either colour that listens, called the same way."""

from __future__ import annotations

from typing import Any

from tests.support.consumers import Consumer

PATIENCE = 20.0


class Listener:
    """A subscription of the client; `next` fails the test where nothing comes."""

    def __init__(self, consumer: Consumer, *names: str, **options: Any) -> None:
        self.consumer, self.subscription = consumer, consumer.mq.subscribe(*names, **options)
        consumer.call(self.subscription.start())

    def next(self) -> Any:
        message = self.consumer.call(self.subscription.next(PATIENCE))
        assert message is not None, f"nothing came on {self.subscription.channels}"
        return message

    def nothing(self, wait: float = 0.2) -> bool:
        return self.consumer.call(self.subscription.next(wait)) is None

    def call(self, verb: str, *words: Any) -> Any:
        return self.consumer.call(getattr(self.subscription, verb)(*words))
