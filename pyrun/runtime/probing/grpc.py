"""The conversation of a grpc check: one call of grpc.health.v1.Health/Check.

Source: GRPC Core health checking protocol (health.proto), gRPC over HTTP2; messages as the kubelet has them.
The protocol buffers of this call are one field each way, and are read and written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from pyrun.runtime.probing.check import OUTPUT_LIMIT, Outcome, Verdict
from pyrun.runtime.probing.http import USER_AGENT
from pyrun.runtime.probing.sockets import Endpoint
from pyrun.spec.probe import GrpcAction

_METHOD = "/grpc.health.v1.Health/Check"
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
_UNIMPLEMENTED = "Unimplemented"
_PREFIX = 5
_RECEIVED_LIMIT = 256 * 1024
"""Bytes of all frames together; an answer is some hundred bytes."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def encode_request(service: str) -> bytes:
    """Return a HealthCheckRequest as a gRPC message: length prefix, not compressed; the service is field 1."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def decode_status(data: bytes) -> str:
    """Return the name of the serving status in a HealthCheckResponse, a gRPC message. ValueError for others."""
    if len(data) < _PREFIX or int.from_bytes(data[1:_PREFIX], "big") != len(data) - _PREFIX:
        raise ValueError("the answer is not one whole message")
    if data[0]:
        raise ValueError("the answer is compressed, which was not asked for")
    number = 0
    for field, value in _fields(data[_PREFIX:]):
        if field == 1 and isinstance(value, int):
            number = value
    return _STATUSES[number] if number < len(_STATUSES) else str(number)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and the value of each field of a protocol buffer."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"the answer has a field of the unknown kind {kind}")
        if at + size > len(data):
            raise ValueError("the answer ends in the middle of a field")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    raise ValueError("the answer ends in the middle of a number, or has one of more than 64 bits")


class GrpcConversation:
    """The call and its answer; SERVING is success."""

    def __init__(self, action: GrpcAction, endpoint: Endpoint) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()
        self._received = 0
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._connection = h2.connection.H2Connection(config)
        self._connection.initiate_connection()
        headers = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", _METHOD),
            (":authority", str(endpoint)),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
            ("te", "trailers"),
        )
        self._connection.send_headers(1, headers)
        self._connection.send_data(1, encode_request(action.service), end_stream=True)

    def outgoing(self) -> bytes:
        return bytes(self._connection.data_to_send() or b"")

    def incoming(self, data: bytes) -> Outcome | None:
        self._received += len(data)
        if not data:
            how = "in the middle of" if self._received else "without"
            return _failed(f"error: health rpc probe failed: closed {how} an answer")
        if self._received > _RECEIVED_LIMIT:
            return _failed("error: health rpc probe failed: the answer is too long")
        if data.startswith(b"HTTP/1"):  # to HTTP/2 the beginning of a very long frame
            return _failed("error: health rpc probe failed: the server speaks HTTP/1, not HTTP/2")
        try:
            events = self._connection.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            return _failed(f"error: health rpc probe failed: not HTTP/2: {error}")
        for event in events:
            outcome = self._hear(event)
            if outcome is not None:
                return outcome
        return None

    def _hear(self, event: object) -> Outcome | None:
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self._headers.update(_pairs(event.headers or ()))
        elif isinstance(event, h2.events.DataReceived):
            self._data += event.data or b""
            if len(self._data) > OUTPUT_LIMIT:
                return _failed("error: health rpc probe failed: the answer is too long")
        elif isinstance(event, h2.events.StreamReset):
            return _failed(f"error: health rpc probe failed: reset by the server, error {event.error_code}")
        elif isinstance(event, h2.events.ConnectionTerminated) and event.error_code:
            return _failed(f"error: health rpc probe failed: ended by the server, error {event.error_code}")
        elif isinstance(event, h2.events.StreamEnded):
            return self._answered()
        return None

    def _answered(self) -> Outcome:
        code = _code(self._headers)
        if code == _UNIMPLEMENTED:
            return _failed(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
                + _message(self._headers)
            )
        if code != "OK":
            return _failed(
                f"error: health rpc probe failed: rpc error: code = {code} desc = {_message(self._headers)}"
            )
        try:
            status = decode_status(bytes(self._data))
        except ValueError as error:
            return _failed(f"error: health rpc probe failed: {error}")
        if status != "SERVING":
            return _failed(f'service unhealthy (responded with "{status}")')
        return Outcome(Verdict.SUCCESS, "service healthy")


def _pairs(headers: Iterable[tuple[object, object]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        if isinstance(name, bytes) and isinstance(value, bytes):
            yield name, value


def _code(headers: dict[bytes, bytes]) -> str:
    """Return the name of the status code of the call; for an answer that is none of gRPC, what it is."""
    text = headers.get(b"grpc-status")
    if text is None:
        return f"Unknown (HTTP status {headers.get(b':status', b'none').decode('ascii', 'replace')})"
    if text.isdigit() and int(text) < len(_CODES):
        return _CODES[int(text)]
    return text.decode("ascii", "replace")


def _message(headers: dict[bytes, bytes]) -> str:
    return unquote(headers.get(b"grpc-message", b"").decode("ascii", "replace"))


def _failed(message: str) -> Outcome:
    return Outcome(Verdict.FAILURE, message)
