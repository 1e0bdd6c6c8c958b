"""Webhooks: handlers by path, in a loop of one's own, in a service, in two services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import redis

from leanmq_topology import LeanMQWebhook, WebhookService
from leanmq_topology.client.consuming.housekeeper import Housekeeper
from leanmq_topology.client.patience import Patience
from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.exceptions import ConnectionError as ClassicConnectionError
from tests.classic.conftest import Place
from tests.support.processes import wait_until


@pytest.fixture
def webhook(place: Place) -> Iterator[LeanMQWebhook]:
    with LeanMQWebhook(**place.options) as opened:
        yield opened


def collect(webhook: LeanMQWebhook, *paths: str) -> list[tuple[str, dict[str, Any]]]:
    """Handle these paths; what comes is listed with the path it came by."""
    found: list[tuple[str, dict[str, Any]]] = []

    def register(path: str) -> None:
        @webhook.get(path)
        def handle(data: dict[str, Any]) -> None:
            found.append((path, data))

    for path in paths:
        register(path)
    return found


def count_connections(place: Place) -> int:
    """Those of this process."""
    mine = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == place.port for one in mine)


def test_a_handler_gets_what_was_sent_to_its_path_and_where_and_when(webhook: LeanMQWebhook):
    found = collect(webhook, "/order/status/")
    webhook.send("order/status", {"id": 1})
    assert webhook.process_messages() == 1
    [(_, data)] = found
    assert data["id"] == 1
    assert data["_leanmq"]["webhook"]["path"] == "/order/status"
    assert abs(data["_leanmq"]["webhook"]["timestamp"] - time.time()) < 60
    assert webhook.process_messages() == 0


def test_the_decorator_leaves_the_function_as_it_is(webhook: LeanMQWebhook):
    @webhook.get("/plain")
    def double(data: dict[str, Any]) -> int:
        return int(data["n"]) * 2

    assert double({"n": 2}) == 4


def test_paths_that_look_alike_never_get_each_others_events(webhook: LeanMQWebhook):
    paths = ["/a/b", "/a_b", "/a-b", "/a.b", "/", "/A/b"]
    found = collect(webhook, *paths)
    for path in paths:
        webhook.send(path, {"to": path})
    assert webhook.process_messages(count=50) == len(paths)
    assert {(path, data["to"]) for path, data in found} == {(path, path) for path in paths}


def test_what_was_sent_before_anybody_handled_it_is_handled_later(webhook: LeanMQWebhook, place: Place):
    with LeanMQWebhook(**place.options) as sender:
        sender.send("/early", {"n": 1})
    found = collect(webhook, "/early")
    assert webhook.process_messages() == 1
    assert found[0][1]["n"] == 1


def test_a_handler_that_raises_has_its_event_dead_lettered_at_once(webhook: LeanMQWebhook):
    @webhook.get("/fails")
    def fail(data: dict[str, Any]) -> None:
        raise ValueError("no stock")

    webhook.send("/fails", {"n": 1})
    assert webhook.process_messages() == 0
    dead = webhook.mq.get_dead_letter_queue("fails")
    assert dead is not None
    [letter] = dead.get_messages(count=5)
    assert letter.data["n"] == 1
    assert "Processing error: no stock" in letter.data["_failures"][-1]["reason"]


def test_retries_come_first_where_they_are_asked_for(place: Place):
    with LeanMQWebhook(**place.options, max_retries=2) as webhook:
        runs: list[int] = []

        @webhook.get("/fails")
        def fail(data: dict[str, Any]) -> None:
            runs.append(data["n"])
            raise ValueError("no stock")

        webhook.send("/fails", {"n": 1})
        dead = webhook.mq.get_dead_letter_queue("fails")
        assert dead is not None
        deadline = time.monotonic() + 60
        while not dead.get_messages() and time.monotonic() < deadline:
            webhook.process_messages(block=True, timeout=1)
        assert len(dead.get_messages()) == 1
        assert runs == [1, 1, 1]


def test_one_failing_event_does_not_stop_the_others(webhook: LeanMQWebhook):
    handled: list[int] = []

    @webhook.get("/mixed")
    def handle(data: dict[str, Any]) -> None:
        if data["n"] == 1:
            raise ValueError("no")
        handled.append(data["n"])

    for number in range(3):
        webhook.send("/mixed", {"n": number})
    assert webhook.process_messages() == 2
    assert handled == [0, 2]


def test_start_processing_handles_until_it_is_stopped(webhook: LeanMQWebhook, place: Place):
    found = collect(webhook, "/one", "/two")
    thread = threading.Thread(target=webhook.start_processing)
    thread.start()
    with LeanMQWebhook(**place.options) as sender:
        for path in ("/one", "/two", "/one"):
            sender.send(path, {})
    wait_until(lambda: len(found) == 3, "three events")
    assert webhook.is_processing
    webhook.stop_processing()
    thread.join(20)
    assert not thread.is_alive()
    assert not webhook.is_processing


def test_an_event_for_the_last_of_many_idle_paths_is_handled_at_once(webhook: LeanMQWebhook, place: Place):
    """LeanMQ waited for one path after the other: 3 s with six of them."""
    found = collect(webhook, *(f"/path/{number}" for number in range(6)))
    with webhook.run_service(handle_signals=False, block_for_seconds=60) as service:
        wait_until(
            lambda: webhook._doorbell is not None and webhook._doorbell.is_waiting, "the wait to begin"
        )
        with LeanMQWebhook(**place.options) as sender:
            sender.send("/path/5", {})
        wait_until(lambda: found, "the event")
        began = time.monotonic()
    assert time.monotonic() - began < 20, "stopping does not wait for the end of a long wait"
    assert not service.is_alive()


def test_registering_paths_late_or_again_opens_no_other_doorbell(webhook: LeanMQWebhook, place: Place):
    collect(webhook, "/early")
    webhook.process_messages()
    wait_until(lambda: housekeeper_of(webhook)._due_bell.works, "the bell, which every client has")
    before = count_connections(place)
    for _ in range(5):
        collect(webhook, "/early")
        webhook.process_messages()
    assert count_connections(place) == before > 0

    found = collect(webhook, "/late")
    thread = threading.Thread(target=webhook.process_messages, kwargs={"block": True, "timeout": 60})
    thread.start()
    wait_until(lambda: webhook._doorbell is not None and webhook._doorbell.is_waiting, "the wait")
    with LeanMQWebhook(**place.options) as sender:
        sender.send("/late", {})
    thread.join(20)
    assert [path for path, _ in found] == ["/late"]


@pytest.mark.parametrize("while_waiting", [False, True], ids=["before", "while-waiting"])
def test_a_connection_that_breaks_is_made_up_for_and_the_wait_goes_on(
    webhook: LeanMQWebhook, place: Place, while_waiting: bool
):
    found = collect(webhook, "/one")
    webhook.process_messages()
    handled: list[int] = []
    thread = threading.Thread(target=lambda: handled.append(webhook.process_messages(block=True, timeout=60)))
    if while_waiting:
        thread.start()
        wait_until(lambda: webhook._doorbell is not None and webhook._doorbell.is_waiting, "the wait")
    assert webhook._doorbell is not None
    broken = webhook._doorbell._connection.connection_id
    with redis.Redis(port=place.port) as client:
        client.client_kill_filter(_id=str(broken))
    if not while_waiting:
        thread.start()
    wait_until(lambda: webhook._doorbell._connection.connection_id not in {0, broken}, "another connection")
    wait_until(lambda: webhook._doorbell.is_waiting, "the wait")
    with LeanMQWebhook(**place.options) as sender:
        sender.send("/one", {})
    thread.join(20)
    assert (handled, len(found)) == ([1], 1)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_server_that_stays_away_is_a_classic_error_once_max_retries_are_used_up(
    webhook: LeanMQWebhook, retries: int
):
    class Gone:
        tries, has_begun = 0, False

        def execute(self, operation: object, within: float | None = None) -> None:
            self.tries += 1
            raise BrokerUnavailableError("gone")

        begin = execute

    collect(webhook, "/one")
    webhook.process_messages()
    bell, gone = webhook._doorbell, Gone()
    assert bell is not None
    bell._connection, bell._patience = gone, Patience(most_tries=retries, first_wait_s=0.001)
    with pytest.raises(BrokerUnavailableError):
        bell.wait(1)
    assert gone.tries == 1 + retries
    gone.tries = 0
    with pytest.raises(ClassicConnectionError):
        webhook.process_messages(block=True, timeout=1)
    assert gone.tries == 1 + retries


def test_a_wait_is_not_ended_by_an_event_that_was_handled_before_it_began(webhook: LeanMQWebhook):
    found = collect(webhook, "/one")
    assert webhook.process_messages(block=True, timeout=0.05) == 0, "it leaves its read on the server"
    webhook.send("/one", {"n": 1})
    assert webhook.process_messages() == 1

    sender = threading.Timer(0.3, webhook.send, ("/one", {"n": 2}))
    sender.start()
    handled = webhook.process_messages(block=True, timeout=10)
    sender.join()
    assert handled == 1
    assert [data["n"] for _, data in found] == [1, 2]


def test_a_service_runs_between_start_and_stop_and_both_may_be_repeated(webhook: LeanMQWebhook, place: Place):
    found = collect(webhook, "/one")
    service = webhook.run_service(handle_signals=False)
    assert isinstance(service, WebhookService)
    assert service.is_alive()
    service.start()
    with LeanMQWebhook(**place.options) as sender:
        sender.send("/one", {})
    wait_until(lambda: found, "the event")
    for _ in range(2):
        service.stop()
        assert not service.is_alive()


def test_a_service_may_be_started_outside_the_main_thread(webhook: LeanMQWebhook):
    services: list[WebhookService] = []
    thread = threading.Thread(target=lambda: services.append(webhook.run_service()))
    thread.start()
    thread.join(20)
    assert services[0].is_alive()
    services[0].stop()


TWO_SERVICES = """
    import signal, sys, time
    from leanmq_topology import LeanMQWebhook

    port, prefix = int(sys.argv[1]), sys.argv[2]
    webhooks = [LeanMQWebhook("127.0.0.1", port, prefix=f"{prefix}{name}:") for name in "ab"]
    for webhook in webhooks:
        webhook.get("/event")(lambda data: print("handled", data["n"], flush=True))
    services = [webhook.run_service() for webhook in webhooks]
    print("ready", flush=True)
    while any(service.is_alive() for service in services):
        time.sleep(0.01)
    print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_services_of_a_process_stop_on_one_signal(place: Place, number: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TWO_SERVICES), str(place.port), place.prefix],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        with LeanMQWebhook(**place.options | {"prefix": f"{place.prefix}b:"}) as sender:
            sender.send("/event", {"n": 7})
        assert process.stdout.readline() == "handled 7\n"
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert output == "stopped\n"
    assert process.returncode == 0


def test_six_idle_paths_cost_nothing_measurable(valkey_place: Place):
    """Next to nothing of a processor, where LeanMQ's own loop took all of one. One read of ten seconds waits
    for all paths, and upkeep looks every five whether anybody left something behind: what comes is told."""
    with LeanMQWebhook(**valkey_place.options) as webhook, redis.Redis(port=valkey_place.port) as client:
        collect(webhook, *(f"/path/{number}" for number in range(6)))
        with webhook.run_service(handle_signals=False):
            wait_until(lambda: webhook._doorbell is not None and webhook._doorbell.is_waiting, "the wait")
            wait_until(lambda: housekeeper_of(webhook)._due_bell.works, "the bell")
            before, began, used = count_calls(client), time.monotonic(), time.process_time()
            time.sleep(5)  # what an idle service uses is what is measured
            used, took = time.process_time() - used, time.monotonic() - began
            calls = count_calls(client) - before
            connections = count_connections(valkey_place) - 1  # this test's own
    print(f"{used / took:.2%} of a processor, {calls.total() / took:.1f} commands a second")
    assert used / took < 0.03
    assert connections == 5, "calls, reads, the wait, upkeep, the bell"
    assert calls["xreadgroup"] <= 6, "each queue is looked into once at most"
    assert calls["xread"] <= 1 + took / 5
    assert calls["evalsha"] <= 7 + took, "two times around at most, and taking turns"
    assert calls.total() < 50 + 15 * took


def housekeeper_of(webhook: LeanMQWebhook) -> Housekeeper:
    keeper = webhook.mq._line.client._consumer._housekeeper
    assert keeper is not None
    return keeper


def test_events_that_came_while_a_queue_was_paused_are_handled_when_it_is_not(
    webhook: LeanMQWebhook, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leanmq_topology.classic.webhook.LONGEST_QUIET_SECONDS", 1e6)
    found = collect(webhook, "/held")
    line = webhook.mq._line
    line.execute(line.broker.pause(["held"]))
    webhook.send("/held", {"n": 1})
    with webhook.run_service(handle_signals=False, block_for_seconds=0.1):
        wait_until(lambda: "held" in line.client._consumer._desks, "the first look")
        line.execute(line.broker.resume(["held"]))
        wait_until(lambda: found, "the event")
    assert [data["n"] for _, data in found] == [1]


def test_an_event_that_nobody_waits_for_any_more_is_taken_by_who_waits_for_others(place: Place):
    """It was handed back, so no new entry announces it."""
    with LeanMQWebhook(**place.options) as other, LeanMQWebhook(**place.options) as webhook:
        found = collect(webhook, "/event")
        other.send("/event", {"n": 1})
        [delivery] = other.mq.take(other._queue("/event"), 1)
        with webhook.run_service(handle_signals=False, block_for_seconds=0.1):
            wait_until(lambda: webhook._looked is not None, "a look that found nothing")
            delivery.release()
            wait_until(lambda: found, "the event")
    assert [data["n"] for _, data in found] == [1]


def count_calls(client: redis.Redis) -> Counter[str]:
    """Commands that the server has carried out, those inside scripts too."""
    stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()})
