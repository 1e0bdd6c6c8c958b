"""What `leanmq init` writes: files by their path, as text. Small enough to be read in a minute."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from leanmq_topology.document.json_schema import topology_schema_text

KEPT = frozenset({"README.md", ".gitignore"})
"""What many a folder has already: left as it is there."""
SCHEMA_COPY = "schemas/topology.schema.json"
"""Where the editor finds what completes and explains every key."""

TOPOLOGY = """\
# yaml-language-server: $schema=./schemas/topology.schema.json
# What there is: messages, the queues they wait in, the handlers that take them.
# `leanmq explain queues.orders` tells every default.
leanmq: 1
name: {name}

messages:
  order.placed:
    schema:
      type: object
      required: [order_id, total]
      additionalProperties: false
      properties:
        order_id: {{type: string}}
        total: {{type: number, minimum: 0}}
    examples:
      - {{order_id: A-1, total: 99.5}}

queues:
  orders:
    accepts: [order.placed]
    ttl: 7d                            # nobody asks for an older one
    max_deliveries: 3                  # then it is a dead letter: `leanmq dlq list`
    retry: {{delay: 500ms}}

handlers:
  take: {{queue: orders, call: "handlers:take_order"}}
"""

HANDLERS = '''\
"""Plain functions. Change one while `leanmq dev` runs, and save."""


async def take_order(data: dict) -> None:
    print(f"order {data['order_id']} over {data['total']:.2f}")
'''

README = """\
# {name}

```sh
leanmq dev                            # a broker, the queues and the handlers; reloads what you save
leanmq send orders --example          # in a second terminal
leanmq send orders '{{"order_id": "A-2", "total": 12}}'
leanmq status
```

`topology.yaml` says what there is, `handlers.py` what is done. Try to break them: the code before keeps
serving, and the terminal says where the mistake is.
"""

GITIGNORE = ".leanmq/\n__pycache__/\n"


@dataclass(frozen=True, slots=True)
class Template:
    """A scaffold to choose."""

    summary: str
    files: Callable[[str], Mapping[str, str]]
    """The files by their path, for a topology of the name given."""
    try_next: tuple[str, ...]
    """What to type first, in the folder."""


def starter_files(name: str) -> dict[str, str]:
    return {
        "topology.yaml": TOPOLOGY.format(name=name),
        "handlers.py": HANDLERS,
        "README.md": README.format(name=name),
        ".gitignore": GITIGNORE,
        SCHEMA_COPY: topology_schema_text(),
    }


def shop_files(name: str) -> dict[str, str]:
    """The example of `leanmq demo`; its name is its own."""
    from leanmq_topology.cli.commands.demo import example_folder

    folder = example_folder()
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_made(path))
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths}


def _is_made(path: Path) -> bool:
    """By running the example, not by its author."""
    return bool({"__pycache__", ".leanmq"} & set(path.parts))


TEMPLATES = {
    "starter": Template("one message, one queue, one handler", starter_files, ("send orders --example",)),
    "shop": Template("the shop of `leanmq demo`", shop_files, ("send order-events --example",)),
}


def name_topology(folder: Path) -> str:
    """A valid name that resembles the folder's."""
    letters = re.sub(r"[^a-z0-9_.-]+", "-", folder.name.lower()).lstrip("0123456789_.-")
    return letters[:64].rstrip("-") or "app"
