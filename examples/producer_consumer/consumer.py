"""Handles tasks until there are none for a second. What fails is dead-lettered with its reason."""

import os

from leanmq_topology import LeanMQ

with LeanMQ(redis_port=int(os.environ.get("REDIS_PORT", "6379")), prefix="example:") as mq:
    tasks = mq.get_queue("tasks")
    if tasks is None:
        raise SystemExit("there is no queue yet: run producer.py first")
    while messages := tasks.get_messages(count=3, block_for_seconds=1):
        for message in messages:
            try:
                number = message.data["params"]["number"]
                print(f"done: {number} * {number} = {number * number}")
                tasks.acknowledge_messages([message.id])
            except Exception as failure:
                tasks.move_to_dlq([message.id], repr(failure))
    info = tasks.get_info()
    print(f"{info.pending_messages} pending, {info.message_count} in the history")
