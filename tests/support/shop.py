"""A small shop in a folder: a valid topology, a broken one, one that was never applied, and its handlers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import Done, leanmq

TOPOLOGY = """
leanmq: 1
name: {namespace}
messages:
  order:
    schema: {{type: object, required: [{required}], properties: {{total: {{type: number}}}}}}
    examples: [{{total: 9, vat: 1}}]
queues:
  billing: {{accepts: [order], ttl: 1d, max_length: 2}}
  emails: {{accepts: [order], ttl: 1d}}
routes:
  orders: {{type: fanout, to: {{billing: {{}}, emails: {{match: {{data.total: {{minimum: 50}}}}}}}}}}
handlers:
  charge: {{queue: billing, call: "handlers:charge"}}
  mail: {{queue: emails, call: "handlers:mail"}}
"""

HANDLERS = """
import os
import time

from leanmq_topology import Reject

def charge(data):
    if data["total"] < 0:
        time.sleep(60)
    raise Reject("the card is unknown")

def mail(data):
    pass
"""

BROKEN = "leanmq: 1\nname: shop\nqueues: {billing: {tll: 1d}}\n"


@dataclass(frozen=True)
class Shop:
    """Commands run in its folder find `topology.yaml`, and its server by LEANMQ_URL."""

    folder: Path
    url: str
    namespace: str

    def open(self) -> Shop:
        """Write the files; nothing is applied yet."""
        self.write()
        (self.folder / "broken.yaml").write_text(BROKEN)
        (self.folder / "lines.ndjson").write_text('{"total": 50}\n{"total": 51}\n')
        self.write("unapplied.yaml", namespace=f"{self.namespace}-unapplied")
        (self.folder / "handlers.py").write_text(HANDLERS)
        return self

    def write(
        self, name: str = "topology.yaml", *, namespace: str | None = None, required: str = "total"
    ) -> None:
        text = TOPOLOGY.format(namespace=namespace or self.namespace, required=required)
        (self.folder / name).write_text(text)

    def leanmq(self, *words: str) -> Done:
        return leanmq(*words, folder=self.folder, url=self.url)
