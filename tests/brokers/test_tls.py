"""TLS in both colours: against a server that speaks it, and against one behind a front that does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.errors import BrokerRefusedError, BrokerUnavailableError, SettingError
from tests.support.certificates import Authority, Certificate
from tests.support.servers import Server, start_on_tcp
from tests.support.stage import COLOURS, Carrier, open_carrier
from tests.support.tls_front import TlsFront


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca")).make()


@pytest.fixture(scope="module")
def own(authority: Authority) -> Certificate:
    return authority.sign("server", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def front(valkey: Server, own: Certificate) -> Iterator[TlsFront]:
    with TlsFront(valkey.socket_path, own) as running:
        yield running


def echo(carry: Carrier, text: str) -> bytes:
    return carry(Call("echo", "ECHO", (), (text,), bytes))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_whose_authority_is_named_is_spoken_to(
    front: TlsFront, authority: Authority, colour: str, host: str
):
    with open_carrier(colour, f"rediss://{host}:{front.port}?ca_file={authority.path}") as carry:
        assert echo(carry, "x" * 100_000) == b"x" * 100_000


def test_a_server_that_speaks_tls_itself_is_spoken_to(authority: Authority, own: Certificate, colour: str):
    port, server = start_on_tcp(
        "redis70", "--tls-cert-file", str(own.path), "--tls-key-file", str(own.key),
        "--tls-ca-cert-file", str(authority.path), "--tls-auth-clients", "no", option="--tls-port",
    )  # fmt: skip
    try:
        with open_carrier(colour, f"valkeys://localhost:{port}?ca_file={authority.path}") as carry:
            assert echo(carry, "hello") == b"hello"
    finally:
        server.stop()


def test_an_unknown_authority_is_refused_with_the_parameter_that_names_it(front: TlsFront, colour: str):
    with (
        pytest.raises(BrokerRefusedError, match=r"cannot be trusted: .*certificate") as caught,
        open_carrier(colour, f"rediss://localhost:{front.port}"),
    ):
        pass
    assert "?ca_file=" in (caught.value.hint or "")


def test_an_authority_that_did_not_sign_it_is_no_help(front: TlsFront, colour: str, tmp_path: Path):
    other = Authority(tmp_path, "other").make()
    with (
        pytest.raises(BrokerRefusedError, match="cannot be trusted"),
        open_carrier(colour, f"rediss://localhost:{front.port}?ca_file={other.path}"),
    ):
        pass


def test_a_certificate_for_another_host_is_refused_with_what_mends_it(
    front: TlsFront, authority: Authority, colour: str
):
    front.show(authority.sign("elsewhere", "DNS:queue.example.org"))
    for host in ("localhost", "127.0.0.1"):
        with (
            pytest.raises(BrokerRefusedError, match=r"mismatch.*certificate is not valid for") as caught,
            open_carrier(colour, f"rediss://{host}:{front.port}?ca_file={authority.path}"),
        ):
            pass
        assert "host name" in (caught.value.hint or "")


def test_an_expired_certificate_is_refused_and_a_renewed_one_is_taken_up(
    front: TlsFront, authority: Authority, own: Certificate, colour: str
):
    with open_carrier(colour, f"rediss://localhost:{front.port}?ca_file={authority.path}") as carry:
        assert echo(carry, "before") == b"before"
        front.show(authority.sign("expired", "DNS:localhost", days=-1))
        assert echo(carry, "still the old connection") == b"still the old connection"
        front.cut()
        with pytest.raises((BrokerUnavailableError, BrokerRefusedError)):
            echo(carry, "cut")
        with pytest.raises(BrokerRefusedError, match="expired") as caught:
            echo(carry, "now")
        assert "renew" in (caught.value.hint or "")
        front.show(own)
        assert echo(carry, "renewed") == b"renewed"


def test_checking_can_be_switched_off(front: TlsFront, colour: str):
    with open_carrier(colour, f"rediss://localhost:{front.port}?tls_verify=false") as carry:
        assert echo(carry, "hello") == b"hello"


def test_a_server_that_wants_to_know_its_clients_is_shown_a_certificate(
    valkey: Server, authority: Authority, own: Certificate, colour: str
):
    mine = authority.sign("client", "DNS:client")
    with TlsFront(valkey.socket_path, own, client_authority=authority.path) as front:
        url = f"rediss://localhost:{front.port}?ca_file={authority.path}"
        with open_carrier(colour, f"{url}&cert_file={mine.path}&key_file={mine.key}") as carry:
            assert echo(carry, "hello") == b"hello"
        with pytest.raises((BrokerUnavailableError, BrokerRefusedError)), open_carrier(colour, url):
            pass


def test_a_server_that_may_not_speak_tls_is_told_with_that_doubt(colour: str):
    """A plain server takes a TLS greeting for an unfinished command, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rediss://localhost:{silent.getsockname()[1]}?connect_timeout=200ms"
        with (
            pytest.raises(BrokerUnavailableError, match="did not answer in time") as caught,
            open_carrier(colour, url),
        ):
            pass
    assert "redis://" in (caught.value.hint or "")


def test_a_server_that_answers_without_tls_is_told_apart(colour: str):
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            client, _ = plain.accept()
            client.recv(1000)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        answering = threading.Thread(target=answer)
        answering.start()
        with (
            pytest.raises(BrokerRefusedError, match="does not speak TLS"),
            open_carrier(colour, f"rediss://localhost:{plain.getsockname()[1]}"),
        ):
            pass
        answering.join(5)


@pytest.mark.parametrize("parameter", ["ca_file", "cert_file"])
def test_a_file_that_is_not_there_is_named(
    front: TlsFront, authority: Authority, colour: str, parameter: str
):
    more = "" if parameter == "ca_file" else f"&ca_file={authority.path}"
    with (
        pytest.raises(SettingError, match=f"{parameter} '/nowhere.pem' cannot be used: .*No such file"),
        open_carrier(colour, f"rediss://localhost:{front.port}?{parameter}=/nowhere.pem{more}"),
    ):
        pass
