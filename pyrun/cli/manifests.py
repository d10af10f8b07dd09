"""Reading manifest files of the command line."""

from __future__ import annotations

import sys

from pyrun.errors import InputError, ManifestError, Problem


def read_text(file: str) -> tuple[str, str]:
    """Return the text of a file (`-` is stdin) and what to call it. Raises InputError, ManifestError."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as stream:
                data = stream.read()
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", hint="give a manifest file, or - for stdin"
        ) from None
    source = "stdin" if file == "-" else file
    try:
        return data.decode("utf-8"), source
    except UnicodeDecodeError as error:
        raise ManifestError(
            source, [Problem("", f"not UTF-8 text: byte {error.start} cannot be decoded")]
        ) from None
