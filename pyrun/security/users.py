"""Who the container's process is: user, groups and home, read from the root file system it will live in.

Source: OCI image specification, config.md (the forms of USER); Kubernetes SecurityContext. The steps run after
pivot_root, so that /etc/passwd and /etc/group are the container's own.
"""

from __future__ import annotations

import os

import msgspec

from pyrun.errors import PyrunError
from pyrun.kernel.operation import Results, Step


class Account(msgspec.Struct, frozen=True):
    """A user as a process runs as it; supplementary groups without the primary one."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve_account(user: str, group: int | None, passwd: str, group_file: str) -> Account:
    """Find the account that `user` (`name`, `uid`, `name:group`, `uid:gid`) means in the given files.

    `group` overrides the primary group and, like a group in `user`, cancels the supplementary groups of the
    image. A number needs no entry: gid 0 and home `/` are its defaults. PyrunError for an unknown name.
    """
    name, _, group_name = user.partition(":")
    name = name or "0"
    entry = _passwd_entry(name, passwd)
    if entry is None and not name.isdecimal():
        raise PyrunError(
            f'user "{name}" is not in /etc/passwd of the image',
            hint="give a number, or add the user to the image",
        )
    login, uid, gid, home = entry or ("", int(name), 0, "/")
    supplementary: tuple[int, ...] = ()
    if group is not None:
        gid = group
    elif group_name:
        gid = _group_id(group_name, group_file)
    elif login:
        supplementary = _groups_of(login, gid, group_file)
    return Account(uid, gid, supplementary, home or "/")


def _passwd_entry(name: str, passwd: str) -> tuple[str, int, int, str] | None:
    for line in passwd.splitlines():
        fields = line.split(":")
        if (
            len(fields) >= 6
            and fields[2].isdecimal()
            and fields[3].isdecimal()
            and name in (fields[0], fields[2])
        ):
            return fields[0], int(fields[2]), int(fields[3]), fields[5]
    return None


def _group_id(name: str, group_file: str) -> int:
    if name.isdecimal():
        return int(name)
    for line in group_file.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    raise PyrunError(
        f'group "{name}" is not in /etc/group of the image',
        hint="give a number, or add the group to the image",
    )


def _groups_of(login: str, primary: int, group_file: str) -> tuple[int, ...]:
    found = []
    for line in group_file.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdecimal() and login in fields[3].split(","):
            found.append(int(fields[2]))
    return tuple(gid for gid in dict.fromkeys(found) if gid != primary)


def _text_of(path: str) -> str:
    try:
        # Not a device or a fifo that the image put there to hang us.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        return file.read(1 << 20)


class SetUser(Step, frozen=True, tag=True):
    """Become the container's user: groups, gid, uid, in this order, because each needs the rights of root.

    The stdio of the process is handed to that user first, so that it may open /dev/stdout again. The home
    directory goes to the results as `home`.
    """

    user: str
    group: int | None

    def describe(self) -> str:
        group = "" if self.group is None else f", group {self.group}"
        return f'setgroups, setresgid, setresuid of user "{self.user or "0"}"{group} of the image'

    def apply(self, results: Results) -> None:
        account = resolve_account(self.user, self.group, _text_of("/etc/passwd"), _text_of("/etc/group"))
        results.put("home", account.home)
        results.put("uid", account.uid)
        for fd in (0, 1, 2):
            if account.uid != 0 and not _is_null(fd):
                os.fchown(fd, account.uid, -1)
        os.setgroups(list(account.groups))
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)


def _is_null(fd: int) -> bool:
    return os.fstat(fd).st_rdev == os.makedev(1, 3)
