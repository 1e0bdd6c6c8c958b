"""Handles events in a thread until SIGTERM or Ctrl-C."""

import logging
import os
import time

from leanmq_topology import LeanMQWebhook

logging.getLogger("leanmq_topology.webhook").addHandler(logging.NullHandler())
webhook = LeanMQWebhook(redis_port=int(os.environ.get("REDIS_PORT", "6379")), prefix="hooks:", max_retries=2)


@webhook.get("/order/status/")
def status(data: dict) -> None:
    print(f"{data['_leanmq']['webhook']['path']}: {data['order_id']} is {data['status']}", flush=True)


@webhook.get("/order_status")
def another(data: dict) -> None:
    print(f"/order_status: {data['note']}", flush=True)


@webhook.get("/payment")
def pay(data: dict) -> None:
    print(f"/payment: trying {data['amount']}", flush=True)
    raise ValueError("the card is declined")


service = webhook.run_service()
print("ready", flush=True)
while service.is_alive():
    time.sleep(0.05)
dead = webhook.mq.get_dead_letter_queue("payment")
for letter in dead.get_messages(count=10):
    print(f"dead: {letter.data['_failures'][-1]['reason']}")
webhook.close()
