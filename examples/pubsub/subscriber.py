"""Listens to two channels until it hears `stop`."""

from leanmq_topology import connect_sync

with connect_sync("topology.yaml") as mq, mq.subscribe("news", "chat") as heard:
    heard.start()
    print("listening", flush=True)
    for message in heard:
        print(f"{message.channel}: {message.data['content']}", flush=True)
        if message.data["content"] == "stop":
            break
    print(f"received: {heard.statistics.received}")
