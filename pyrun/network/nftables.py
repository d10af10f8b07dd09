"""nftables through libnftables in this process: 0.1 to 1 ms a transaction, where nft(8) takes 4 to 10.

Each `run` is one transaction of the kernel: all of its commands happen, or none. Source: libnftables(3),
nft(8). The library opens its netlink socket in the network namespace of the calling thread.
"""

from __future__ import annotations

from pyrun.errors import NetworkError, Unsupported

LIBRARY = "libnftables.so.1"


class NftError(NetworkError):
    """nftables refused a transaction; `text` holds nft's own words."""

    def __init__(self, text: str, *, hint: str | None = None) -> None:
        self.text = text
        first = (text.strip().splitlines() or ["no reason given"])[0]
        super().__init__(f"nftables: {first.removeprefix('Error: ')}", hint=hint)

    @property
    def is_missing(self) -> bool:
        """Whether the table, set or element named does not exist."""
        return "No such file or directory" in self.text

    @property
    def is_taken(self) -> bool:
        """Whether what a `create` command names exists already."""
        return "File exists" in self.text


def run(commands: str) -> str:
    """Run nft commands, one a line, as one transaction; return what they print.

    Raises NftError when nftables refuses, and Unsupported when this host lacks the library.
    """
    # Imported here: dlopen costs milliseconds, and Pods on the host's network need no nftables.
    from pyrun.network._nftables import ffi

    try:
        library = ffi.dlopen(LIBRARY)
    except OSError:
        raise Unsupported(
            f"the Pod network needs {LIBRARY}, which is not installed",
            hint="install libnftables (Debian: apt-get install libnftables1; Fedora: nftables-libs)",
        ) from None
    context = library.nft_ctx_new(0)
    if context == ffi.NULL:
        raise NetworkError("libnftables gave no context (nft_ctx_new failed)")
    try:
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        # The parser wants every statement ended by a newline, the last one too.
        status = library.nft_run_cmd_from_buffer(context, commands.encode() + b"\n")
        if status != 0:
            raise NftError(_text(ffi.string(library.nft_ctx_get_error_buffer(context))))
        return _text(ffi.string(library.nft_ctx_get_output_buffer(context)))
    finally:
        library.nft_ctx_free(context)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
