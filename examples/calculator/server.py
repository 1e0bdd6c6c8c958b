"""Answers requests until it is interrupted."""

import operator
import os
import signal
import time

from leanmq_topology import LeanMQ, Message

OPERATIONS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}


def calculate(request: dict) -> float:
    operation = OPERATIONS.get(request["operation"])
    if operation is None:
        raise ValueError(f"unknown operation: {request['operation']}")
    return operation(request.get("a", 0), request.get("b", 0))


def answer(mq: LeanMQ, message: Message) -> None:
    request = message.data
    replies, _ = mq.create_queue_pair(request["response_queue"])
    reply = {"request_id": request["request_id"], "timestamp": time.time()}
    try:
        replies.send_message(reply | {"result": calculate(request)})
        requests.acknowledge_messages([message.id])
    except (ValueError, ZeroDivisionError) as failure:
        replies.send_message(reply | {"error": str(failure)})
        requests.move_to_dlq([message.id], str(failure), dead)
        print(f"failed: {failure}", flush=True)


signal.signal(signal.SIGTERM, signal.default_int_handler)
with LeanMQ(redis_port=int(os.environ.get("REDIS_PORT", "6379")), prefix="calc:") as mq:
    requests, dead = mq.create_queue_pair("requests")
    print("ready", flush=True)
    try:
        while True:
            for message in requests.get_messages(count=5, block_for_seconds=2):
                answer(mq, message)
    except KeyboardInterrupt:
        print(f"stopped, {dead.get_info().message_count} dead letters")
