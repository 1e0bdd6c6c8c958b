"""The border: nothing foreign gets past it."""

from __future__ import annotations

import inspect
import ssl
from socket import gaierror

import hiredis
import pytest

from leanmq_topology.brokers.redis.failures import (
    reply_code,
    translate_break,
    translate_reply,
    unwrap_reply,
)
from leanmq_topology.errors import (
    BrokerError,
    BrokerFullError,
    BrokerRefusedError,
    BrokerUnavailableError,
)

GONE = "NOGROUP No such key 'k' or consumer group 'g'"


def test_every_exception_of_hiredis_is_one_that_the_connections_await():
    kinds = {kind for kind in vars(hiredis).values() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert kinds == {hiredis.HiredisError, hiredis.ProtocolError, hiredis.ReplyError}
    assert all(issubclass(kind, hiredis.HiredisError) for kind in kinds)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (OSError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (ConnectionResetError("the server closed it"), "the server closed it"),
        (gaierror(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "it did not answer in time"),
        (ssl.SSLError(1, "[SSL] bad"), "[SSL] bad"),
        (hiredis.ProtocolError("no such type"), "unreadable answer: no such type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ended_a_connection_is_told_without_numbers_and_addresses(failure: Exception, reason: str):
    assert translate_break(failure, where="h").message == f"lost the connection to h: {reason}"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", BrokerFullError),
        (
            "OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:1.",
            BrokerFullError,
        ),
        (
            "ERR Error running script (call to f_e3f): @user_script:1: @user_script: 1: -OOM not allowed",
            BrokerFullError,
        ),
        ("NOAUTH Authentication required.", BrokerRefusedError),
        ("WRONGPASS invalid username-password pair", BrokerRefusedError),
        ("NOPERM this user has no permissions to run the 'xadd' command", BrokerRefusedError),
        ("READONLY You can't write against a read only replica.", BrokerUnavailableError),
        ("DENIED Redis is running in protected mode", BrokerRefusedError),
        ("LOADING Redis is loading the dataset in memory", BrokerUnavailableError),
        ("BUSY Redis is busy running a script.", BrokerUnavailableError),
        ("MISCONF Errors writing to the AOF file", BrokerUnavailableError),
        ("MASTERDOWN Link with MASTER is down", BrokerUnavailableError),
        ("NOREPLICAS Not enough good replicas to write.", BrokerUnavailableError),
        ("WRONGTYPE Operation against a key", BrokerError),
        ("ERR max number of clients reached", BrokerUnavailableError),
        (
            "ERR AUTH <password> called without any password configured for the default user.",
            BrokerRefusedError,
        ),
        ("ERR something new", BrokerError),
        ("", BrokerError),
    ],
)
def test_an_error_reply_becomes_the_error_it_means(text: str, kind: type[BrokerError]):
    assert type(translate_reply(text, where="redis://h")) is kind


@pytest.mark.parametrize(
    "text",
    [
        GONE,
        f"ERR Error running script (call to f_c4): @user_script:1: {GONE}",
        f"Error running script (call to f_c4): @user_script:1: @user_script: 1: -{GONE}",
        f"{GONE} script: c4, on @user_script:1.",
    ],
)
def test_what_a_script_wraps_around_an_error_is_taken_off(text: str):
    assert unwrap_reply(text) == GONE
    assert reply_code(text) == "NOGROUP"


def test_a_lost_connection_says_whether_the_outcome_is_known():
    lost = translate_break(ConnectionResetError("reset"), where="redis://h")
    assert isinstance(lost, BrokerUnavailableError)
    assert isinstance(lost, ConnectionError)
    assert lost.unknown
    assert not translate_reply("LOADING", where="redis://h").unknown  # type: ignore[attr-defined]


def test_a_long_answer_is_cut():
    assert len(str(translate_reply(f"ERR {'x' * 5000}", where="h"))) < 400


def test_a_waiting_read_of_a_deleted_stream_hears_the_same_from_every_server():
    """Redis 7.0 says it in words of its own, which begin like those for a server that became a replica."""
    assert reply_code("UNBLOCKED the stream key no longer exists") == "NOGROUP"
    assert (
        reply_code("UNBLOCKED force unblock from blocking operation, instance state changed") == "UNBLOCKED"
    )
