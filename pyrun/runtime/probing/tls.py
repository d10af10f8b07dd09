"""TLS around a conversation, by memory buffers, so that the socket stays non-blocking. Source: ssl.MemoryBIO."""

from __future__ import annotations

import ssl

from pyrun.runtime.probing.check import Outcome, Verdict
from pyrun.runtime.probing.sockets import Conversation

_CHUNK = 65536


class TlsConversation:
    """A conversation inside TLS. Certificates are not checked, however weak, foreign or old they are."""

    def __init__(self, inner: Conversation, subject: str) -> None:
        self._inner = inner
        self._subject = subject
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._received, self._to_send)
        self._established = False

    def outgoing(self) -> bytes:
        if not self._established:
            self._shake_hands()
        if self._established and (data := self._inner.outgoing()):
            self._tls.write(data)
        return self._to_send.read()

    def incoming(self, data: bytes) -> Outcome | None:
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()
        try:
            if not self._established:
                self._shake_hands()
            return self._read() if self._established else None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return self._inner.incoming(b"") if self._established else self._failure("closed by the server")
        except ssl.SSLError as error:
            return self._failure((error.reason or str(error)).lower().replace("_", " "))

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._established = True

    def _read(self) -> Outcome | None:
        while True:
            try:
                plain = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                return None
            outcome = self._inner.incoming(plain)
            if outcome is not None or not plain:
                return outcome

    def _failure(self, reason: str) -> Outcome:
        return Outcome(Verdict.FAILURE, f"{self._subject}: TLS: {reason}")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL refuses small keys even where it checks nothing
    return context
