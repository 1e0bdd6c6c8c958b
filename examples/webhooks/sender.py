"""Sends three events, each to its own path, and waits until they are dealt with."""

import os
import time

from leanmq_topology import LeanMQWebhook

with LeanMQWebhook(redis_port=int(os.environ.get("REDIS_PORT", "6379")), prefix="hooks:") as webhook:
    webhook.send("/order/status", {"order_id": "A-1", "status": "shipped"})
    webhook.send("/order_status", {"note": "another path, another queue"})
    webhook.send("/payment", {"amount": 5})
    dead = webhook.mq.get_dead_letter_queue("payment")
    while not dead.get_messages():
        time.sleep(0.05)
    print("sent")
