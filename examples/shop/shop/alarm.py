"""Alarm: rings for what is critical, wherever in the shop it comes from."""

from leanmq_topology import Message


async def ring(data: dict, message: Message) -> None:
    print(f"alarm: {message.headers['leanmqtopic']}: {data['text']}", flush=True)
