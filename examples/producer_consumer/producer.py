"""Sends five tasks and ends."""

import os
import time
import uuid

from leanmq_topology import LeanMQ

with LeanMQ(redis_port=int(os.environ.get("REDIS_PORT", "6379")), prefix="example:") as mq:
    tasks, _ = mq.create_queue_pair("tasks")
    for number in range(1, 6):
        tasks.send_message(
            {
                "task_id": str(uuid.uuid4()),
                "type": "square",
                "params": {"number": number},
                "created_at": time.time(),
            }
        )
        print(f"sent: the square of {number}")
