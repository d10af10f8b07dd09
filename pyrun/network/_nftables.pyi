"""Types of the generated module, as far as nftables.py uses it."""

from typing import Any

ffi: Any
