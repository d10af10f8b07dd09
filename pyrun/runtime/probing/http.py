"""The conversation of an httpGet check. Source: RFC 9110, 9112; the kubelet's prober."""

from __future__ import annotations

from collections.abc import Iterable

import h11

from pyrun import __version__
from pyrun.runtime.probing.check import OUTPUT_LIMIT, Outcome, Verdict
from pyrun.runtime.probing.sockets import Endpoint
from pyrun.spec.probe import HttpGetAction, HttpHeader

USER_AGENT = f"kube-probe/1.0 pyrun/{__version__}"
_HEAD_LIMIT = 65536
_REPLACEABLE = {"user-agent", "accept"}


def url_of(action: HttpGetAction, endpoint: Endpoint) -> str:
    """Return the address of a request, for people."""
    return f"{action.scheme.lower()}://{endpoint}{request_path(action.path)}"


def request_path(path: str) -> str:
    """Return a path as it goes over the wire: with a leading slash, without a fragment, in printable ASCII."""
    path = path.partition("#")[0]
    path = path if path.startswith("/") else f"/{path}"
    return "".join(
        chr(b) if 0x20 < b < 0x7F else f"%{b:02X}" for b in path.encode("utf-8", "surrogateescape")
    )


def request_headers(headers: Iterable[HttpHeader], authority: str) -> list[tuple[str, str]]:
    """Return all headers of a request.

    A given Host, User-Agent or Accept takes the place of the usual one; an empty User-Agent or Accept takes
    it away.
    """
    given = [(header.name, header.value) for header in headers]
    names = {name.lower() for name, _ in given}
    usual = [("Host", authority), ("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Connection", "close")]
    return [
        *((name, value) for name, value in usual if name.lower() not in names or name == "Connection"),
        *(
            (name, value)
            for name, value in given
            if name.lower() != "connection" and (value or name.lower() not in _REPLACEABLE)
        ),
    ]


class HttpConversation:
    """One GET request and its answer; statuses 200 to 399 are success, once the body (or 10 KiB) is there.

    A redirect is success and is not followed; the kubelet follows those to the same host.
    """

    def __init__(self, action: HttpGetAction, endpoint: Endpoint, subject: str) -> None:
        """`subject` begins the message of a failure. Raises ValueError for a request that HTTP does not allow."""
        self._subject = subject
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self._heard = False
        self._status = 0
        self._body = bytearray()
        try:
            headers = request_headers(action.headers, str(endpoint))
            request = h11.Request(method="GET", target=request_path(action.path), headers=headers)
            head = self._connection.send(request)
            end = self._connection.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise ValueError(f"{self._subject}: {error}") from None
        self._pending = (head or b"") + (end or b"")

    def outgoing(self) -> bytes:
        data, self._pending = self._pending, b""
        return data

    def incoming(self, data: bytes) -> Outcome | None:
        try:
            self._heard = self._heard or bool(data)
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return None
                outcome = self._hear(event)
                if outcome is not None:
                    return outcome
        except h11.RemoteProtocolError as error:
            return self._failure(str(error) if data else self._closed())

    def _hear(self, event: object) -> Outcome | None:
        if isinstance(event, h11.Response):
            self._status = event.status_code
            if not 200 <= self._status < 400:
                return Outcome(Verdict.FAILURE, f"HTTP probe failed with statuscode: {self._status}")
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) >= OUTPUT_LIMIT:
                return self._success()
        elif isinstance(event, h11.EndOfMessage):
            return self._success()
        elif isinstance(event, h11.ConnectionClosed):
            return self._failure(self._closed())
        return None

    def _closed(self) -> str:
        return "closed in the middle of the answer" if self._heard else "closed without an answer"

    def _success(self) -> Outcome:
        body = self._body[:OUTPUT_LIMIT].decode("utf-8", "replace")
        redirect = "Probe terminated redirects, Response body: " if self._status >= 300 else ""
        return Outcome(Verdict.SUCCESS, redirect + body)

    def _failure(self, reason: str) -> Outcome:
        return Outcome(Verdict.FAILURE, f"{self._subject}: {reason}")
