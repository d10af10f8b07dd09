"""grpc checks of real Pods, against small servers that speak HTTP/2 by h2 or something else."""

from __future__ import annotations

import socket
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import pytest

from pyrun.runtime.probing.check import Outcome, ProbeTarget, Verdict
from pyrun.runtime.probing.grpc import encode_request
from pyrun.spec.probe import GrpcAction
from tests.e2e.conftest import Cli
from tests.e2e.observe import box, manifest
from tests.privileged.probing_kit import Handler, answer, check, hold, serving, target_in

pytestmark = [pytest.mark.requires("pods", "busybox", "nftables"), pytest.mark.usefixtures("unharmed")]

Connection = h2.connection.H2Connection
Reply = Callable[[Connection, list[tuple[str, str]], bytes], None]
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
SERVING, NOT_SERVING, SERVICE_UNKNOWN, NEW = (bytes([0, 0, 0, 0, 2, 8, n]) for n in (1, 2, 3, 9))
UNKNOWN = bytes(5)


@pytest.fixture(scope="module")
def pod(module_cli: Cli) -> tuple[Cli, ProbeTarget]:
    """A Pod whose one container sleeps; what it serves, the tests serve in its network namespace."""
    uid = module_cli.create(manifest(module_cli, box("exec sleep 100000")))
    return module_cli, target_in(module_cli, uid)


def grpc_server(reply: Reply) -> Handler:
    """Return a handler of one call: when the request has ended, `reply` answers it on stream 1."""

    def handle(sock: socket.socket) -> None:
        connection = Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        headers: list[tuple[str, str]] = []
        body = b""
        sock.sendall(connection.data_to_send())
        while data := sock.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = event.headers  # type: ignore[assignment]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    reply(connection, headers, body)
            sock.sendall(connection.data_to_send())

    return handle


def replying(message: bytes, *trailers: tuple[str, str]) -> Reply:
    """Return a reply of headers, one DATA frame and trailers."""

    def reply(connection: Connection, headers: list[tuple[str, str]], body: bytes) -> None:
        connection.send_headers(1, HEAD)
        connection.send_data(1, message)
        connection.send_headers(1, trailers or [("grpc-status", "0")], end_stream=True)

    return reply


def failing(*headers: tuple[str, str]) -> Reply:
    """Return a reply of headers only."""
    return lambda connection, _, __: connection.send_headers(1, headers, end_stream=True)


def health(connection: Connection, headers: list[tuple[str, str]], body: bytes) -> None:
    """Answer as a health server that knows the service `good`; anything wrong in the request is a reset."""
    wanted = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    given = dict(headers)
    if any(given.get(name) != value for name, value in wanted.items()):
        connection.reset_stream(1, 1)
    elif not given["user-agent"].startswith("kube-probe/"):
        connection.reset_stream(1, 2)
    elif body not in (encode_request(""), encode_request("good")):
        failing(*HEAD, ("grpc-status", "5"), ("grpc-message", "unknown service"))(connection, headers, body)
    else:
        replying(SERVING)(connection, headers, body)


def pieces(connection: Connection, headers: list[tuple[str, str]], body: bytes) -> None:
    """Answer in single bytes, after a PING."""
    connection.ping(b"12345678")
    connection.send_headers(1, HEAD)
    for byte in SERVING:
        connection.send_data(1, bytes([byte]))
    connection.send_headers(1, [("grpc-status", "0")], end_stream=True)


def long(connection: Connection, headers: list[tuple[str, str]], body: bytes) -> None:
    connection.send_headers(1, HEAD)
    for _ in range(3):
        connection.send_data(1, b"x" * 8000)


def endless(connection: socket.socket) -> None:
    """Send SETTINGS for ever."""
    while True:
        connection.sendall(b"\0\0\0\x04\0\0\0\0\0" * 1000)


def leaving(connection: Connection, headers: list[tuple[str, str]], body: bytes) -> None:
    connection.close_connection(error_code=11)


FAILED = "error: health rpc probe failed: "
RPC = FAILED + "rpc error: code = "
REPLIES: dict[str, tuple[Reply, Verdict, str]] = {
    "serving": (replying(SERVING), Verdict.SUCCESS, "service healthy"),
    "in pieces": (pieces, Verdict.SUCCESS, "service healthy"),
    "not serving": (
        replying(NOT_SERVING),
        Verdict.FAILURE,
        'service unhealthy (responded with "NOT_SERVING")',
    ),
    "unknown": (replying(UNKNOWN), Verdict.FAILURE, 'service unhealthy (responded with "UNKNOWN")'),
    "service unknown": (replying(SERVICE_UNKNOWN), Verdict.FAILURE, '"SERVICE_UNKNOWN"'),
    "a new status": (replying(NEW), Verdict.FAILURE, '(responded with "9")'),
    "not implemented": (
        failing(*HEAD, ("grpc-status", "12"), ("grpc-message", "unknown service grpc.health%2Ev1.Health")),
        Verdict.FAILURE,
        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
        "unknown service grpc.health.v1.Health",
    ),
    "an error": (
        failing(*HEAD, ("grpc-status", "14"), ("grpc-message", "not%20yet")),
        Verdict.FAILURE,
        RPC + "Unavailable desc = not yet",
    ),
    "serving, but an error": (
        replying(SERVING, ("grpc-status", "13")),
        Verdict.FAILURE,
        RPC + "Internal desc = ",
    ),
    "a strange code": (failing(*HEAD, ("grpc-status", "99")), Verdict.FAILURE, RPC + "99"),
    "plain HTTP/2": (failing((":status", "404")), Verdict.FAILURE, RPC + "Unknown (HTTP status 404)"),
    "no message": (replying(b""), Verdict.FAILURE, FAILED + "the answer is not one whole message"),
    "half a message": (
        replying(SERVING[:-1]),
        Verdict.FAILURE,
        FAILED + "the answer is not one whole message",
    ),
    "compressed": (replying(b"\x01" + SERVING[1:]), Verdict.FAILURE, "is compressed"),
    "too long": (long, Verdict.FAILURE, "the answer is too long"),
    "the end of the connection": (leaving, Verdict.FAILURE, "ended by the server, error 11"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_answers(pod: tuple[Cli, ProbeTarget], name: str) -> None:
    cli, target = pod
    reply, verdict, message = REPLIES[name]
    with serving(target, grpc_server(reply)) as port:
        outcome = check(cli, target, GrpcAction(port=port))
    assert outcome.verdict is verdict, outcome
    assert message in outcome.message


def test_the_request_that_is_sent(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    with serving(target, grpc_server(health)) as port:
        assert check(cli, target, GrpcAction(port=port)).message == "service healthy"
        assert check(cli, target, GrpcAction(port=port, service="good")).message == "service healthy"
        outcome = check(cli, target, GrpcAction(port=port, service="bad"))
    assert outcome == Outcome(Verdict.FAILURE, RPC + "NotFound desc = unknown service")


OTHERS: dict[str, tuple[Handler, str]] = {
    "HTTP/1.1": (answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "the server speaks HTTP/1"),
    "endless frames": (endless, "health rpc"),
    "a frame of 16 MiB": (answer(b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 1_000_000), "health rpc"),
    "garbage": (answer(b"\x00\x00\x04\x04\x00\x00\x00\x00\x00\xff" * 30), "health rpc"),
    "nothing": (lambda connection: None, "health rpc"),
    "silence": (hold, "health rpc: no answer after"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_servers_of_something_else(pod: tuple[Cli, ProbeTarget], name: str) -> None:
    cli, target = pod
    handler, message = OTHERS[name]
    with serving(target, handler) as port:
        outcome = check(cli, target, GrpcAction(port=port), seconds=1 if name == "silence" else 20)
    assert outcome.verdict is Verdict.FAILURE
    assert message in outcome.message


def test_nobody_listens(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    outcome = check(cli, target, GrpcAction(port=9))
    assert outcome.verdict is Verdict.FAILURE
    assert f"dial tcp {target.address}:9: connect: connection refused" in outcome.message
