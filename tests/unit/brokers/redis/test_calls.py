"""Operations as values."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

import pytest

from leanmq_topology.brokers.redis.calls import LARGE_BYTES, Call, as_call, load_script, pack_words

SCRIPTS = sorted(
    item.name.removesuffix(".lua")
    for item in files("leanmq_topology.brokers.redis").joinpath("lua").iterdir()
    if item.name.endswith(".lua")
)


def test_a_script_is_named_by_its_sha_and_its_keys_are_counted():
    script = load_script("ack")
    call = Call("ack", script, ("k1", "k2"), ("g", b"\xff", 7), len)
    assert script.sha == sha1(script.text).hexdigest()
    assert call.words() == ("EVALSHA", script.sha, 2, "k1", "k2", "g", b"\xff", 7)
    assert call.full_words() == ("EVAL", script.text, 2, "k1", "k2", "g", b"\xff", 7)


def test_a_script_is_sent_with_what_it_includes():
    shared = files("leanmq_topology.brokers.redis").joinpath("lua", "shared", "ownership.lua").read_bytes()
    assert shared in load_script("extend").text
    for name in SCRIPTS:
        assert b"\n-- include" not in load_script(name).text
        assert b"\n-- embed" not in load_script(name).text
    assert load_script("send").text in load_script("ack_with_outputs").text


def test_a_bare_command_is_written_as_it_is():
    call = Call("fetch", "XREADGROUP", ("k",), ("x", 1), len)
    assert call.words() == call.full_words() == ("XREADGROUP", "k", "x", 1)


def test_words_are_packed_as_bytes_with_their_length():
    assert pack_words(("é", b"\xff", 12)) == b"*3\r\n$2\r\n\xc3\xa9\r\n$1\r\n\xff\r\n$2\r\n12\r\n"


@pytest.mark.parametrize("size", [LARGE_BYTES, LARGE_BYTES + 1])
def test_a_large_word_is_written_like_any_other(size: int):
    large = b"x" * size
    packed = pack_words(("é", large, 12))
    assert packed == b"*3\r\n$2\r\n\xc3\xa9\r\n$%d\r\n%b\r\n$2\r\n12\r\n" % (size, large)


def test_only_calls_are_carried_out():
    with pytest.raises(TypeError, match="not an operation"):
        as_call("PING")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_is_for_what_it_takes_and_what_it_returns(name: str):
    text = load_script(name).text.decode()
    header = text[: text.index("\n\n")]
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    assert "Returns" in header
    for word in ("KEYS", "ARGV"):
        assert word in header or word not in code, f"{name}.lua says nothing of {word}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_uses_what_redis_6_2_lacks_or_what_a_full_server_refuses(name: str):
    text = load_script(name).text
    assert not text.startswith(b"#!")  # a shebang needs 7.0, and is refused over maxmemory
    for late in (b"XACKDEL", b"EXPIRETIME", b"redis.setresp", b"math.random"):
        assert late not in text
