"""Server URLs: what is read, what is refused, and that no password is ever shown."""

from __future__ import annotations

import ssl

import pytest

from leanmq_topology.brokers.redis.address import Address, parse_address
from leanmq_topology.errors import SettingError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost:6379", Address()),
        ("redis://", Address()),
        ("valkey://cache", Address(host="cache")),
        ("REDIS://cache:7000/3", Address(host="cache", port=7000, database=3)),
        ("redis://cache?db=4", Address(host="cache", database=4)),
        ("rediss://cache", Address(host="cache", tls=True)),
        ("valkeys://cache", Address(host="cache", tls=True)),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        ("redis://[fe80::1%eth0]", Address(host="fe80::1%eth0")),
        ("redis://:pass@h", Address(host="h", password="pass")),
        ("redis://user:p%40s%2Fs%20w@h", Address(host="h", username="user", password="p@s/s w")),
        ("redis://user@h", Address(host="h", username="user")),
        ("unix:///run/v.sock", Address(path="/run/v.sock")),
        ("unix:///run/a%20b/v.sock?db=2", Address(path="/run/a b/v.sock", database=2)),
        ("unix://user:pass@/run/v.sock", Address(path="/run/v.sock", username="user", password="pass")),
        (
            "redis://h?timeout=2s&connect_timeout=500ms&client_name=me",
            Address(host="h", timeout_ms=2000, connect_timeout_ms=500, client_name="me"),
        ),
        ("redis://h?confirm_timeout=1m", Address(host="h", confirm_timeout_ms=60_000)),
        (
            "rediss://h?ca_file=/etc/ca.pem&tls_verify=false",
            Address(host="h", tls=True, ca_file="/etc/ca.pem", tls_verify=False),
        ),
    ],
)
def test_a_url_is_read(url: str, address: Address):
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("localhost:6379", "no scheme"),
        ("http://localhost", "http:// is not one of a server"),
        ("redis+sentinel://a,b/main", "not supported yet"),
        ("valkeys+cluster://a", "not supported yet"),
        ("redis://a:26379,b:26379/0", "several hosts"),
        ("redis://localhost:99999", "port is not a number from 1 to 65535"),
        ("redis://localhost:0", "port is not"),
        ("redis://localhost:six", "port is not"),
        ("redis://localhost/abc", "database is not a number"),
        ("redis://localhost?db=-1", "database is not a number"),
        ("redis://localhost/1?db=2", "given twice"),
        ("redis://::1", "host is not readable"),
        ("redis://localhost?dbb=1", "no parameter 'dbb'"),
        ("redis://localhost?db=1&db=2", "given twice"),
        ("redis://localhost?ca_file=x", "no parameter 'ca_file'"),
        ("redis://localhost?timeout=5", "timeout"),
        ("redis://localhost?timeout=0s", "longer than 0"),
        ("redis://localhost?confirm_timeout=0s", "confirm_timeout must be longer than 0"),
        ("redis://localhost?confirm_timeout=6m", "confirm_timeout must not be longer than 5m"),
        ("redis://localhost?client_name=a%20b", "client_name"),
        ("rediss://localhost?tls_verify=perhaps", "true or false"),
        ("redis://local host", "space"),
        ("redis://localhost#1", "`#`"),
        ("unix://relative.sock", "not absolute"),
        ("unix://", "missing"),
        (f"unix:///{'x' * 108}", "longer than the 107 bytes"),
    ],
)
def test_a_url_that_cannot_be_used_says_which_part(url: str, reason: str):
    with pytest.raises(SettingError, match=reason) as caught:
        parse_address(url)
    assert caught.value.name == "broker.url"


def test_a_misspelt_parameter_is_given_its_name():
    with pytest.raises(SettingError) as caught:
        parse_address("redis://localhost?clientname=x")
    assert caught.value.hint == "did you mean 'client_name'?"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@localhost",
        f"redis://:{SECRET}?x@localhost",
        f"redis://:{SECRET}#x@localhost",
        f"redis://:{SECRET} x@localhost",
        f"redis://user:{SECRET}@localhost:port",
        f"redis://user:{SECRET}@localhost:1/db",
        f"redis://user:x@{SECRET}:y",
        f"{SECRET}",
        f"user:{SECRET}@localhost",
        f"http://user:{SECRET}@localhost",
        f"redis://user:{SECRET}%ff@localhost",
    ],
)
def test_no_error_shows_a_password(url: str):
    with pytest.raises(SettingError) as caught:
        parse_address(url)
    assert SECRET not in f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert caught.value.__cause__ is None


def test_neither_repr_nor_the_masked_url_shows_a_password():
    address = parse_address(f"rediss://user:{SECRET}@[::1]:7000/2")
    assert SECRET not in repr(address)
    assert address.masked == "rediss://user:***@[::1]:7000/2"
    assert parse_address(f"unix://:{SECRET}@/run/s?db=1").masked == "unix://:***@/run/s?db=1"


def test_tls_checks_certificate_and_host_unless_told_otherwise():
    strict = parse_address("rediss://h").tls_context()
    assert strict.check_hostname
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_2
    assert parse_address("rediss://h?tls_verify=false").tls_context().verify_mode is ssl.CERT_NONE
