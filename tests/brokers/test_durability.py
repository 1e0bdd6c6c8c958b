"""Sends above `memory` on real servers and a real replica: what returned is where it was promised to be."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace
from redis.exceptions import ResponseError

from leanmq_topology import connect, connect_sync
from leanmq_topology.brokers.redis import address
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.errors import BrokerRefusedError, SendUnconfirmedError, SettingError
from leanmq_topology.topology.model import FanoutRoute, Queue, Target, Topology
from tests.brokers.test_sending import Sender, open_sender
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology, run, write_topology
from tests.support.replication import Pair, ask, start_pair
from tests.support.servers import KINDS, Server, require_binary
from tests.support.stage import COLOURS

AOF = ("--appendonly", "yes")
ALWAYS = (*AOF, "--appendfsync", "always")


@dataclass
class Scene:
    """A topology on a server, and what lies in its queues."""

    topology: Topology
    server: Server
    admin: BlockingRedisConnection

    def declare(self, durability: str) -> Topology:
        """The same topology with another level at its broker."""
        return replace(self.topology, broker=replace(self.topology.broker, durability=durability))

    @contextmanager
    def sender(self, colour: str, durability: str = "memory", url: str | None = None) -> Iterator[Sender]:
        with open_sender(colour, self.declare(durability), url or self.server.url) as mq:
            yield mq

    def ids(self, queue: str = "plain", server: Server | None = None) -> list[str]:
        """Ids of the messages that lie in a queue, on this server or another."""
        key = RedisBroker(self.topology.broker.namespace).keys.queue(queue)
        return [fields[b"id"].decode() for _, fields in ask(server or self.server, "XRANGE", key, "-", "+")]

    def calls(self, command: str) -> int:
        """How often the server has carried this command out."""
        told = run(self.admin, "INFO", "commandstats").decode()
        found = re.search(rf"cmdstat_{command}:calls=(\d+)", told)
        return int(found[1]) if found else 0


@contextmanager
def _open(server: Server) -> Iterator[BlockingRedisConnection]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def set_scene(server: Server, namespace: str) -> Iterator[Scene]:
    topology = make_topology(
        namespace,
        Queue(name="plain"),
        Queue(name="audited", durability="disk"),
        Queue(name="mirrored", durability="replicated:1"),
        routes=(
            FanoutRoute(name="both", to=(Target(queue="audited"), Target(queue="mirrored"))),
            FanoutRoute(name="loose", to=(Target(queue="plain"),)),
        ),
    )
    with _open(server) as admin:
        write_topology(admin, topology)
        # What these queues ask for is in the applied record; the file at hand asks for less.
        lenient = {name: replace(queue, durability=None) for name, queue in topology.queues.items()}
        yield Scene(replace(topology, queues=lenient), server, admin)


@contextmanager
def started(kind: str, *arguments: str) -> Iterator[Server]:
    server = Server(kind, require_binary(kind), arguments=arguments).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    require_binary(request.param)
    with start_pair(request.param, *ALWAYS) as running:
        yield running


@pytest.fixture
def scene(pair: Pair, namespace: str) -> Iterator[Scene]:
    with set_scene(pair.primary, namespace) as found:
        yield found
    pair.line.release()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not confirmed at once is not confirmed."""
    monkeypatch.setattr(address, "DEFAULT_CONFIRM_TIMEOUT_MS", 300)


# -- replicated ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_a_replicated_send_lies_on_the_replica_when_it_returns(pair: Pair, scene: Scene, colour: str):
    with scene.sender(colour, "replicated:1") as mq:
        for _ in range(20):
            sent = mq.send("plain", {"n": 1})
            assert scene.ids(server=pair.replica)[-1] == sent
        batch = mq.send_many("plain", [{"n": 1}, {"n": 2}])
        assert scene.ids(server=pair.replica)[-2:] == batch


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.usefixtures("impatient")
def test_a_send_the_replica_does_not_get_in_time_is_stored_and_unconfirmed(
    pair: Pair, scene: Scene, colour: str
):
    with scene.sender(colour, "replicated:1") as mq:
        pair.line.hold()
        with pytest.raises(SendUnconfirmedError) as caught:
            mq.send("plain", {"n": 1})
        assert caught.value.reached == "memory"
        assert scene.ids() == [caught.value.message_id]
        with pytest.raises(SendUnconfirmedError) as many:
            mq.send_many("plain", [{"n": 2}, {"n": 3}])
        assert scene.ids()[1:] == list(many.value.message_ids)


@pytest.mark.parametrize("colour", COLOURS)
def test_the_url_says_how_long_a_confirmation_may_take(pair: Pair, scene: Scene, colour: str):
    with scene.sender(colour, "replicated:1", f"{scene.server.url}?confirm_timeout=200ms") as mq:
        pair.line.hold()
        began = time.monotonic()
        with pytest.raises(SendUnconfirmedError):
            mq.send("plain", {"n": 1})
    assert time.monotonic() - began < address.DEFAULT_CONFIRM_TIMEOUT_MS / 1000


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.usefixtures("impatient")
def test_sending_again_with_the_same_id_confirms_it_once_the_replica_is_back_and_stores_nothing_twice(
    pair: Pair, scene: Scene, colour: str
):
    with scene.sender(colour, "replicated:1") as mq:
        pair.line.hold()
        with pytest.raises(SendUnconfirmedError) as caught:
            mq.send("plain", {"n": 1})
    with scene.sender(colour, "replicated:1") as mq:  # a connection that has written nothing yet
        with pytest.raises(SendUnconfirmedError):
            mq.send("plain", {"n": 1}, id=caught.value.message_id)
        pair.line.release()
        assert mq.send("plain", {"n": 1}, id=caught.value.message_id) == caught.value.message_id
    assert scene.ids() == scene.ids(server=pair.replica) == [caught.value.message_id]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.usefixtures("impatient")
def test_a_flush_repeated_on_a_new_connection_is_not_confirmed_by_what_that_one_wrote_not(
    pair: Pair, scene: Scene, colour: str
):
    """The answer is lost after the write; the repeat meets the producer's marker and must write too."""
    with ChaosProxy(scene.server.socket_path) as proxy, scene.sender(colour, "memory", proxy.url) as mq:
        mq.send("plain", {"n": 0}, durability="replicated:1")
        pair.line.hold()
        proxy.lose_answers(1, to=b"WAIT")
        with pytest.raises(SendUnconfirmedError):
            mq.send("plain", {"n": 1}, durability="replicated:1")
        assert proxy.lost == 1
        assert len(scene.ids()) == 2


@pytest.mark.parametrize("colour", COLOURS)
def test_a_break_between_write_and_confirmation_is_settled_by_the_same_flush(
    pair: Pair, scene: Scene, colour: str
):
    with ChaosProxy(scene.server.socket_path) as proxy, scene.sender(colour, "memory", proxy.url) as mq:
        proxy.lose_answers(2, to=b"WAIT")
        sent = mq.send("plain", {"n": 1}, durability="replicated:1")
        assert proxy.lost == 2
        assert scene.ids(server=pair.replica) == [sent]


@pytest.mark.parametrize("colour", COLOURS)
def test_more_replicas_than_are_connected_are_refused_at_connect(scene: Scene, colour: str):
    with (
        pytest.raises(BrokerRefusedError, match="replicated:2 needs that many replicas in step, and 1 is"),
        scene.sender(colour, "replicated:2"),
    ):
        pass


async def test_durable_sends_of_many_tasks_share_their_confirmations(scene: Scene):
    before = scene.calls("wait")
    async with connect(scene.declare("replicated:1"), url=scene.server.url) as mq:
        ids = await asyncio.gather(*[mq.send("plain", {"n": n}) for n in range(200)])
    assert sorted(scene.ids()) == sorted(ids)
    assert scene.calls("wait") - before <= 4


def test_durable_sends_of_threads_share_their_confirmations(pair: Pair, scene: Scene):
    before, sent = scene.calls("wait"), []
    with connect_sync(scene.declare("replicated:1"), url=scene.server.url) as mq:
        mq.send("plain", {"n": 0})
        pair.line.hold()
        threads = [
            threading.Thread(target=lambda n=n: sent.append(mq.send("plain", {"n": n}))) for n in range(20)
        ]
        for thread in threads:
            thread.start()
        _wait_until(lambda: len(mq._carrier._confirmer._parcels) == 19)
        pair.line.release()
        for thread in threads:
            thread.join(20)
    assert sorted(scene.ids()[1:]) == sorted(sent)
    assert scene.calls("wait") - before == 3


async def test_a_send_that_asks_for_nothing_does_not_wait_for_one_that_does(pair: Pair, scene: Scene):
    async with connect(scene.topology, url=scene.server.url) as mq:
        await mq.send("plain", {"n": 0}, durability="replicated:1")
        pair.line.hold()
        durable = asyncio.ensure_future(mq.send("plain", {"n": 1}, durability="replicated:1"))
        await asyncio.wait_for(mq.send("plain", {"n": 2}), 2)
        assert not durable.done()
        pair.line.release()
        await durable


async def test_a_cancelled_durable_send_leaves_the_next_one_its_own_answer(pair: Pair, scene: Scene):
    async with connect(scene.declare("replicated:1"), url=scene.server.url) as mq:
        await mq.send("plain", {"n": 0})
        pair.line.hold()
        gone = asyncio.ensure_future(mq.send("plain", {"n": 1}))
        await asyncio.to_thread(_wait_until, lambda: len(scene.ids()) == 2)
        gone.cancel()
        pair.line.release()
        kept = await mq.send("plain", {"n": 2})
    assert scene.ids(server=pair.replica)[2] == kept


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_dirty_failover_loses_nothing_that_was_confirmed(
    kind: str, colour: str, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    require_binary(kind)
    with start_pair(kind) as pair, set_scene(pair.primary, namespace) as scene:
        unknown = []
        with scene.sender(colour, "replicated:1") as mq:
            confirmed_ids = [mq.send("plain", {"n": n}) for n in range(20)]
        monkeypatch.setattr(address, "DEFAULT_CONFIRM_TIMEOUT_MS", 300)
        with scene.sender(colour, "replicated:1") as mq:
            pair.line.hold()
            for _ in range(2):
                with pytest.raises(SendUnconfirmedError) as caught:
                    mq.send("plain", {})
                unknown.append(caught.value.message_id)
            assert scene.ids() == [*confirmed_ids, *unknown]
            pair.primary.kill()
        ask(pair.replica, "REPLICAOF", "NO", "ONE")
        assert scene.ids(server=pair.replica) == confirmed_ids, "and of the unknown ones nobody said they lie"


# -- which level counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.usefixtures("impatient")
def test_the_level_is_the_highest_of_what_the_applied_targets_declare(pair: Pair, scene: Scene, colour: str):
    with scene.sender(colour) as mq:
        mq.send("loose", {})
        pair.line.hold()
        assert mq.send("plain", {})
        with pytest.raises(SendUnconfirmedError):
            mq.send("mirrored", {})
        if scene.server.kind == "valkey9":
            assert mq.send("audited", {})
            with pytest.raises(SendUnconfirmedError) as caught:
                mq.send("both", {})
            assert caught.value.reached == "disk"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_send_may_raise_the_level_and_never_lower_it(scene: Scene, colour: str):
    with scene.sender(colour) as mq:
        for lower in ("memory", "disk"):
            with pytest.raises(SettingError, match=f"{lower} is less than mirrored declares") as caught:
                mq.send("mirrored", {}, durability=lower)
        assert caught.value.hint == "write replicated_disk:1, or leave it out"
        with pytest.raises(SettingError, match="expected memory, disk, replicated:N"):
            mq.send("mirrored", {}, durability="twice")
        assert scene.ids("mirrored") == []
        assert mq.send_many("mirrored", [{}, {}], durability="replicated:1") == scene.ids("mirrored")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_level_the_server_cannot_give_is_refused_before_anything_is_sent(scene: Scene, colour: str):
    with scene.sender(colour) as mq, pytest.raises(BrokerRefusedError, match="needs that many replicas"):
        mq.send("plain", {}, durability="replicated:3")
    assert scene.ids() == []


# -- disk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_confirmed_disk_sends_survive_a_killed_server(colour: str, namespace: str):
    with started("valkey9", *ALWAYS) as server, set_scene(server, namespace) as scene:
        with scene.sender(colour, "disk") as mq:
            sent = [mq.send("plain", {})]  # teaches the server the script
            before = scene.calls("waitaof")
            sent += [mq.send("plain", {"n": n}) for n in range(3)]
            sent += mq.send_many("plain", [{"n": n} for n in range(100)])
            assert scene.calls("waitaof") - before == 4
        server.kill()
        server.start()
        assert scene.ids() == sent


@pytest.mark.parametrize("colour", COLOURS)
def test_a_sender_with_an_older_file_follows_the_durability_that_was_applied(colour: str, namespace: str):
    with started("valkey9", *ALWAYS) as server, set_scene(server, namespace) as scene:
        write_topology(scene.admin, scene.declare("disk"))
        with scene.sender(colour, "memory") as mq:
            assert mq.send("plain", {})
        assert scene.calls("waitaof") > 0


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_that_confirms_too_early_gives_disk_only_while_it_writes_before_each_answer(
    colour: str, namespace: str
):
    with started("valkey9", *ALWAYS) as server, set_scene(server, namespace) as scene:
        with scene.sender(colour, "disk") as mq:
            assert mq.send("plain", {})
            run(scene.admin, "CONFIG", "SET", "appendfsync", "everysec")
            with pytest.raises(SendUnconfirmedError) as caught:
                mq.send("plain", {})
            assert caught.value.reached == "memory"
            run(scene.admin, "CONFIG", "SET", "appendfsync", "always")
            assert mq.send("plain", {})
        for setting, value in (("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes")):
            run(scene.admin, "CONFIG", "SET", setting, value)
            with pytest.raises(BrokerRefusedError, match=setting), scene.sender(colour, "disk"):
                pass
            run(scene.admin, "CONFIG", "SET", "appendfsync", "always")


@pytest.mark.parametrize("colour", COLOURS)
def test_disk_without_an_append_only_file_is_refused_at_connect_with_the_mend(
    server: Server, namespace: str, colour: str
):
    with set_scene(server, namespace) as scene:
        with (
            pytest.raises(BrokerRefusedError, match="append-only file, which is off") as caught,
            scene.sender(colour, "disk"),
        ):
            pass
        assert "CONFIG SET appendonly yes" in (caught.value.hint or "")
        with (
            pytest.raises(BrokerRefusedError, match="append-only"),
            scene.sender(colour) as mq,
        ):
            mq.send("audited", {})
        assert scene.ids("audited") == []


@pytest.mark.parametrize("colour", COLOURS)
def test_a_declared_queue_is_checked_at_connect_too(server: Server, namespace: str, colour: str):
    topology = make_topology(namespace, Queue(name="plain", durability="disk"))
    with (
        pytest.raises(BrokerRefusedError, match="append-only"),
        open_sender(colour, topology, server.url),
    ):
        pass


@pytest.mark.parametrize("colour", COLOURS)
def test_below_7_2_disk_needs_a_server_that_writes_before_each_answer(colour: str, namespace: str):
    with started("redis62", *ALWAYS) as server, set_scene(server, namespace) as scene:
        with scene.sender(colour, "disk") as mq:
            sent = [mq.send("plain", {}), mq.send("plain", {})]
            run(scene.admin, "CONFIG", "SET", "appendfsync", "everysec")
            with pytest.raises(SendUnconfirmedError) as caught:
                mq.send("plain", {})
            assert caught.value.reached == "memory"
        for setting in ("appendfsync", "no-appendfsync-on-rewrite"):
            with pytest.raises(BrokerRefusedError, match=setting), scene.sender(colour, "disk"):
                pass
            run(scene.admin, "CONFIG", "SET", "appendfsync", "always")
            run(scene.admin, "CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
        with pytest.raises(BrokerRefusedError, match="needs WAITAOF"):
            BlockingSend(scene, colour).at("replicated_disk:1")
        server.kill()
        server.start()
        assert scene.ids()[:2] == sent


@dataclass
class BlockingSend:
    scene: Scene
    colour: str

    def at(self, durability: str) -> str:
        with self.scene.sender(self.colour) as mq:
            return mq.send("plain", {}, durability=durability)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.usefixtures("impatient")
def test_a_server_that_stops_writing_its_file_confirms_nothing_and_says_why(colour: str, namespace: str):
    with started("valkey9", *ALWAYS) as server, set_scene(server, namespace) as scene:
        with scene.sender(colour, "disk") as mq:
            mq.send("plain", {})
            run(scene.admin, "CONFIG", "SET", "appendonly", "no")
            with pytest.raises(SendUnconfirmedError, match="appendonly is disabled") as caught:
                mq.send("plain", {})
        assert caught.value.reached == "memory"
        assert len(scene.ids()) == 2


@pytest.mark.parametrize("colour", COLOURS)
def test_disk_on_both_ends_needs_both_ends(colour: str, namespace: str, monkeypatch: pytest.MonkeyPatch):
    # A replica tells of its disk once a second unasked, and that may be the first time it is right.
    monkeypatch.setattr(address, "DEFAULT_CONFIRM_TIMEOUT_MS", 2_500)
    with start_pair("valkey9", *ALWAYS) as pair, set_scene(pair.primary, namespace) as scene:
        with scene.sender(colour, "replicated_disk:1") as mq:
            sent = mq.send("plain", {})
            ask(pair.replica, "CONFIG", "SET", "appendonly", "no")
            with pytest.raises(SendUnconfirmedError) as caught:
                mq.send("plain", {})
            assert caught.value.reached == "disk"
        assert scene.ids(server=pair.replica)[0] == sent


# -- what every connection insists on --------------------------------------------------------------------


@pytest.fixture
def policy(server: Server) -> Iterator[Any]:
    with _open(server) as admin:
        yield lambda value: run(admin, "CONFIG", "SET", "maxmemory-policy", value)
        run(admin, "CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("value", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused_at_connect_with_the_mend(
    server: Server, namespace: str, policy: Any, colour: str, value: str
):
    policy(value)
    with set_scene(server, namespace) as scene:
        with pytest.raises(BrokerRefusedError, match=f"maxmemory-policy is {value}") as caught:
            BlockingSend(scene, colour).at("memory")
        assert "CONFIG SET maxmemory-policy noeviction" in (caught.value.hint or "")
        policy("noeviction")
        assert BlockingSend(scene, colour).at("memory")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_that_hides_its_settings_is_taken_where_they_are_not_needed(
    namespace: str, colour: str, caplog: pytest.LogCaptureFixture
):
    with started("redis62", *ALWAYS) as server, set_scene(server, namespace) as scene:
        run(
            scene.admin,
            "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-config", "-info",
        )  # fmt: skip
        url = f"unix://app:secret@{server.socket_path}"
        with scene.sender(colour, url=url) as mq:
            assert mq.send("plain", {})
            with pytest.raises(BrokerRefusedError, match="not shown to this user"):
                mq.send("plain", {}, durability="disk")
    assert "does not show maxmemory-policy" in caplog.text
    assert "secret" not in caplog.text


def _wait_until(found: Any) -> None:
    """For what no other process or thread can signal."""
    deadline = time.monotonic() + 40
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- a server that changes under its clients -------------------------------------------------------------


@contextmanager
def _later(work: Any, *, after: Any) -> Iterator[None]:
    """Do it beside the body, once `after` holds."""
    done = threading.Thread(target=lambda: (_wait_until(after), work()))
    done.start()
    yield
    done.join(15)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_senders_outlast_a_primary_that_is_a_replica_for_a_while(kind: str, colour: str, namespace: str):
    with started(kind) as server, set_scene(server, namespace) as scene, scene.sender(colour) as mq:
        mq.send("plain", {})
        entered = scene.calls("hello")
        ask(server, "REPLICAOF", "127.0.0.1", "1")
        with _later(
            lambda: ask(server, "REPLICAOF", "NO", "ONE"), after=lambda: scene.calls("hello") >= entered + 2
        ):
            sent = mq.send("plain", {})
        assert scene.ids()[1:] == [sent]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_replica_is_refused_at_the_first_connection(pair: Pair, scene: Scene, colour: str):
    with (
        pytest.raises(BrokerRefusedError, match="read-only replica") as caught,
        scene.sender(colour, url=pair.replica.url),
    ):
        pass
    assert caught.value.hint == "name the primary instead"


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_senders_outlast_too_few_replicas_and_a_busy_server(kind: str, colour: str, namespace: str):
    with started(kind, "--lua-time-limit", "50") as server, set_scene(server, namespace) as scene:
        with scene.sender(colour) as mq:
            mq.send("plain", {})
            ask(server, "CONFIG", "SET", "min-replicas-to-write", "1")
            refused = scene.calls("evalsha")
            with _later(
                lambda: ask(server, "CONFIG", "SET", "min-replicas-to-write", "0"),
                after=lambda: scene.calls("evalsha") > refused + 2,
            ):
                sent = mq.send("plain", {})
            with _Intruder(server):
                busy = mq.send("plain", {})
        assert scene.ids()[1:] == [sent, busy]


class _Intruder:
    """A script that keeps the server busy, until it is killed half a second later."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._script = threading.Thread(target=self._run)
        self._script.start()
        _wait_until(self._is_busy)
        self._end = threading.Timer(0.5, lambda: ask(self._server, "SCRIPT", "KILL"))
        self._end.start()

    def __exit__(self, *_: object) -> None:
        self._end.join()
        self._script.join(10)

    def _run(self) -> None:
        with contextlib.suppress(ResponseError):
            ask(self._server, "EVAL", "while true do end", "0")

    def _is_busy(self) -> bool:
        try:
            ask(self._server, "PING")
        except ResponseError as failure:
            return "BUSY" in str(failure)
        return False


# -- transactions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_a_transaction_is_as_durable_as_its_most_durable_message(scene: Scene, colour: str):
    def block(tx: Transaction) -> None:
        tx.send("plain", {"n": 1}, id="a")
        tx.send("mirrored", {"n": 2}, id="b")

    with scene.sender(colour) as mq:
        before = scene.calls("wait")
        assert mq.transact(block) == ("a", "b")
        assert scene.calls("wait") > before
        assert mq.transact(block) == ("a", "b")
    assert (scene.ids("plain"), scene.ids("mirrored")) == (["a"], ["b"]), "sent again, stored once"


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.usefixtures("impatient")
def test_every_message_of_an_unconfirmed_transaction_is_named_and_safe_to_send_again(
    pair: Pair, scene: Scene, colour: str
):
    def block(tx: Transaction) -> None:
        tx.send("plain", {"n": 1}, id="a")
        tx.send("mirrored", {"n": 2}, id="b")

    with scene.sender(colour) as mq:
        pair.line.hold()
        with pytest.raises(SendUnconfirmedError) as caught:
            mq.transact(block)
        assert caught.value.message_ids == ("a", "b")
        pair.line.release()
        assert mq.transact(block) == ("a", "b")
    assert (scene.ids("plain"), scene.ids("mirrored")) == (["a"], ["b"])
