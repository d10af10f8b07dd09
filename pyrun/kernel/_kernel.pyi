"""Types of the compiled module, as far as syscalls.py uses it."""

from typing import Any

ffi: Any
lib: Any
