"""Billing: an async handler whose gateway has its moods."""

import asyncio

from leanmq_topology import Message

DECLINED = "0000"
FLAKY = "5555"


class GatewayTimeoutError(Exception):
    """The payment gateway did not answer."""


class CardDeclinedError(Exception):
    """The bank said no."""


async def charge(data: dict, message: Message) -> None:
    """Charge a card. Any exception means: try again later, by the queue's retry policy."""
    await asyncio.sleep(0.01)  # the gateway
    if data["card"] == FLAKY and message.attempt == 1:
        raise GatewayTimeoutError("no answer after 10 ms")
    if data["card"] == DECLINED:
        raise CardDeclinedError(f"card ending in {DECLINED} was declined")
    total, order, attempt = data["total"], data["order_id"], message.attempt
    print(f"billing: charged {total:.2f} for {order} (attempt {attempt})", flush=True)
