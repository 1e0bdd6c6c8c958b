"""Asks for four results, and then for two that cannot be given."""

import os
import time
import uuid

from leanmq_topology import LeanMQ


class Calculator:
    """One reply queue of its own, deleted when it is done."""

    def __init__(self, mq: LeanMQ) -> None:
        self.mq, self.name = mq, f"responses:{uuid.uuid4()}"
        self.requests, _ = mq.create_queue_pair("requests")
        self.replies, _ = mq.create_queue_pair(self.name)

    def __call__(self, operation: str, a: float, b: float, timeout: float = 5) -> float:
        request_id = str(uuid.uuid4())
        asked = {"request_id": request_id, "response_queue": self.name, "timestamp": time.time()}
        self.requests.send_message(asked | {"operation": operation, "a": a, "b": b}, ttl=timeout)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            for message in self.replies.get_messages(count=10, block_for_seconds=left):
                self.replies.delete_messages([message.id])
                if message.data["request_id"] == request_id:
                    if "error" in message.data:
                        raise ValueError(message.data["error"])
                    return message.data["result"]
        raise TimeoutError(f"no reply within {timeout} s")

    def close(self) -> None:
        self.mq.delete_queue(self.name)


with LeanMQ(redis_port=int(os.environ.get("REDIS_PORT", "6379")), prefix="calc:") as mq:
    calculate = Calculator(mq)
    for operation, a, b in (
        ("add", 10, 5), ("subtract", 20, 7), ("multiply", 6, 4), ("divide", 100, 4),
        ("divide", 1, 0), ("power", 2, 3),
    ):  # fmt: skip
        try:
            print(f"{operation} {a} {b}: {calculate(operation, a, b, timeout=30)}")
        except ValueError as failure:
            print(f"{operation} {a} {b}: {failure}")
    calculate.close()
