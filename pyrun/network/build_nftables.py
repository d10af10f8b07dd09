"""Builds `pyrun.network._nftables`: run as `python build_nftables.py OUTPUT.py`.

cffi in ABI mode: libnftables is opened at run time, so that neither its headers nor the library are needed
to build pyrun. Out of line, because an in-line cdef is parsed at every import. Source: libnftables(3).
"""

from __future__ import annotations

import sys

from cffi import FFI

CDEF = """
struct nft_ctx *nft_ctx_new(uint32_t flags);
void nft_ctx_free(struct nft_ctx *ctx);
int nft_ctx_buffer_output(struct nft_ctx *ctx);
int nft_ctx_buffer_error(struct nft_ctx *ctx);
const char *nft_ctx_get_output_buffer(struct nft_ctx *ctx);
const char *nft_ctx_get_error_buffer(struct nft_ctx *ctx);
int nft_run_cmd_from_buffer(struct nft_ctx *nft, const char *buf);
"""


def builder() -> FFI:
    """Return the cffi builder of the module."""
    ffi = FFI()
    ffi.cdef(CDEF)
    ffi.set_source("pyrun.network._nftables", None)
    return ffi


if __name__ == "__main__":
    builder().emit_python_code(sys.argv[1])
