"""Reads as the subscriber that it is named: `python consumer.py orders`."""

import os
import sys

from leanmq_topology import LeanMQ

with LeanMQ.from_topology("topology.yaml", url=os.environ.get("LEANMQ_URL")) as mq:
    main, dead = mq.get_queue("main"), mq.get_dead_letter_queue("main")
    assert main is not None
    while messages := main.get_messages(count=5, block_for_seconds=0.5, consumer_id=sys.argv[1]):
        for message in messages:
            try:
                print(f"{sys.argv[1]}: {message.data['event_type']}")
                main.acknowledge_messages([message.id])
            except Exception as failure:
                main.move_to_dlq([message.id], repr(failure), dead)
