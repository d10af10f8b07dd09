"""What the Pods of an instance share: made once, gone with the last, whatever interrupts; and clashes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrun.errors import NetworkError
from pyrun.kernel.operation import Operation, Results
from pyrun.network import forwarding, nftables
from pyrun.network.host import ensure, release
from pyrun.network.leases import leases, take_lease
from pyrun.network.rtnetlink import Request, RouteSocket
from pyrun.spec.network import NetworkConfig
from tests.netns import UPLINK, host_namespace, ip, outside_world, pod_process, ruleset, sender_seen
from tests.privileged.network_pods import config_at, connected_pod, files, operations, traces

pytestmark = pytest.mark.requires("namespaces", "nftables")

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace that plays the host, in which the test runs."""
    with host_namespace() as namespace:
        yield namespace


def in_child(body: Callable[[], None]) -> int:
    """Run the body in a forked child and return its exit status: 0, or 1 after an exception."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def apply_all(plan: tuple[Operation, ...], pidfd: int) -> None:
    results = Results()
    results.put_fd("pause.pidfd", os.dup(pidfd))
    for operation in plan:
        operation.apply(results)
    results.close()


def test_nothing_is_left_when_the_last_pod_is_gone(host: int, tmp_path: Path) -> None:
    before = traces()
    config = config_at(tmp_path)
    with connected_pod(config):
        assert FORWARD.read_text() == "1\n"
        assert "unreachable 10.137.0.0/16" in ip("route")
        with connected_pod(config):
            assert len(leases(config)) == 2
        assert "pyrun0" in ip("link")
        assert "masquerade" in ruleset()
    assert traces() == before
    assert files(config) == []


def test_undo_of_what_was_never_applied_and_twice(host: int, tmp_path: Path) -> None:
    before = traces()
    config = config_at(tmp_path)
    plan = operations(config, str(uuid.uuid4()))
    for operation in reversed(plan):
        operation.undo()
    with pod_process() as pidfd:
        apply_all(plan, pidfd)
        for _ in range(2):
            for operation in reversed(plan):
                operation.undo()
    assert traces() == before
    assert files(config) == []


@pytest.mark.parametrize("applied", [1, 2, 3])
def test_undo_when_the_rest_was_never_applied(host: int, tmp_path: Path, applied: int) -> None:
    before = traces()
    config = config_at(tmp_path)
    plan = operations(config, str(uuid.uuid4()))
    with pod_process() as pidfd:
        apply_all(plan[:applied], pidfd)
        for operation in reversed(plan):
            operation.undo()
    assert traces() == before
    assert files(config) == []


def die_at_call(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let this process die just before its `number`-th request to the kernel's network."""
    left = [number]
    batch, run, write = RouteSocket.batch, nftables.run, forwarding._write

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(77)

    def counted_batch(self: RouteSocket, *requests: Request) -> None:
        for request in requests:  # one by one, to die between them as well
            count()
            batch(self, request)

    def counted_run(commands: str) -> str:
        count()
        return run(commands)

    def counted_write(value: str) -> None:
        count()
        write(value)

    monkeypatch.setattr(RouteSocket, "batch", counted_batch)
    monkeypatch.setattr(forwarding, "_write", counted_write)
    monkeypatch.setattr(nftables, "run", counted_run)


def test_whatever_request_is_the_last_before_a_kill_undo_leaves_nothing(host: int, tmp_path: Path) -> None:
    before = traces()
    config = config_at(tmp_path)
    kills = 0
    with pod_process() as pidfd:
        for number in range(1, 60):
            plan = operations(config, str(uuid.uuid4()))

            def make(number: int = number, plan: tuple[Operation, ...] = plan) -> None:
                die_at_call(pytest.MonkeyPatch(), number)
                apply_all(plan, pidfd)

            status = in_child(make)
            assert status in (0, 77)
            for operation in reversed(plan):
                operation.undo()
            assert traces() == before, f"killed before request {number}"
            assert files(config) == []
            if status == 0:
                break
            kills += 1
    assert kills > 15


def test_a_killed_undo_is_finished_by_the_next(host: int, tmp_path: Path) -> None:
    before = traces()
    config = config_at(tmp_path)
    kills = 0
    with pod_process() as pidfd:
        for number in range(1, 30):
            plan = operations(config, str(uuid.uuid4()))
            apply_all(plan, pidfd)

            def unmake(number: int = number, plan: tuple[Operation, ...] = plan) -> None:
                die_at_call(pytest.MonkeyPatch(), number)
                for operation in reversed(plan):
                    operation.undo()

            status = in_child(unmake)
            assert status in (0, 77)
            for operation in reversed(plan):
                operation.undo()
            assert traces() == before, f"killed before request {number}"
            assert files(config) == []
            if status == 0:
                break
            kills += 1
    assert kills > 5


def test_a_half_made_network_is_completed_by_the_next_pod(host: int, tmp_path: Path) -> None:
    config = config_at(tmp_path)
    kills = 0
    for number in range(1, 40):

        def make(number: int = number) -> None:
            die_at_call(pytest.MonkeyPatch(), number)
            ensure(config)

        status = in_child(make)
        with connected_pod(config) as one, connected_pod(config) as two:
            assert sender_seen(one.pidfd, two.pidfd, two.address) == one.address
            assert FORWARD.read_text() == "1\n"
        if status == 0:
            break
        kills += 1
    assert kills > 8


def test_two_pods_that_leave_at_once_leave_nothing(host: int, tmp_path: Path) -> None:
    before = traces()
    config = config_at(tmp_path)
    for _ in range(5):
        uids = [str(uuid.uuid4()) for _ in range(4)]
        for uid in uids:
            take_lease(config, uid)
            ensure(config)
        children = []
        for uid in uids:
            pid = os.fork()
            if pid == 0:
                try:
                    release(config, uid)
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        assert traces() == before
        assert files(config) == []


def test_twenty_pods_at_once(host: int, tmp_path: Path) -> None:
    before = traces()
    config = config_at(tmp_path)
    plans = [operations(config, str(uuid.uuid4())) for _ in range(20)]
    children = []
    for plan in plans:
        pid = os.fork()
        if pid == 0:
            try:
                with pod_process() as pidfd:
                    apply_all(plan, pidfd)
                    assert f"master {config.bridge}" in ip(f"link show {config.link_of(plan[0].pod_uid)}")  # type: ignore[attr-defined]
                    for operation in reversed(plan):
                        operation.undo()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 20
    assert traces() == before
    assert files(config) == []


def test_two_instances_side_by_side(host: int, tmp_path: Path) -> None:
    before = traces()
    first, second = config_at(tmp_path), config_at(tmp_path, "other", subnet="10.200.0.0/24")
    with outside_world() as world, connected_pod(second) as theirs:
        with connected_pod(first) as ours:
            assert ours.address.startswith("10.137.")
            assert theirs.address.startswith("10.200.0.")
        # The first instance is gone; the second, which found forwarding on, keeps it.
        assert first.bridge not in ip("link")
        assert sender_seen(theirs.pidfd, world, "198.51.100.2") == "198.51.100.1"
    assert traces() == before


def test_the_instance_that_turned_forwarding_on_may_leave_first(host: int, tmp_path: Path) -> None:
    first, second = config_at(tmp_path), config_at(tmp_path, "other", subnet="10.200.0.0/24")
    uid = str(uuid.uuid4())
    with connected_pod(first):
        take_lease(second, uid)
        ensure(second)
    assert FORWARD.read_text() == "1\n"
    release(second, uid)
    assert FORWARD.read_text() == "0\n"
    assert ruleset() == ""


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 6])
def test_an_instance_that_joins_while_another_leaves_keeps_forwarding(
    host: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    first, second = config_at(tmp_path), config_at(tmp_path, "other", subnet="10.200.0.0/24")
    uids = [str(uuid.uuid4()), str(uuid.uuid4())]
    take_lease(first, uids[0])
    ensure(first)
    left = [moment]
    run, write = nftables.run, forwarding._write

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            take_lease(second, uids[1])
            ensure(second)

    def run_after_step(commands: str) -> str:
        step()
        return run(commands)

    def write_after_step(value: str) -> None:
        step()
        write(value)

    monkeypatch.setattr(nftables, "run", run_after_step)
    monkeypatch.setattr(forwarding, "_write", write_after_step)
    release(first, uids[0])
    monkeypatch.undo()
    if left[0] <= 0:
        assert FORWARD.read_text() == "1\n"
    else:
        assert moment == 6, "the newcomer joins at every moment but the one after the last"
    release(second, uids[1])
    assert FORWARD.read_text() == "0\n"
    assert ruleset() == ""


def test_forwarding_that_was_on_stays_on(host: int, tmp_path: Path) -> None:
    FORWARD.write_text("1")
    with connected_pod(config_at(tmp_path)):
        pass
    assert FORWARD.read_text() == "1\n"


def test_forwarding_stays_on_for_somebody_elses_bridge(host: int, tmp_path: Path) -> None:
    with connected_pod(config_at(tmp_path)):
        ip("link add docker0 type bridge")
    assert FORWARD.read_text() == "1\n"
    assert ruleset() == ""


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("addr add 10.137.7.1/24 dev {link}", "the address 10.137.7.1/24 of " + UPLINK),
        ("route add 10.0.0.0/8 dev {link}", "the route 10.0.0.0/8 dev " + UPLINK),
        ("route add 10.137.3.0/24 dev {link} table 77", "the route 10.137.3.0/24 dev " + UPLINK),
    ],
)
def test_a_clash_is_refused_and_says_what_to_do(host: int, tmp_path: Path, setup: str, said: str) -> None:
    with outside_world():
        ip(setup.format(link=UPLINK))
        before = traces()
        config = config_at(tmp_path)
        uid = str(uuid.uuid4())
        take_lease(config, uid)
        with pytest.raises(NetworkError) as caught:
            ensure(config)
        assert str(caught.value) == f"the Pod subnet 10.137.0.0/16 clashes with {said} of this host"
        assert "--subnet or PYRUN_SUBNET" in (caught.value.hint or "")
        release(config, uid)
        assert traces() == before
        with connected_pod(config_at(tmp_path, subnet="172.31.99.0/24")):
            pass


def test_two_instances_cannot_have_one_subnet(host: int, tmp_path: Path) -> None:
    with connected_pod(config_at(tmp_path)), pytest.raises(NetworkError, match=r"10\.137\.0\.1/16 of pyrun0"):
        ensure(config_at(tmp_path, "other"))


def test_a_bridge_of_that_name_that_is_not_ours_is_neither_used_nor_removed(
    host: int, tmp_path: Path
) -> None:
    ip("link add pyrun0 type bridge")
    config = config_at(tmp_path)
    uid = str(uuid.uuid4())
    take_lease(config, uid)
    with pytest.raises(NetworkError, match="the link pyrun0 exists, but is not the bridge of pyrun"):
        ensure(config)
    release(config, uid)
    assert "pyrun0" in ip("link")


def test_the_subnet_cannot_change_under_running_pods(host: int, tmp_path: Path) -> None:
    with connected_pod(config_at(tmp_path)):
        changed: NetworkConfig = config_at(tmp_path, subnet="10.150.0.0/16")
        with pytest.raises(NetworkError, match=r"not the bridge of pyrun for 10\.150\.0\.0/16"):
            ensure(changed)
