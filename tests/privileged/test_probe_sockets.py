"""tcpSocket and httpGet checks of real Pods: answers of every kind, from inside their network namespace."""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import time
from pathlib import Path

import pytest

from pyrun.kernel import syscalls
from pyrun.network.netns import OWN, in_network_namespace
from pyrun.runtime.probing import sockets
from pyrun.runtime.probing.begin import begin_check
from pyrun.runtime.probing.check import Check, Outcome, ProbeTarget, Verdict
from pyrun.spec.probe import HttpGetAction, HttpHeader, ProbeAction, TcpSocketAction
from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import box, manifest
from tests.privileged.probing_kit import answer, check, facts_of, hold, listening, serving, target_in

pytestmark = [pytest.mark.requires("pods", "busybox", "nftables"), pytest.mark.usefixtures("unharmed")]

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
PORTS = [{"containerPort": 8080, "name": "web"}]
UNUSED = 9


@pytest.fixture(scope="module")
def pod(module_cli: Cli) -> tuple[Cli, ProbeTarget]:
    """A Pod whose one container sleeps; what it serves, the tests serve in its network namespace."""
    uid = module_cli.create(manifest(module_cli, box("exec sleep 100000", ports=PORTS)))
    return module_cli, target_in(module_cli, uid)


def test_a_scratch_image_is_probed_over_http(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "scratch"
    (root / "www").mkdir(parents=True)
    (root / "www/index.html").write_text("it serves")
    shutil.copy(cli.rootfs / "bin/busybox", root / "httpd")
    container = {
        "name": "c0",
        "image": "scratch",
        "command": ["/httpd", "-f", "-p", "8080", "-h", "/www"],
        "ports": PORTS,
    }
    text = manifest(cli, container, annotations={"rootfs.pyrun.io/c0": str(root)})
    target = target_in(cli, cli.create(text))
    eventually(lambda: check(cli, target, TcpSocketAction(port="web")).verdict is Verdict.SUCCESS)
    outcome = check(cli, target, HttpGetAction(port="web", path="/index.html"))
    assert outcome == Outcome(Verdict.SUCCESS, "it serves")
    outcome = check(cli, target, HttpGetAction(port=8080, path="/missing"))
    assert outcome == Outcome(Verdict.FAILURE, "HTTP probe failed with statuscode: 404")


def test_a_connection_that_is_closed_at_once_is_success(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    with serving(target, lambda connection: None) as port:
        assert check(cli, target, TcpSocketAction(port=port)) == Outcome(Verdict.SUCCESS, "")


@pytest.mark.parametrize("action", [TcpSocketAction(port=UNUSED), HttpGetAction(port=UNUSED)])
def test_nobody_listens(pod: tuple[Cli, ProbeTarget], action: ProbeAction) -> None:
    cli, target = pod
    outcome = check(cli, target, action)
    assert outcome.verdict is Verdict.FAILURE
    assert outcome.message.endswith(f"dial tcp {target.address}:{UNUSED}: connect: connection refused")


def test_a_port_of_the_host_is_not_taken_for_the_pods(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert check(cli, target, TcpSocketAction(port=port)).verdict is Verdict.FAILURE
        assert check(cli, target, TcpSocketAction(port=port, host="127.0.0.1")).verdict is Verdict.FAILURE


def test_a_pod_on_the_hosts_network_is_asked_at_loopback(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box("exec sleep 100000"), hostNetwork=True))
    target = target_in(cli, uid)
    assert target.address == ""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert check(cli, target, TcpSocketAction(port=port)).verdict is Verdict.SUCCESS
    assert check(cli, target, TcpSocketAction(port=port)).verdict is Verdict.FAILURE


ANSWERS = {
    "length": (HELLO, Verdict.SUCCESS, "hello"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Verdict.SUCCESS,
        "hello",
    ),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\nhello", Verdict.SUCCESS, "hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", Verdict.SUCCESS, ""),
    "a first answer before": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO, Verdict.SUCCESS, "hello"),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 4\r\n\r\nmove",
        Verdict.SUCCESS,
        "Probe terminated redirects, Response body: move",
    ),
    "399": (b"HTTP/1.1 399 So\r\nContent-Length: 0\r\n\r\n", Verdict.SUCCESS, "Probe terminated redirects"),
    "400": (b"HTTP/1.1 400 So\r\nContent-Length: 0\r\n\r\n", Verdict.FAILURE, "statuscode: 400"),
    "500": (b"HTTP/1.1 500 So\r\n\r\n", Verdict.FAILURE, "HTTP probe failed with statuscode: 500"),
    "garbage": (b"\x00\xff\x80 what?\r\n\r\n", Verdict.FAILURE, "illegal status line"),
    "a banner": (b"220 mail.example.com ESMTP\r\n", Verdict.FAILURE, "closed in the middle"),
    "nothing": (b"", Verdict.FAILURE, "closed without an answer"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", Verdict.FAILURE, "closed in the middle"),
    "half a body": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        Verdict.FAILURE,
        "closed in the middle",
    ),
    "too big a head": (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000, Verdict.FAILURE, ""),
    "binary": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        Verdict.SUCCESS,
        "\ufffd\ufffd",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_http_answers(pod: tuple[Cli, ProbeTarget], name: str) -> None:
    cli, target = pod
    data, verdict, message = ANSWERS[name]
    with serving(target, answer(data)) as port:
        outcome = check(cli, target, HttpGetAction(port=port))
    assert outcome.verdict is verdict, outcome
    assert message in outcome.message


def test_a_big_body_is_read_no_further_than_10_kib(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with serving(target, endless) as port:
        outcome = check(cli, target, HttpGetAction(port=port))
    assert outcome == Outcome(Verdict.SUCCESS, "x" * 10240)


def test_the_request_that_is_sent(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod

    def echo(connection: socket.socket) -> None:
        request = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(request), request))

    headers = (HttpHeader(name="X-Custom", value="yes"), HttpHeader(name="host", value="example.com"))
    with serving(target, echo) as port:
        plain = check(cli, target, HttpGetAction(port=port, path="/a b?q=ü#part")).message
        custom = check(cli, target, HttpGetAction(port=port, headers=headers)).message
    assert plain.splitlines()[0] == "GET /a%20b?q=%C3%BC HTTP/1.1"
    assert f"\r\nHost: {target.address}:{port}\r\n" in plain
    assert "\r\nUser-Agent: kube-probe/1.0 pyrun/" in plain
    assert "\r\nAccept: */*\r\n" in plain
    assert "\r\nConnection: close\r\n" in plain
    assert "\r\nhost: example.com\r\n" in custom
    assert "\r\nX-Custom: yes\r\n" in custom
    assert target.address not in custom


UNANSWERABLE = {
    "no such port": (HttpGetAction(port="metrics"), 'has no port named "metrics"'),
    "a host's name": (HttpGetAction(port=80, host="example.com"), "is not an IPv4 address"),
    "a name over tcp": (TcpSocketAction(port=80, host="example.com"), "is not an IPv4 address"),
    "no header": (
        HttpGetAction(port=80, headers=(HttpHeader(name="a b", value="c"),)),
        "Illegal header name",
    ),
}


@pytest.mark.parametrize("name", UNANSWERABLE)
def test_what_cannot_be_asked_says_nothing_about_the_container(
    pod: tuple[Cli, ProbeTarget], name: str
) -> None:
    cli, target = pod
    action, message = UNANSWERABLE[name]
    outcome = check(cli, target, action)
    assert outcome.verdict is Verdict.UNKNOWN
    assert message in outcome.message


def ready(begun: Check) -> bool:
    poller = select.poll()
    poller.register(begun.fileno(), begun.events())
    return bool(poller.poll(0))


def test_a_target_that_hangs_costs_its_own_timeout_only(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    facts = facts_of(cli)
    with serving(target, hold) as silent, serving(target, answer(HELLO)) as good:
        hanging = begin_check(HttpGetAction(port=silent), target, facts)
        assert not isinstance(hanging, Outcome)
        assert check(cli, target, HttpGetAction(port=good)).verdict is Verdict.SUCCESS
        assert hanging.advance() is None  # it is connected now, and has asked
        assert not ready(hanging)
        assert hanging.advance() is None  # never blocks, even when there is nothing to read
        outcome = hanging.expire()
        hanging.close()
        hanging.close()
    assert outcome.verdict is Verdict.FAILURE
    assert outcome.message.startswith(f'Get "http://{target.address}:{silent}/": no answer after ')


def test_a_trickle_ends_at_the_timeout(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    with serving(target, trickle) as port:
        outcome = check(cli, target, HttpGetAction(port=port), seconds=0.3)
    assert outcome.verdict is Verdict.FAILURE
    assert "no answer after" in outcome.message


def test_a_full_backlog_is_a_timeout_of_the_connection(pod: tuple[Cli, ProbeTarget]) -> None:
    cli, target = pod
    with listening(target, backlog=0) as listener:
        port = listener.getsockname()[1]
        # One more than the backlog is taken; the next SYN is dropped.
        assert check(cli, target, TcpSocketAction(port=port)).verdict is Verdict.SUCCESS
        outcome = check(cli, target, TcpSocketAction(port=port), seconds=0.2)
    assert outcome.verdict is Verdict.FAILURE
    assert f"dial tcp {target.address}:{port}: i/o timeout" in outcome.message


def test_a_paused_container_is_not_judged(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box("exec sleep 100000")))
    target = target_in(cli, uid)
    paused = Outcome(Verdict.UNKNOWN, 'container "c0" is paused')
    with serving(target, hold) as port:
        hanging = begin_check(HttpGetAction(port=port), target, facts_of(cli))
        assert not isinstance(hanging, Outcome)
        cli.ok("pod", "pause", uid)
        assert hanging.expire() == paused
        hanging.close()
    assert check(cli, target, TcpSocketAction(port=UNUSED)) == paused
    cli.ok("pod", "unpause", uid)
    assert check(cli, target, TcpSocketAction(port=UNUSED)).verdict is Verdict.FAILURE


def test_a_connection_that_meets_itself_is_none(cli: Cli) -> None:
    target = target_in(cli, cli.create(manifest(cli, box("exec sleep 100000"))))
    pause = target.pause.open()
    assert pause is not None
    with in_network_namespace(pause):
        # Now the kernel can choose but one port for the near end, which is that of the far end too.
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40001 40001")
    os.close(pause)
    outcome = check(cli, target, TcpSocketAction(port=40001))
    assert outcome.verdict is Verdict.FAILURE, outcome
    assert "refused" in outcome.message


def test_a_sandbox_that_is_gone_is_not_judged(cli: Cli) -> None:
    uid = cli.create(manifest(cli, box("exec sleep 100000")))
    target = target_in(cli, uid)
    cli.ok("pod", "rm", "-f", uid)
    outcome = check(cli, target, TcpSocketAction(port=UNUSED))
    assert outcome.verdict is Verdict.UNKNOWN
    assert "gone" in outcome.message


def test_the_namespace_is_left_when_no_socket_can_be_made(
    pod: tuple[Cli, ProbeTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli, target = pod
    facts = facts_of(cli)
    seen = []

    def no_socket(*_: object) -> socket.socket:
        seen.append(os.stat(OWN).st_ino)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(sockets.socket, "socket", no_socket)
    outcome = begin_check(TcpSocketAction(port=UNUSED), target, facts)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "too many open files" in outcome.message
    assert seen != [os.stat(OWN).st_ino]


def test_who_cannot_return_does_not_go_on(
    pod: tuple[Cli, ProbeTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli, target = pod
    home = os.open(OWN, os.O_RDONLY)
    real, calls = syscalls.setns, []

    def setns(fd: int, kind: int) -> None:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.EPERM, "not permitted")
        real(fd, kind)

    monkeypatch.setattr(syscalls, "setns", setns)
    try:
        with pytest.raises(sockets.NamespaceLost):
            begin_check(TcpSocketAction(port=UNUSED), target, facts_of(cli))
    finally:
        real(home, syscalls.CLONE_NEWNET)
        os.close(home)
