"""Whom the kernel has killed, read from the text of its log: of Linux 6.1, 6.12 and 6.18."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.cgroups.oom import Whom, kills_of, parse_kills, victims
from pyrun.kernel.kmsg import LogRecord, parse_records, raw_records, read_kernel_log
from pyrun.lifecycle.oom import oom_words
from pyrun.spec.oom import OomLimit, OomReport, Victim

POD = "5dd074dc-2e43-4faa-bbbc-40d88163e315"
OTHER = "77d074dc-2e43-4faa-bbbc-40d88163e377"
TOP = f"/pyrun/burstable/{POD}"
C0 = f"{TOP}/ctr-c0"
WHOM = Whom(pod=POD, leaf="ctr-c0", main_pid=812, since_us=1_000_000)


def context(
    limit: str = C0, group: str = C0, task: str = "sh", pid: int = 812, cpuset: str = "ctr-c0", more: str = ""
) -> str:
    return (
        f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={cpuset},mems_allowed=0{more},"
        f"oom_memcg={limit},task_memcg={group},task={task},pid={pid},uid=0"
    )


def everything(group: str = C0, task: str = "sh", pid: int = 812) -> str:
    return (
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        f"task_memcg={group},task={task},pid={pid},uid=0"
    )


def killed(
    task: str = "sh", pid: int = 812, anon: int = 31000, why: str = "Memory cgroup out of memory"
) -> str:
    return (
        f"{why}: Killed process {pid} ({task}) total-vm:82092kB, anon-rss:{anon}kB, file-rss:648kB, "
        "shmem-rss:4kB, UID:0 pgtables:100kB oom_score_adj:968"
    )


def together(group: str = C0) -> str:
    return f"Tasks in {group} are going to be killed due to memory.oom.group set"


def records(*lines: str) -> tuple[LogRecord, ...]:
    return tuple(LogRecord(2_000_000 + number, line) for number, line in enumerate(lines))


def found(*lines: str, whom: Whom = WHOM) -> tuple[Victim, ...]:
    return victims(kills_of(parse_kills(records(*lines)), whom), whom)


NOISE = (
    "memory: usage 20480kB, limit 20480kB, failcnt 104",
    "Memory cgroup stats for /pyrun/burstable/x:",
    "anon 20758528",
    "[  29470]     0 29470    20523     6718     5056     1662         0   102400        0             0 python3",
    "pr5dd074dc: port 1 entered forwarding state",
    "oom_reaper: reaped process 812 (sh), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    "",
)

CASES: dict[str, tuple[tuple[str, ...], list[tuple[str, int, OomLimit]]]] = {
    "one process": ((context(), killed()), [("sh", 812, OomLimit.CONTAINER)]),
    "among other lines": (
        (*NOISE, context(), *NOISE, killed(), *NOISE),
        [("sh", 812, OomLimit.CONTAINER)],
    ),
    "all together, the first victim told twice": (
        (
            context(task="tail", pid=900),
            killed("tail", 900),
            together(),
            killed("tail", 900),
            *NOISE,
            killed("sh", 812, 100),
        ),
        [("tail", 900, OomLimit.CONTAINER), ("sh", 812, OomLimit.CONTAINER)],
    ),
    "at the limit of the Pod, with its container": (
        (context(limit=TOP), killed(), together(), killed()),
        [("sh", 812, OomLimit.POD)],
    ),
    "the whole Pod together: only the main process is known": (
        (
            context(limit=TOP, group=f"{TOP}/ctr-c1", task="tail", pid=900),
            killed("tail", 900),
            together(TOP),
            killed("tail", 900),
            killed("sh", 812),
            killed("sleep", 901),
        ),
        [("sh", 812, OomLimit.POD)],
    ),
    "at a limit above the Pod": (
        (context(limit="/machine.slice/pyrun.scope", group=C0), killed()),
        [("sh", 812, OomLimit.ABOVE)],
    ),
    "the host's memory": (
        (everything(), killed(why="Out of memory")),
        [("sh", 812, OomLimit.HOST)],
    ),
    "the host's memory, the one who asked for more": (
        (everything(), killed(why="Out of memory (oom_kill_allocating_task)")),
        [("sh", 812, OomLimit.HOST)],
    ),
    "the host's memory, and all of the container": (
        (everything(), killed(why="Out of memory"), together(), killed(), killed("dd", 813)),
        [("sh", 812, OomLimit.HOST), ("dd", 813, OomLimit.HOST)],
    ),
    "below a group that only the host sees": (
        (context(limit=f"/docker/abc{C0}", group=f"/docker/abc{C0}/exec-1"), killed()),
        [("sh", 812, OomLimit.CONTAINER)],
    ),
    "several nodes": ((context(more="-1,4"), killed()), [("sh", 812, OomLimit.CONTAINER)]),
    "a name with commas, parentheses and spaces": (
        (context(task="a,pid=1 (b) "), killed("a,pid=1 (b) ")),
        [("a,pid=1 (b) ", 812, OomLimit.CONTAINER)],
    ),
    "a name with a line break": (
        (context(task="a\nb"), killed("a\nb")),
        [("a\nb", 812, OomLimit.CONTAINER)],
    ),
    "another container": ((context(group=f"{TOP}/ctr-c00"), killed()), []),
    "another Pod": ((context(group=f"/pyrun/{OTHER}/ctr-c0"), killed()), []),
    "no line tells the group": ((killed(),), []),
    "another process than the line was about": ((context(pid=5), killed()), []),
    "too many to tell the group of each": (
        (context(), killed(), killed("dd", 813)),
        [("sh", 812, OomLimit.CONTAINER)],
    ),
    "too many to tell the limit of each": (
        (context(), killed(), killed("dd", 813), together(), killed("dd", 813), killed("cp", 814)),
        [("sh", 812, OomLimit.CONTAINER), ("dd", 813, OomLimit.UNKNOWN), ("cp", 814, OomLimit.UNKNOWN)],
    ),
    "words of another subsystem": (("systemd-oomd: Killed process 812 (sh)", "oom-kill: me"), []),
}


@pytest.mark.parametrize("case", CASES)
def test_who_was_killed_and_at_whose_limit(case: str) -> None:
    lines, wanted = CASES[case]
    assert [(one.name, one.pid, one.limit) for one in found(*lines)] == wanted


def test_how_much_it_had() -> None:
    (victim,) = found(context(), killed(anon=31000))
    assert (victim.anonymous, victim.file, victim.shared) == (31000 << 10, 648 << 10, 4 << 10)
    assert victim.memory == 31652 << 10
    assert victim.main and victim.at_us == 2_000_001 and victim.limit_group == C0


def test_what_was_before_this_attempt_is_of_another() -> None:
    assert found(context(), killed(), whom=Whom(pod=POD, leaf="ctr-c0", main_pid=1, since_us=2_000_002)) == ()


def test_text_of_a_real_kernel() -> None:
    """Linux 6.18, as /dev/kmsg gives it."""
    raw = (
        b"6,137866,12929785767,-;[  29470]     0 29470    20523     6718     5056     1662 python3\n",
        b"6,137867,12929785771,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        b"oom_memcg=/oomtry-24985,task_memcg=/oomtry-24985,task=python3,pid=29470,uid=0\n",
        b"3,137868,12929785786,-;Memory cgroup out of memory: Killed process 29470 (python3) total-vm:82092kB, "
        b"anon-rss:20224kB, file-rss:6648kB, shmem-rss:0kB, UID:0 pgtables:100kB oom_score_adj:0\n",
    )
    (kill,) = parse_kills(parse_records(iter(raw)))
    assert (kill.name, kill.pid, kill.group, kill.limit) == (
        "python3",
        29470,
        "/oomtry-24985",
        "/oomtry-24985",
    )
    assert (kill.at_us, kill.anonymous, kill.file, kill.shared) == (12929785786, 20224 << 10, 6648 << 10, 0)


# The log itself


def test_records_of_the_kernel_only_with_their_escapes() -> None:
    raw = (
        b"6,1,100,-;a \\x5c b \\x0a c \\xc3\\xa9\n SUBSYSTEM=pci\n DEVICE=+pci:0000\n",
        b"14,2,101,-;Memory cgroup out of memory: a process may write this\n",
        b"3,3,102,-,caller=T1;b\n",
        b"no record at all\n",
        b"6,x,y,-;nor this\n",
        b"6,4,103,-;Tasks in \n",
        b"6,5,104,c;/a\n",
        b"6,6,105,c; are going\n",
    )
    assert tuple(parse_records(iter(raw))) == (
        LogRecord(100, "a \\ b \n c é"),
        LogRecord(102, "b"),
        LogRecord(103, "Tasks in /a are going"),
    )


def _reading(*answers: bytes | int) -> Callable[[], bytes]:
    left: Iterator[bytes | int] = iter(answers)

    def read() -> bytes:
        answer = next(left)
        if isinstance(answer, int):
            raise OSError(answer, "")
        return answer

    return read


def test_what_was_overwritten_is_passed_over_and_the_end_is_not_waited_for() -> None:
    read = _reading(b"1", errno.EPIPE, b"2", errno.EINVAL, b"3", errno.EAGAIN, b"4")
    assert tuple(raw_records(read)) == (b"1", b"2", b"3")
    assert tuple(raw_records(_reading(b"1", b""))) == (b"1",)
    with pytest.raises(OSError):
        tuple(raw_records(_reading(errno.EPERM)))


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        read_kernel_log(str(tmp_path / "kmsg"))


@given(st.lists(st.binary(max_size=80)))
def test_nothing_that_stands_in_the_log_is_an_error(raw: list[bytes]) -> None:
    tuple(parse_kills(parse_records(iter(raw))))


@given(st.text(max_size=15), st.text(max_size=15))
def test_no_name_makes_a_kill_somebody_else_s(name: str, other: str) -> None:
    got = found(
        context(task=name), killed(name), context(group=f"/pyrun/{OTHER}/ctr-c0", task=other), killed(other)
    )
    assert [(one.name, one.pid) for one in got] == [(name, 812)]


# In words


def victim(name: str = "sh", pid: int = 812, limit: OomLimit = OomLimit.CONTAINER, **fields: bool) -> Victim:
    return Victim(
        name=name,
        pid=pid,
        at_us=1,
        anonymous=30 << 20,
        file=1 << 20,
        shared=0,
        limit=limit,
        limit_group="/a/b",
        **fields,
    )


WORDS: dict[str, tuple[OomReport, str]] = {
    "one": (
        OomReport(kills=2, victims=(victim(main=True),), limit=32 << 20),
        "the kernel killed 1 process for want of memory: sh (pid 812, the main process) with 31Mi "
        "(anonymous 30Mi, files 1Mi); the limit of the container was reached, 32Mi",
    ),
    "two": (
        OomReport(kills=2, victims=(victim(), victim("a\x1b[2Jb", 7)), limit=32 << 20),
        "the kernel killed 2 processes for want of memory: sh (pid 812) with 31Mi (anonymous 30Mi, files 1Mi), "
        "a?[2Jb (pid 7) with 31Mi (anonymous 30Mi, files 1Mi); the limit of the container was reached, 32Mi",
    ),
    "more than the log tells": (
        OomReport(kills=9, victims=(victim(),), limit=32 << 20),
        "the kernel killed 1 process for want of memory: sh (pid 812) with 31Mi (anonymous 30Mi, files 1Mi); "
        "the limit of the container was reached, 32Mi; memory.events counts 9 kills in all",
    ),
    "the Pod's": (
        OomReport(kills=1, victims=(victim(limit=OomLimit.POD),), limit=None, pod_limit=64 << 20),
        "the kernel killed 1 process for want of memory: sh (pid 812) with 31Mi (anonymous 30Mi, files 1Mi); "
        "the limit of the Pod was reached, 64Mi",
    ),
    "one above": (
        OomReport(kills=1, victims=(victim(limit=OomLimit.ABOVE),)),
        "the kernel killed 1 process for want of memory: sh (pid 812) with 31Mi (anonymous 30Mi, files 1Mi); "
        "the limit of the cgroup /a/b was reached, which is above the Pod",
    ),
    "the host's": (
        OomReport(kills=1, victims=(victim(limit=OomLimit.HOST),)),
        "the kernel killed 1 process for want of memory: sh (pid 812) with 31Mi (anonymous 30Mi, files 1Mi); "
        "the memory of the host was used up",
    ),
    "not told whose": (
        OomReport(kills=1, victims=(victim(limit=OomLimit.UNKNOWN),)),
        "the kernel killed 1 process for want of memory: sh (pid 812) with 31Mi (anonymous 30Mi, files 1Mi); "
        "whose limit was reached the log of the kernel does not tell",
    ),
    "not known": (
        OomReport(
            kills=2, unread="/dev/kmsg cannot be read: Permission denied", limit=32 << 20, peak=32 << 20
        ),
        "the kernel killed for want of memory: memory.events counts 2 kills; which processes is not known "
        "(/dev/kmsg cannot be read: Permission denied); limit 32Mi; peak 32Mi",
    ),
    "not told any more": (
        OomReport(kills=1, pod_limit=64 << 20),
        "the kernel killed for want of memory: memory.events counts 1 kill; which processes is not known "
        "(the log of the kernel does not tell); limit of the Pod 64Mi",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_the_words_tell_no_more_than_is_known(case: str) -> None:
    report, words = WORDS[case]
    assert oom_words(report) == words


def test_of_very_many_the_first_are_named() -> None:
    text = oom_words(OomReport(kills=9, victims=tuple(victim(pid=number) for number in range(9))))
    assert text.startswith("the kernel killed 9 processes") and ", 4 more; " in text
