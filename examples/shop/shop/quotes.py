"""Quotes: tells prices to those who ask, and to whoever listens at that moment."""

from leanmq_topology import Client, Reject

PRICES = {"mug": 8.5, "shirt": 24.0}


async def quote(data: dict, mq: Client) -> dict:
    """What is returned is the reply. A rejected request tells its caller why."""
    sku = data["sku"]
    if sku not in PRICES:
        raise Reject(f"there is no {sku}")
    given = {"sku": sku, "price": PRICES[sku]}
    await mq.publish("ticker", given)
    print(f"quotes: {sku} costs {given['price']:.2f}", flush=True)
    return given
