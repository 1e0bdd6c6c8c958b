"""`LeanMQ`: the entry point, with the names, defaults and returns that programs written for it use."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from leanmq_topology.brokers.protocol import Declared, Pair
from leanmq_topology.classic.dead_letters import DeadLetterQueue
from leanmq_topology.classic.exceptions import QueueError, QueueNotFoundError, translated
from leanmq_topology.classic.line import Line
from leanmq_topology.classic.place import DLQ_SUFFIX, Place, empty_topology, find_namespace, make_url
from leanmq_topology.classic.queues import Queue, QueueInfo, describe, describe_dead
from leanmq_topology.classic.routes import make_declared, make_declared_dlq
from leanmq_topology.classic.transaction import Transaction
from leanmq_topology.client.consuming.delivery import SyncDelivery
from leanmq_topology.client.pairs import undeclared_queue
from leanmq_topology.client.patience import Patience
from leanmq_topology.client.place import choose_url, read_topology
from leanmq_topology.client.waiting import Doorbell
from leanmq_topology.plan.live_state import AppliedRecord, QueueState
from leanmq_topology.topology.model import Topology

QUEUES_A_LOOK: Final = 500


class LeanMQ:
    """Queue pairs on a Redis or Valkey server: messages, dead letters, transactions.

    Making one contacts nobody; the first call does. Threads may share it. The namespace is the prefix less
    one trailing colon, so that `LeanMQ(prefix="shop:")` meets what a topology with `namespace: shop`
    declares: its queues and routes are used as declared, and their data is validated.
    """

    def __init__(
        self,
        redis_host: str = "localhost",
        redis_port: int = 6379,
        redis_db: int = 0,
        redis_password: str | None = None,
        prefix: str = "mq:",
        max_retries: int = 3,
        *,
        connection_timeout: float | None = None,
        retry_interval: float | None = None,
    ) -> None:
        """`max_retries` is how often a call is tried once more when the server cannot be reached.

        `connection_timeout` and `retry_interval` (before the first of these tries, then doubling) are in
        seconds.
        """
        url = make_url(
            redis_host, redis_port, redis_db, redis_password, connection_timeout=connection_timeout
        )
        place = Place(url, prefix, empty_topology(find_namespace(prefix)))
        self._begin(place, Patience(most_tries=max_retries, first_wait_s=retry_interval))

    @classmethod
    def from_topology(cls, topology: Topology | str | Path, *, url: str | None = None) -> Self:
        """A `LeanMQ` on the server and in the namespace of a topology; it sends by its contracts.

        `send` and `request` name queues and routes of the topology, as `connect_sync` does.
        """
        loaded = read_topology(topology)
        made = cls.__new__(cls)
        made._begin(Place(choose_url(loaded, url), f"{loaded.broker.namespace}:", loaded), Patience())
        return made

    def _begin(self, place: Place, patience: Patience) -> None:
        self.prefix, self.max_retries = place.prefix, patience.most_tries
        self._place, self._line = place, Line(place, patience)

    # -- queues -----------------------------------------------------------------------------------------

    def create_queue_pair(
        self, queue_name: str, *, create_consumer_group: bool = True
    ) -> tuple[Queue, Queue]:
        """Make a queue and its dead-letter queue unless they are there; returns both.

        One that an applied topology declares is returned as it is declared; one that only the file of
        `from_topology` declares is a `QueueNotFoundError`.
        """
        self._check_name(queue_name)
        if queue_name in self._place.topology.target_names():
            return self._get_declared(queue_name)
        made = self._line.execute(
            self._line.broker.create_pair(undeclared_queue(queue_name)), queue=queue_name
        )
        if isinstance(made, Declared):
            return self._get_declared(queue_name)
        return self._handles(made)

    def get_queue(self, queue_name: str) -> Queue | None:
        """The queue of that name, short or as in `QueueInfo.name`; None if there is none."""
        for name in self._possible_names(queue_name):
            found = self._find(name)
            if found is not None:
                return found
            if name.endswith(DLQ_SUFFIX):
                dead = self.get_dead_letter_queue(name.removesuffix(DLQ_SUFFIX))
                if dead is not None:
                    return dead
        return None

    def get_dead_letter_queue(self, queue_name: str) -> Queue | None:
        """The dead-letter queue of that queue, which may be gone itself; None if there is none."""
        for name in self._possible_names(queue_name.removesuffix(DLQ_SUFFIX)):
            declared = self._find_declared_dlq(name)
            if declared is not None:
                return declared
            pair = self._line.execute(self._line.broker.find_pair(name))
            if pair is not None:
                return self._handles(pair)[1]
        return None

    def list_queues(self) -> list[QueueInfo]:
        """Every queue and dead-letter queue, declared ones too, with what they hold."""
        broker = self._line.broker
        record = self._line.execute(broker.read_record())
        pairs = {pair.name: pair for pair in self._line.execute(broker.list_pairs())}
        created = {name: pair.created_ms / 1000 for name, pair in pairs.items()} | _declared_at(record)
        gone = {name for name, pair in pairs.items() if not pair.has_queue} - set(_declared_at(record))
        found: list[QueueInfo] = []
        for state in self._look(sorted(created)):
            at, name = created[state.name], self._place.full_name
            if state.name not in gone:
                found.append(describe(name(state.name), state, at))
            found.append(describe_dead(name(state.name, is_dlq=True), state, at))
        return found

    def delete_queue(self, queue_name: str, delete_dlq: bool = True) -> bool:
        """Delete a queue with its messages, and its dead letters unless they are to stay.

        True if something was deleted. Raises `QueueError` for one that a topology declares.
        """
        for name in self._possible_names(queue_name):
            done = self._line.execute(
                self._line.broker.delete_pair(name, dead_letters=delete_dlq), queue=queue_name
            )
            if isinstance(done, Declared):
                raise QueueError(
                    f"queue {name!r} is declared by the applied topology",
                    hint="take it out of the file, then `leanmq apply --prune`",
                )
            if done:
                return True
        return False

    def process_expired_messages(self) -> int:
        """Take out every message that is past its time, in all queues; returns how many went.

        None of them would have been delivered anyway. Each is counted by one caller only.
        """
        names = [info.name for info in self.list_queues() if not info.is_dlq]
        return sum(self._expire(name.removeprefix(self.prefix)) for name in names)

    # -- sending ----------------------------------------------------------------------------------------

    def send(self, target: str, data: Any, **options: Any) -> str:
        """What `SyncClient.send` does: to a queue or a route, validated; returns the stable id."""
        with translated(target):
            return self._line.client.send(target, data, **options)

    def request(self, route: str, data: Any, *, timeout: float | None = None, **options: Any) -> Any:
        """Ask at a route of type `request` and return the reply, as `SyncClient.request` does.

        Raises `TimeoutError` after `timeout` seconds (the route's own if None), and `RemoteError`, which is a
        `ValueError`, for what the handler raised.
        """
        with translated(route):
            return self._line.client.request(route, data, timeout=timeout, **options)

    def transaction(self) -> Transaction:
        """Several sends, all or none: `with mq.transaction() as tx: tx.send_message(queue, {...})`."""
        return Transaction(self._line)

    # -- for webhooks -----------------------------------------------------------------------------------

    def take(self, queue: Queue, count: int) -> list[SyncDelivery]:
        """What is there now, at most `count`, to be settled by its own verbs (`ack`, `nack`, `reject`…)."""
        return self._line.take(queue._queue, count, named=queue.name)

    def is_quiet(self, queue: Queue) -> bool:
        """Whether there is nothing to take but what came since the last `take`. Asks nobody."""
        return self._line.is_quiet(queue._queue)

    def open_doorbell(self) -> Doorbell:
        """Waits for messages of several queues at once, on a connection of its own."""
        return self._line.open_doorbell()

    # -- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Free every connection; what was taken and not settled goes back. Closing twice is harmless."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- names ------------------------------------------------------------------------------------------

    def _possible_names(self, queue_name: str) -> list[str]:
        """As it is, then without the prefix that `QueueInfo.name` has."""
        self._check_name(queue_name)
        short = queue_name.removeprefix(self.prefix)
        return [queue_name] if short in {queue_name, ""} else [queue_name, short]

    def _check_name(self, queue_name: object) -> None:
        if not isinstance(queue_name, str) or not queue_name or not queue_name.isprintable():
            raise QueueError(f"{queue_name!r:.80} is not a queue name", hint="use printable text")

    def _find(self, name: str) -> Queue | None:
        declared = self._find_declared(name)
        if declared is not None:
            return declared
        pair = self._line.execute(self._line.broker.find_pair(name))
        return self._handles(pair)[0] if pair is not None and pair.has_queue else None

    def _find_declared(self, name: str) -> Queue | None:
        """What an applied topology declares under this name."""
        fields = self._line.execute(self._line.broker.read_addresses([name]))
        return make_declared(self._line, name, fields)

    def _get_declared(self, name: str) -> tuple[Queue, Queue]:
        queue, dead = self._find_declared(name), self._find_declared_dlq(name)
        if queue is None or dead is None:
            raise QueueNotFoundError(name)
        return queue, dead

    def _find_declared_dlq(self, name: str) -> Queue | None:
        fields = self._line.execute(self._line.broker.read_addresses([name]))
        return make_declared_dlq(self._line, name, fields)

    def _handles(self, pair: Pair) -> tuple[Queue, Queue]:
        at = pair.created_ms / 1000
        return Queue(self._line, pair.name, at), DeadLetterQueue(self._line, pair.name, at)

    def _look(self, names: list[str]) -> list[QueueState]:
        return [
            state
            for start in range(0, len(names), QUEUES_A_LOOK)
            for state in self._line.execute(
                self._line.broker.inspect_queues(names[start : start + QUEUES_A_LOOK])
            )
        ]

    def _expire(self, queue: str) -> int:
        total, cursor = 0, ""
        while True:
            answer = self._line.execute(self._line.broker.expire(queue, cursor=cursor))
            total, cursor = total + answer.count, answer.cursor
            if not cursor:
                return total


def _declared_at(record: AppliedRecord) -> dict[str, float]:
    """When each declared queue was applied last, in seconds."""
    return {
        address.removeprefix("queues."): entry.get("at", 0) / 1000
        for address, entry in record.resources.items()
        if address.startswith("queues.")
    }
