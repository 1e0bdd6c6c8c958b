"""Ids of a forked child and of many threads."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from leanmq_topology.client.identity import Producer, new_message_ids
from leanmq_topology.client.timestamps import format_time

FORK = """
import os
from leanmq_topology.client.identity import Producer, new_message_ids
producer = Producer()
producer.next()
new_message_ids(1)
child = os.fork()
name, sequence = producer.next()
os.write(1, f"{new_message_ids(1)[0][-12:]} {name} {sequence}\\n".encode())
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_child_is_somebody_else():
    lines = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    (id_1, name_1, sequence_1), (id_2, name_2, sequence_2) = (line.split() for line in lines[:2])
    assert id_1 != id_2
    assert name_1 != name_2
    assert {sequence_1, sequence_2} == {"1", "2"}


def test_threads_never_get_the_same_id():
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_message_ids(1)[0], range(4000)))
    assert len(set(made)) == len(made)


def test_a_producer_counts_its_flushes():
    producer = Producer()
    (name, first), (same, second) = producer.next(), producer.next()
    assert (same, first, second) == (name, 1, 2)
    assert Producer().next()[0] != name


def test_time_is_written_with_milliseconds_and_read_back():
    for now_ms in (0, 999, 1000, 1_795_325_938_185, 1_795_325_938_186, 1_795_325_939_000):
        assert datetime.fromisoformat(format_time(now_ms)) == datetime.fromtimestamp(now_ms / 1000, UTC)
