"""Who a container's process is: the forms of USER, groups and home, from the image's own files."""

from __future__ import annotations

import pytest

from pyrun.errors import PyrunError
from pyrun.security.users import Account, resolve_account

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
www:x:33:33:www:/var/www:/bin/sh
homeless:x:50:51:::/bin/sh
1234:x:77:77:a name of digits:/digits:/bin/sh
broken line
short:x:60
words:x:sixty:60:::/bin/sh
"""
GROUP = """\
root:x:0:
www:x:33:www
extra:x:44:other,www
more:x:45:www,root
again:x:44:www
digits:x:99:1234
broken
"""


@pytest.mark.parametrize(
    ("user", "group", "expected"),
    [
        ("", None, Account(0, 0, (45,), "/root")),
        ("root", None, Account(0, 0, (45,), "/root")),
        ("0", None, Account(0, 0, (45,), "/root")),
        ("www", None, Account(33, 33, (44, 45), "/var/www")),
        ("33", None, Account(33, 33, (44, 45), "/var/www")),
        ("www:extra", None, Account(33, 44, (), "/var/www")),
        ("www:1000", None, Account(33, 1000, (), "/var/www")),
        ("33:0", None, Account(33, 0, (), "/var/www")),
        ("4242", None, Account(4242, 0, (), "/")),
        ("4242:extra", None, Account(4242, 44, (), "/")),
        ("homeless", None, Account(50, 51, (), "/")),
        ("www", 1000, Account(33, 1000, (), "/var/www")),
        ("www:extra", 1000, Account(33, 1000, (), "/var/www")),
        ("", 1000, Account(0, 1000, (), "/root")),
        ("4242", 7, Account(4242, 7, (), "/")),
        (":extra", None, Account(0, 44, (), "/root")),
    ],
)
def test_account(user: str, group: int | None, expected: Account) -> None:
    assert resolve_account(user, group, PASSWD, GROUP) == expected


@pytest.mark.parametrize("user", ["0", "1000", ""])
def test_an_image_without_accounts(user: str) -> None:
    assert resolve_account(user, None, "", "") == Account(int(user or 0), 0, (), "/")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", 'user "nobody" is not in /etc/passwd of the image'),
        ("words", 'user "words" is not in /etc/passwd of the image'),
        ("short", 'user "short" is not in /etc/passwd of the image'),
        ("-1", 'user "-1" is not in /etc/passwd of the image'),
        ("www:nobody", 'group "nobody" is not in /etc/group of the image'),
    ],
)
def test_unknown_names(user: str, message: str) -> None:
    with pytest.raises(PyrunError) as caught:
        resolve_account(user, None, PASSWD, GROUP)
    assert str(caught.value) == message
    assert caught.value.hint
