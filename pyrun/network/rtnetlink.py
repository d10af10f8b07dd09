"""rtnetlink: pyroute2's message classes on a socket of pyrun's own. The only module that knows pyroute2.

Importing the package `pyroute2` costs 150 to 260 ms, because its `__init__` loads every subsystem it has.
Pods need three message classes of it, which load in 35 ms when that `__init__` is not run: the package is
put into `sys.modules` as it is found, unexecuted, and is executed only when somebody asks it for a name it
does not have yet (so `from pyroute2 import IPRoute` still works for slow verbs and checks).

Messages are batched: one send carries all the steps of a Pod, and the acknowledgements are read after it.
The kernel goes on after a message it refuses, so a batch must be harmless when one of its first messages
fails. Sources: netlink(7), rtnetlink(7), linux/rtnetlink.h, linux/netlink.h (extended acknowledgements).
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network
from types import ModuleType, TracebackType
from typing import NamedTuple, Protocol, Self, cast

import msgspec

AF_INET = int(socket.AF_INET)
AF_INET6 = int(socket.AF_INET6)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP = 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
CREATE = NLM_F_CREATE | NLM_F_EXCL

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP_INTR = 0x10
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_IFLA_EXT_MASK_SKIP_STATS = 8
_HEADER = struct.Struct("=IHHII")
_TIMEOUT = 5.0
_DUMP_ATTEMPTS = 10

Attributes = Sequence[tuple[str, object]]


class Message(Protocol):
    """What is used of pyroute2's `nlmsg`: fields by name, attributes, encode and decode."""

    data: bytes

    def __getitem__(self, name: str) -> object: ...
    def __setitem__(self, name: str, value: object) -> None: ...
    def encode(self) -> None: ...
    def decode(self) -> None: ...
    def get_attr(self, name: str) -> object: ...
    def get_nested(self, *names: str) -> object: ...


def _complete_on_demand(package: ModuleType) -> None:
    """Make the unexecuted package run its `__init__` when a name is asked for that it lacks (PEP 562)."""

    def complete(name: str) -> object:
        package.__dict__.pop("__getattr__", None)
        if package.__spec__ is None or package.__spec__.loader is None:
            raise AttributeError(name)
        package.__spec__.loader.exec_module(package)
        return cast(object, getattr(package, name))

    package.__dict__["__getattr__"] = complete


def _load_message_classes() -> dict[int, Callable[..., Message]]:
    planted: ModuleType | None = None
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is not None:
            planted = importlib.util.module_from_spec(spec)
            sys.modules["pyroute2"] = planted
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    if planted is not None:
        _complete_on_demand(planted)
    return {RTM_NEWLINK: ifinfmsg, RTM_NEWADDR: ifaddrmsg, RTM_NEWROUTE: rtmsg}


_CLASSES = _load_message_classes()


class Request(NamedTuple):
    """One message to the kernel. `subject` names its object in an error ("link pyrun0")."""

    kind: int
    flags: int
    message: Message
    subject: str
    tolerate: tuple[int, ...] = ()


class Link(msgspec.Struct, frozen=True):
    """A network interface. `kind` is "bridge", "veth", "" for hardware; `mtu` in bytes.

    `up` is what was asked for, `operational` whether packets pass (operational state UP, RFC 2863).
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    operational: bool


class Route(msgspec.Struct, frozen=True):
    """An IPv4 route of any table; `link` is an interface index, 0 when the route has none."""

    network: IPv4Network
    type: int
    link: int
    priority: int
    table: int
    gateway: str


class Address(msgspec.Struct, frozen=True):
    """An IPv4 address of an interface of the host."""

    interface: IPv4Interface
    link: int


def message(kind: int, fields: dict[str, int], attributes: Attributes) -> Message:
    """Build a message of the family of `kind` (RTM_NEWLINK, RTM_NEWADDR or RTM_NEWROUTE and their kin)."""
    built = _CLASSES[kind & ~3]()
    for name, value in fields.items():
        built[name] = value
    built["attrs"] = list(attributes)
    return built


def _encoded(request: Request, sequence: int, flags: int) -> bytes:
    header = {"type": request.kind, "flags": flags, "sequence_number": sequence, "pid": 0}
    request.message["header"] = header
    request.message.encode()
    return bytes(request.message.data)


class RouteSocket:
    """A NETLINK_ROUTE socket of the network namespace in which it is opened; one user, one process."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._socket.settimeout(_TIMEOUT)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def batch(self, *requests: Request) -> None:
        """Send all requests at once and await each answer; OSError for the first refused and not tolerated.

        The kernel has then still tried the ones behind it.
        """
        first = self._sequence + 1
        flags = NLM_F_REQUEST | NLM_F_ACK
        parts = [_encoded(request, first + n, request.flags | flags) for n, request in enumerate(requests)]
        self._sequence += len(requests)
        self._socket.send(b"".join(parts))
        failures: dict[int, OSError] = {}
        pending = set(range(len(requests)))
        while pending:
            for kind, frame_flags, sequence, frame in self._receive():
                place = sequence - first
                if kind != _NLMSG_ERROR or place not in pending:
                    continue
                pending.discard(place)
                failure = _failure(frame, frame_flags, requests[place].subject)
                if failure is not None and failure.errno not in requests[place].tolerate:
                    failures[place] = failure
        if failures:
            raise failures[min(failures)]

    def link(self, name: str) -> Link | None:
        """Return the interface of this name, or None when there is none."""
        attributes = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _IFLA_EXT_MASK_SKIP_STATS)]
        request = Request(RTM_GETLINK, 0, message(RTM_GETLINK, {}, attributes), f"link {name}")
        self._sequence += 1
        self._socket.send(_encoded(request, self._sequence, NLM_F_REQUEST))
        while True:
            for kind, flags, sequence, frame in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == RTM_NEWLINK:
                    return _link(_decoded(kind, frame))
                failure = _failure(frame, flags, request.subject) if kind == _NLMSG_ERROR else None
                if failure is not None and failure.errno == errno.ENODEV:
                    return None
                if failure is not None:
                    raise failure

    def links(self) -> list[Link]:
        """Return every interface of the namespace."""
        attributes = [("IFLA_EXT_MASK", _IFLA_EXT_MASK_SKIP_STATS)]
        return [_link(found) for found in self._dump(RTM_GETLINK, {}, attributes)]

    def routes(self) -> list[Route]:
        """Return the IPv4 routes of every table, the table `local` with the host's addresses included."""
        return [_route(found) for found in self._dump(RTM_GETROUTE, {"family": AF_INET}, ())]

    def addresses(self) -> list[Address]:
        """Return the IPv4 addresses of every interface."""
        return [_address(found) for found in self._dump(RTM_GETADDR, {"family": AF_INET}, ())]

    def _dump(self, kind: int, fields: dict[str, int], attributes: Attributes) -> list[Message]:
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump_once(kind, fields, attributes)
            if found is not None:
                return found
        raise OSError(errno.EAGAIN, "netlink: the tables changed during every attempt to read them")

    def _dump_once(self, kind: int, fields: dict[str, int], attributes: Attributes) -> list[Message] | None:
        """Return the objects, or None when the kernel says that they changed while it listed them."""
        request = Request(kind, 0, message(kind, fields, attributes), "dump")
        self._sequence += 1
        self._socket.send(_encoded(request, self._sequence, NLM_F_REQUEST | NLM_F_DUMP))
        found: list[Message] = []
        interrupted = False
        while True:
            for answer, flags, sequence, frame in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                if answer == _NLMSG_DONE:
                    return None if interrupted else found
                if answer == _NLMSG_ERROR:
                    failure = _failure(frame, flags, request.subject)
                    if failure is not None:
                        raise failure
                else:
                    found.append(_decoded(answer, frame))

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (type, flags, sequence, whole frame) of the messages of the next datagram."""
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"netlink: no answer from the kernel in {_TIMEOUT:g} s") from None
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset : offset + length]
            offset += (length + 3) & ~3


def _failure(frame: bytes, flags: int, subject: str) -> OSError | None:
    """Return the error of an NLMSG_ERROR frame with the kernel's own explanation, None for success."""
    (status,) = struct.unpack_from("=i", frame, _HEADER.size)
    if status == 0:
        return None
    text = f"netlink: {os.strerror(-status)}"
    offset = _HEADER.size + 4 + _HEADER.size
    while flags & _NLM_F_ACK_TLVS and offset + 4 <= len(frame):
        length, kind = struct.unpack_from("=HH", frame, offset)
        if length < 4:
            break
        if kind == _NLMSGERR_ATTR_MSG:
            text += f" ({frame[offset + 4 : offset + length].rstrip(bytes(1)).decode(errors='replace')})"
        offset += (length + 3) & ~3
    return OSError(-status, text, subject)


def _decoded(kind: int, frame: bytes) -> Message:
    decoded = _CLASSES[kind & ~3](frame)
    decoded.decode()
    return decoded


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _link(found: Message) -> Link:
    return Link(
        index=_number(found["index"]),
        name=str(found.get_attr("IFLA_IFNAME")),
        kind=str(found.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""),
        mac=str(found.get_attr("IFLA_ADDRESS") or ""),
        mtu=_number(found.get_attr("IFLA_MTU")),
        up=bool(_number(found["flags"]) & 1),
        operational=found.get_attr("IFLA_OPERSTATE") == "UP",
    )


def _route(found: Message) -> Route:
    destination = str(found.get_attr("RTA_DST") or "0.0.0.0")
    return Route(
        network=IPv4Network(f"{destination}/{_number(found['dst_len'])}"),
        type=_number(found["type"]),
        link=_number(found.get_attr("RTA_OIF")),
        priority=_number(found.get_attr("RTA_PRIORITY")),
        table=_number(found.get_attr("RTA_TABLE")) or _number(found["table"]),
        gateway=str(found.get_attr("RTA_GATEWAY") or ""),
    )


def _address(found: Message) -> Address:
    own = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
    return Address(IPv4Interface(f"{own}/{_number(found['prefixlen'])}"), _number(found["index"]))
