"""Publishes to two channels; what breaks the declared schema never leaves this process."""

from leanmq_topology import InvalidMessageError, connect_sync

with connect_sync("topology.yaml") as mq:
    print(mq.publish("news", {"type": "news", "content": "rain tomorrow", "metadata": {"priority": "low"}}))
    print(mq.publish("chat", {"content": "hello"}))
    print(mq.publish("nobody-listens-here", {"content": "hello?"}))
    try:
        mq.publish("news", {"type": "news"})
    except InvalidMessageError as failure:
        print(f"refused: it {failure.reason}")
    print(mq.publish("chat", {"content": "stop"}))
