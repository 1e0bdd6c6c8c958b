"""From what a classic constructor is told to a server and a namespace. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from leanmq_topology.topology.model import BrokerSettings, Topology

DEFAULT_NAMESPACE: Final = "leanmq"
DLQ_SUFFIX: Final = ":dlq"

_UNSAFE = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a `LeanMQ` works: a server, a namespace, and what is declared there as far as it was told."""

    url: str
    prefix: str
    topology: Topology

    def full_name(self, queue: str, *, is_dlq: bool = False) -> str:
        """What `QueueInfo.name` says."""
        return f"{self.prefix}{queue}{DLQ_SUFFIX if is_dlq else ''}"


def find_namespace(prefix: str) -> str:
    """The prefix less one trailing colon, so that `shop:` meets `namespace: shop`."""
    return prefix.removesuffix(":").translate(_UNSAFE) or DEFAULT_NAMESPACE


def empty_topology(namespace: str) -> Topology:
    """Nothing is declared here: what the server says counts alone."""
    return Topology(name=namespace, broker=BrokerSettings(url=None, namespace=namespace), folder=Path())


def make_url(
    host: str, port: int, db: int, password: str | None, *, connection_timeout: float | None = None
) -> str:
    """The server as a URL; what is special in a password is percent-encoded."""
    entrance = "" if password is None else f":{quote(password, safe='')}@"
    shown_host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    timeout = "" if connection_timeout is None else f"?connect_timeout={round(connection_timeout * 1000)}ms"
    return f"redis://{entrance}{shown_host}:{port}/{db}{timeout}"
