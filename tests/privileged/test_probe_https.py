"""httpGet checks over TLS, of a server whose certificate nobody should trust."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from pyrun.runtime.probing.check import Outcome, ProbeTarget, Verdict
from pyrun.spec.probe import HttpGetAction
from tests.e2e.conftest import Cli
from tests.e2e.observe import box, manifest
from tests.privileged.probing_kit import Handler, answer, check, hold, serving, target_in

pytestmark = [pytest.mark.requires("pods", "busybox", "nftables"), pytest.mark.usefixtures("unharmed")]

CERTIFICATE = Path(__file__).parent / "weak.pem"
"""A key of 1024 bits, its certificate signed by itself, of another name and for one day of the past."""


@pytest.fixture(scope="module")
def pod(module_cli: Cli) -> tuple[Cli, ProbeTarget]:
    """A Pod whose one container sleeps; what it serves, the tests serve in its network namespace."""
    uid = module_cli.create(manifest(module_cli, box("exec sleep 100000")))
    return module_cli, target_in(module_cli, uid)


def over_tls(handler: Handler, version: ssl.TLSVersion) -> Handler:
    """Return a handler that speaks TLS of one version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(CERTIFICATE)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            handler(secured)

    return handle


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("head", "verdict"), [("200 OK", Verdict.SUCCESS), ("503 Service Unavailable", Verdict.FAILURE)]
)
def test_certificates_are_not_checked(
    pod: tuple[Cli, ProbeTarget], version: ssl.TLSVersion, head: str, verdict: Verdict
) -> None:
    cli, target = pod
    data = f"HTTP/1.1 {head}\r\nContent-Length: 5\r\n\r\nhello".encode()
    with serving(target, over_tls(answer(data), version)) as port:
        outcome = check(cli, target, HttpGetAction(port=port, scheme="HTTPS"))
    assert outcome.verdict is verdict, outcome
    assert outcome.message in ("hello", "HTTP probe failed with statuscode: 503")


def test_a_body_that_ends_with_the_connection(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    handler = over_tls(answer(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 9000), ssl.TLSVersion.TLSv1_3)
    with serving(target, handler) as port:
        outcome = check(cli, target, HttpGetAction(port=port, scheme="HTTPS"))
    assert outcome == Outcome(Verdict.SUCCESS, "x" * 9000)


OTHERS: dict[str, tuple[Handler, str]] = {
    "plain HTTP": (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "TLS: wrong version number"),
    "nothing": (answer(b""), "TLS: closed by the server"),
    "garbage": (answer(b"\x16\x03\x03\xff\xff" + b"x" * 70000), "TLS: "),
    "silence": (hold, "no answer after"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_servers_of_something_else(pod: tuple[Cli, ProbeTarget], name: str) -> None:
    cli, target = pod
    handler, message = OTHERS[name]
    with serving(target, handler) as port:
        action = HttpGetAction(port=port, scheme="HTTPS", path="/healthz")
        outcome = check(cli, target, action, seconds=1 if name == "silence" else 20)
    assert outcome.verdict is Verdict.FAILURE
    assert outcome.message.startswith(f'Get "https://{target.address}:{port}/healthz": ')
    assert message in outcome.message


def test_tls_where_plain_http_is_asked_for(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    with serving(target, over_tls(hold, ssl.TLSVersion.TLSv1_3)) as port:
        outcome = check(cli, target, HttpGetAction(port=port))
    assert outcome.verdict is Verdict.FAILURE
