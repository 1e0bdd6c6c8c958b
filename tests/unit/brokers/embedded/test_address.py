from __future__ import annotations

import pytest

from leanmq_topology.brokers.embedded.address import EmbeddedAddress, parse_embedded
from leanmq_topology.brokers.embedded.keeper import DEFAULT_LINGER_MS
from leanmq_topology.errors import SettingError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("embedded:", EmbeddedAddress(False, DEFAULT_LINGER_MS)),
        ("embedded://", EmbeddedAddress(False, DEFAULT_LINGER_MS)),
        ("EMBEDDED:", EmbeddedAddress(False, DEFAULT_LINGER_MS)),
        ("embedded:?ephemeral=1", EmbeddedAddress(True, 0)),
        ("embedded:?ephemeral=true", EmbeddedAddress(True, 0)),
        ("embedded:?ephemeral=0", EmbeddedAddress(False, DEFAULT_LINGER_MS)),
        ("embedded:?linger=200ms", EmbeddedAddress(False, 200)),
        ("embedded:?linger=0s", EmbeddedAddress(False, 0)),
        ("embedded:?linger=1m&ephemeral=0", EmbeddedAddress(False, 60_000)),
    ],
)
def test_url_says_what_kind_of_server_is_wanted(url: str, address: EmbeddedAddress) -> None:
    assert parse_embedded(url) == address


@pytest.mark.parametrize(
    ("url", "reason", "hint"),
    [
        ("embedded", "needs its colon", "write embedded:"),
        ("embedded?ephemeral=1", "needs its colon", "embedded:?ephemeral=1"),
        ("embedded:/data", "no host or path", ".leanmq/"),
        ("embedded://:secret@localhost", "no host or path", ".leanmq/"),
        ("embedded:?ephemral=1", "no parameter 'ephemral'", "did you mean 'ephemeral'?"),
        ("embedded:?port=1", "no parameter 'port'", "ephemeral and linger"),
        ("embedded:?ephemeral=maybe", "true or false", "ephemeral=1"),
        ("embedded:?linger=soon", "linger: ", "linger=5s"),
        ("embedded:?linger=-1s", "linger: ", "linger=5s"),
        ("embedded:?linger=", "linger: ", "linger=5s"),
    ],
)
def test_url_that_cannot_be_used_is_refused_with_what_mends_it(url: str, reason: str, hint: str) -> None:
    with pytest.raises(SettingError, match=reason) as caught:
        parse_embedded(url)
    assert hint in str(caught.value.hint)
    assert "secret" not in f"{caught.value}{caught.value.hint}"
