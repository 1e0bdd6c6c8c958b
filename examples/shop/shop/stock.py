"""Stock: a plain function, run in a worker thread."""

from leanmq_topology import Message

LARGE = 200


def reserve(data: dict, message: Message) -> None:
    order = data["order_id"]
    level = "critical" if data["total"] >= LARGE else "info"
    # Sent in the very step that acknowledges the order: both happen, or neither.
    message.send("alerts", {"text": f"{order} was reserved"}, topic=f"stock.{level}")
    print(f"stock: reserved the goods of {order}", flush=True)
