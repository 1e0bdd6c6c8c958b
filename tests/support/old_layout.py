"""What the package LeanMQ 0.2.0 leaves on a server, written by hand from its key layout.

Streams `<prefix><q>` and `<prefix><q>:dlq`, hashes `<key>:metadata`, sorted sets `<key>:expiry`, the set
`<prefix>registry`; groups `<q>-group` and `<q>-group-dlq`; one field `data`, with `_metadata` in the body.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import redis


class OldLeanMQ:
    """Its writing calls, command by command."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client, self.prefix = client, prefix

    def create_queue_pair(self, queue: str) -> None:
        main, dlq = self.prefix + queue, f"{self.prefix}{queue}:dlq"
        for key, group in ((main, f"{queue}-group"), (dlq, f"{queue}-group-dlq")):
            try:
                self.client.xgroup_create(key, group, "$", mkstream=True)
            except redis.ResponseError as failure:
                if "BUSYGROUP" not in str(failure):
                    raise
        self.client.sadd(f"{self.prefix}registry", main, dlq)
        created = str(time.time())
        facts = {"created_at": created, "dlq": dlq, "consumer_group": f"{queue}-group"}
        self.client.hset(f"{main}:metadata", mapping=facts)
        facts = {
            "created_at": created,
            "main_queue": main,
            "consumer_group": f"{queue}-group-dlq",
            "is_dlq": "true",
        }
        self.client.hset(f"{dlq}:metadata", mapping=facts)

    def send(
        self, key: str, data: dict[str, Any], message_id: str | None = None, ttl: float | None = None
    ) -> str:
        told = {"id": message_id or str(uuid.uuid4()), "timestamp": time.time(), "ttl": ttl}
        body = json.dumps(data | {"_metadata": told})
        entry = self.client.xadd(self.prefix + key, {"data": body}, maxlen=100_000, approximate=False)
        if ttl is not None:
            self.client.zadd(f"{self.prefix}{key}:expiry", {entry: time.time() + ttl})
        return str(entry.decode())

    def get(self, queue: str, count: int) -> list[str]:
        """The entry ids that a consumer got."""
        streams = {self.prefix + queue: ">"}
        found = self.client.xreadgroup(f"{queue}-group", "default-consumer", streams, count=count)
        return [entry.decode() for _, entries in found for entry, _ in entries]

    def acknowledge(self, queue: str, *ids: str) -> None:
        self.client.xack(self.prefix + queue, f"{queue}-group", *ids)

    def move_to_dlq(self, queue: str, entry: str, reason: str) -> str:
        body = self._read(queue, entry)
        body.setdefault("_failures", []).append({"timestamp": time.time(), "reason": reason})
        moved = self.send(f"{queue}:dlq", body, message_id=body.pop("_metadata")["id"])
        self.acknowledge(queue, entry)
        return moved

    def requeue(self, queue: str, entry: str) -> str:
        body = self._read(f"{queue}:dlq", entry)
        where = {"from_dlq": f"{self.prefix}{queue}:dlq", "to_queue": self.prefix + queue}
        body.setdefault("_requeues", []).append({"timestamp": time.time(), **where})
        moved = self.send(queue, body, message_id=body.pop("_metadata")["id"])
        self.client.xdel(f"{self.prefix}{queue}:dlq", entry)
        return moved

    def keys_left(self) -> list[bytes]:
        return sorted(self.client.keys(f"{self.prefix}*"))

    def _read(self, key: str, entry: str) -> dict[str, Any]:
        [(_, fields)] = self.client.xrange(self.prefix + key, entry, entry)
        body: dict[str, Any] = json.loads(fields[b"data"])
        return body
