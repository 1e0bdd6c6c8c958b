"""Publishes three events. One that breaks the schema never leaves this process."""

import os
import time
import uuid

from leanmq_topology import LeanMQ
from leanmq_topology.exceptions import MessageError

with LeanMQ.from_topology("topology.yaml", url=os.environ.get("LEANMQ_URL")) as mq:
    main = mq.get_queue("main")
    assert main is not None

    def publish(event_type: str, data: dict) -> None:
        event = {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "data": data,
            "timestamp": time.time(),
        }
        main.send_message(event)
        print(f"published {event_type}")

    publish(
        "order.created",
        {"order_id": "ORD-1", "items": [{"product_id": "P-1", "quantity": 2}], "total": 59.98},
    )
    publish("user.created", {"user_id": "U-1", "email": "ada@example.org", "name": "Ada"})
    publish("order.updated", {"order_id": "ORD-1", "status": "shipped", "updated_by": "warehouse"})
    try:
        publish("order.lost", {})
    except MessageError as failure:
        print(f"refused at {failure.path}")
