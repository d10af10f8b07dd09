"""Text of a manifest on the way into an error."""

from __future__ import annotations


def quoted(text: str) -> str:
    """Return a text of the manifest for an error: in quotes, cut, and with nothing a terminal would obey."""
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return f'"{short}"' if short.isprintable() else ascii(short)
