"""The border: nothing foreign gets past it."""

from __future__ import annotations

import inspect

import pytest
import redis.exceptions

from leanmq_topology.brokers.redis.failures import (
    CLIENT_ERRORS,
    REPLIES,
    client_error_text,
    reply_code,
    translate_client,
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
KINDS = [
    kind
    for _, kind in inspect.getmembers(redis.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == "redis.exceptions"
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_exception_of_redis_py_has_a_meaning(kind: type[Exception]):
    assert kind.__name__ in CLIENT_ERRORS


def test_no_meaning_is_kept_for_an_exception_redis_py_does_not_have():
    assert set(CLIENT_ERRORS) == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_exception_of_redis_py_becomes_one_of_ours(kind: type[Exception]):
    failure = kind.__new__(kind)
    Exception.__init__(failure, "said so")
    translated = translate_client(failure, where="redis://h", unknown=True)
    assert isinstance(translated, BrokerError)
    assert "redis://h" in str(translated)


@pytest.mark.parametrize("meaning", sorted(set(CLIENT_ERRORS.values()) - {"reply", "lost", "misuse"}))
def test_every_meaning_is_one_of_a_reply(meaning: str):
    assert meaning in REPLIES


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


def test_the_first_word_that_redis_py_takes_off_is_put_back():
    assert client_error_text(redis.exceptions.NoScriptError("No matching script")).startswith("NOSCRIPT ")
    assert client_error_text(redis.exceptions.ResponseError("NOGROUP gone")) == "NOGROUP gone"


def test_a_lost_connection_says_whether_the_outcome_is_known():
    lost = translate_client(ConnectionResetError("reset"), where="redis://h", unknown=True)
    assert isinstance(lost, BrokerUnavailableError)
    assert isinstance(lost, ConnectionError)
    assert lost.unknown
    assert not translate_reply("LOADING", where="redis://h").unknown  # type: ignore[attr-defined]


def test_a_long_answer_is_cut():
    assert len(str(translate_reply(f"ERR {'x' * 5000}", where="h"))) < 400
