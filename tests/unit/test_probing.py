"""The parts of a check that need no kernel: headers, encodings, targets, and conversations with anybody."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import InputError
from pyrun.kernel.proc import ProcessIdentity
from pyrun.runtime.pods import PodDirectory
from pyrun.runtime.probing.check import Outcome, ProbeTarget, Verdict, target_of
from pyrun.runtime.probing.grpc import GrpcConversation, decode_status, encode_request
from pyrun.runtime.probing.http import HttpConversation, request_headers, request_path, url_of
from pyrun.runtime.probing.program import command_of
from pyrun.runtime.probing.sockets import Conversation, Endpoint, SocketCheck, endpoint_of
from pyrun.runtime.probing.tls import TlsConversation
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Container, ContainerPort, EnvVar, PullPolicy
from pyrun.spec.probe import ExecAction, GrpcAction, HttpGetAction, HttpHeader
from pyrun.spec.sandbox import SandboxFacts
from pyrun.state.records import SandboxRecord

PAUSE = ProcessIdentity(1, 2, "boot")
ENDPOINT = Endpoint("10.0.0.2", 8080)
LAYOUT = Layout.of("/var/lib/pyrun", "/run/pyrun")


def target(address: str = "10.0.0.2", *, env: tuple[EnvVar, ...] = ()) -> ProbeTarget:
    """Return the third attempt of a container with two ports, one of them named."""
    facts = SandboxFacts(
        uid="u",
        layout=LAYOUT,
        cgroup="/cg/u",
        host_network=False,
        host_pid=False,
        host_ipc=False,
        hostname="h",
    )
    sandbox = SandboxRecord(uid="u", facts=facts, pause=PAUSE, address=address, created_at="")
    ports = (ContainerPort(container_port=80, name="web"), ContainerPort(container_port=81))
    container = Container(name="c", image="i", image_pull_policy=PullPolicy.ALWAYS, ports=ports, env=env)
    return target_of(PodDirectory(LAYOUT, "u"), sandbox, container, 2)


def test_a_target_is_one_attempt() -> None:
    found = target(env=(EnvVar(name="A", value="1"), EnvVar(name="B", field_path="metadata.name")))
    assert (found.container, found.attempt, found.leaf) == ("c", 2, "/cg/u/ctr-c")
    assert (found.address, found.pause) == ("10.0.0.2", PAUSE)
    assert found.literals == (("A", "1"),)


@pytest.mark.parametrize(("given_port", "number"), [(80, 80), ("web", 80), ("8080", 8080)])
def test_ports(given_port: int | str, number: int) -> None:
    assert target().port(given_port) == number


def test_an_unknown_port_names_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        target().port("metrics")
    assert caught.value.sentence() == 'container "c" has no port named "metrics"; its named ports: web'


@pytest.mark.parametrize(
    ("address", "host", "expected"),
    [
        ("10.0.0.2", "", "10.0.0.2:80"),
        ("", "", "127.0.0.1:80"),
        ("10.0.0.2", "localhost", "127.0.0.1:80"),
        ("10.0.0.2", "10.9.9.9", "10.9.9.9:80"),
    ],
)
def test_endpoints(address: str, host: str, expected: str) -> None:
    assert str(endpoint_of(target(address), host, "web")) == expected


@pytest.mark.parametrize("host", ["example.com", "::1", "10.1", "1.2.3.4.5", "10.0.0.2 "])
def test_a_host_must_be_an_address(host: str) -> None:
    with pytest.raises(ValueError, match="not an IPv4 address"):
        endpoint_of(target(), host, 80)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/", "/"),
        ("", "/"),
        ("healthz", "/healthz"),
        ("/a?b=c&d=%20", "/a?b=c&d=%20"),
        ("/a b", "/a%20b"),
        ("/ü", "/%C3%BC"),
        ("/a\r\nX: y", "/a%0D%0AX:%20y"),
        ("/a#part", "/a"),
    ],
)
def test_paths(path: str, sent: str) -> None:
    assert request_path(path) == sent
    assert (
        url_of(HttpGetAction(port=80, path=path, scheme="HTTPS"), ENDPOINT) == f"https://10.0.0.2:8080{sent}"
    )


def headers(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    return request_headers([HttpHeader(name=name, value=value) for name, value in pairs], "a:1")


def test_headers_of_a_request() -> None:
    usual = dict(headers())
    assert list(usual) == ["Host", "User-Agent", "Accept", "Connection"]
    assert usual["User-Agent"].startswith("kube-probe/1.0 pyrun/")
    assert dict(headers(("X-A", "1")))["X-A"] == "1"
    assert headers(("X-A", "1"), ("X-A", "2"))[-2:] == [("X-A", "1"), ("X-A", "2")]


@pytest.mark.parametrize("name", ["host", "HOST", "User-Agent", "user-agent", "Accept"])
def test_a_given_header_takes_the_place_of_the_usual_one(name: str) -> None:
    found = [value for key, value in headers((name, "mine")) if key.lower() == name.lower()]
    assert found == ["mine"]


@pytest.mark.parametrize("name", ["User-Agent", "accept"])
def test_an_empty_one_takes_it_away(name: str) -> None:
    assert name.lower() not in [key.lower() for key, _ in headers((name, ""))]


def test_the_connection_is_always_closed() -> None:
    found = headers(("Connection", "keep-alive"))
    assert [value for key, value in found if key == "Connection"] == ["close"]


def test_a_command_is_expanded_from_literals_as_they_are_written() -> None:
    action = ExecAction(command=("$(A)", "x$(B)y", "$(C)", "$$(A)"))
    assert command_of(action, {"A": "1", "B": "$(A)"}) == ("1", "x$(A)y", "$(C)", "$(A)")


def test_the_protocol_buffers_of_health() -> None:
    assert encode_request("") == bytes(5)
    assert encode_request("ab") == b"\0\0\0\0\x04\x0a\x02ab"
    long = encode_request("x" * 300)
    assert long == b"\0\0\0\x01\x2f\x0a\xac\x02" + b"x" * 300
    assert decode_status(b"\0\0\0\0\x02\x08\x01") == "SERVING"
    # Fields that a later version may add, of every kind, are passed over.
    more = b"\x12\x02ab" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x28\xff\x01" + b"\x08\x02"
    assert decode_status(b"\0\0\0\0" + bytes([len(more)]) + more) == "NOT_SERVING"


@given(st.binary(max_size=60))
def test_whatever_answers_health_is_decoded_or_refused(data: bytes) -> None:
    for message in (data, b"\0" + len(data).to_bytes(4, "big") + data):
        try:
            assert decode_status(message)
        except ValueError as error:
            assert str(error).startswith("the answer")


def http() -> HttpConversation:
    return HttpConversation(HttpGetAction(port=80), ENDPOINT, "Get")


CONVERSATIONS = {
    "http": http,
    "grpc": lambda: GrpcConversation(GrpcAction(port=80, service="s"), ENDPOINT),
    "https": lambda: TlsConversation(http(), "Get"),
}
BEGINNINGS = (
    b"",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88",
    b"\x16\x03\x03\0\x10",
)


class Bytes:
    """A socket that is connected and gives these pieces, then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def connect_ex(self, pair: object) -> int:
        return 0

    def getsockname(self) -> object:
        return None

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@pytest.mark.parametrize("name", CONVERSATIONS)
@given(st.sampled_from(BEGINNINGS), st.lists(st.binary(max_size=40), max_size=5))
def test_nothing_that_is_answered_raises_and_the_end_is_an_outcome(
    name: str, beginning: bytes, pieces: list[bytes]
) -> None:
    conversation: Conversation = CONVERSATIONS[name]()
    check = SocketCheck(Bytes([beginning, *pieces]), target(), ENDPOINT, "Get", conversation)  # type: ignore[arg-type]
    outcomes = [check.advance() for _ in range(len(pieces) + 3)]
    ended = next(outcome for outcome in outcomes if outcome is not None)
    assert isinstance(ended, Outcome)
    assert ended.verdict in (Verdict.SUCCESS, Verdict.FAILURE)
    assert "malformed answer" not in ended.message, "the conversation itself should have understood"


def test_a_parser_that_fails_is_a_failure() -> None:
    class Broken:
        def outgoing(self) -> bytes:
            return b"x"

        def incoming(self, data: bytes) -> Outcome | None:
            raise IndexError("out of range")

    check = SocketCheck(Bytes([b"data"]), target(), ENDPOINT, "Get", Broken())  # type: ignore[arg-type]
    assert check.advance() is None
    assert check.advance() == Outcome(Verdict.FAILURE, "Get: malformed answer: IndexError: out of range")


@given(st.text(max_size=30), st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_request_stays_one_request(path: str, value: str) -> None:
    action = HttpGetAction(port=80, path=path, headers=(HttpHeader(name="X-A", value=value.strip()),))
    server = h11.Connection(h11.SERVER)
    server.receive_data(HttpConversation(action, ENDPOINT, "Get").outgoing())
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.target.startswith(b"/")
    assert dict(request.headers)[b"x-a"].decode() == value.strip()
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert server.trailing_data == (b"", False)
