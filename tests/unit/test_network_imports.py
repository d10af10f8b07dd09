"""What the network room costs to import, and that the rest of pyroute2 still works after the short cut."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_planning_a_network_loads_neither_netlink_nor_nftables() -> None:
    heavy = "('pyroute2', 'pyrun.network._nftables', 'ipaddress', 'hashlib', 'subprocess', 'logging')"
    assert (
        python(
            "import sys, pyrun.network.operations, pyrun.network.etc_files, pyrun.network.loopback\n"
            "from pyrun.spec.network import NetworkConfig\n"
            f"print([name for name in {heavy} if name in sys.modules])"
        )
        == "[]"
    )


def test_the_message_classes_load_without_the_rest_of_pyroute2() -> None:
    loaded = python(
        "import sys, pyrun.network.rtnetlink\n"
        "print(sum(name.startswith('pyroute2') for name in sys.modules),\n"
        "      [name for name in ('pyroute2.iproute', 'asyncio', 'ssl') if name in sys.modules])"
    )
    count, others = loaded.split(" ", 1)
    assert others == "[]"
    assert int(count) < 40


def test_pyroute2_is_whole_for_whoever_asks_for_more() -> None:
    after = (
        "import pyrun.network.rtnetlink\n"
        "from pyroute2 import IPRoute\n"
        "import pyroute2\n"
        "print(IPRoute.__name__, pyroute2.NDB.__name__, pyroute2.netlink.rtnl.RTM_NEWLINK,\n"
        "      hasattr(pyroute2, 'no_such_name'))"
    )
    assert python(after) == "IPRoute NDB 16 False"
    before = "import pyroute2, pyrun.network.rtnetlink as r; print(r.message(16, {}, ()).__class__.__name__)"
    assert python(before) == "ifinfmsg"
