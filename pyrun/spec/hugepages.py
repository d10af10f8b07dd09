"""Huge pages: their sizes as Kubernetes (`2Mi`) and as the kernel (`2MB`) spells them.

Source: Kubernetes documentation "Manage HugePages"; Documentation/admin-guide/cgroup-v2.rst, hugetlb.
"""

from __future__ import annotations

from pyrun.spec.quantity import parse_whole_bytes
from pyrun.spec.quoting import quoted

SMALLEST = 2**14
"""Bytes of the smallest huge page of any architecture; that of x86 is 2Mi."""
LARGEST = 2**34
"""Bytes of the largest one, 16Gi."""

_UNITS = (("G", 30), ("M", 20), ("K", 10))


def parse_page_size(text: str) -> int:
    """Read the size of a page, such as `2Mi`, into bytes. Raises ValueError with a sentence."""
    size = parse_whole_bytes(text)
    if not SMALLEST <= size <= LARGEST or size & (size - 1):
        raise ValueError(f"{quoted(text)} is no size of huge pages such as 2Mi or 1Gi")
    return size


def format_page_size(size: int) -> str:
    """Write the size of a page as Kubernetes does: 2097152 is `2Mi`."""
    return _format(size, "i")


def kernel_page_size(size: int) -> str:
    """Write the size of a page as the kernel does in the names of its files: 2097152 is `2MB`."""
    return _format(size, "B")


def parse_pages(text: str, size: int) -> int:
    """Read an amount of memory in pages of a size into bytes. Raises ValueError when a page would be cut."""
    amount = parse_whole_bytes(text)
    if amount % size:
        raise ValueError(f"{quoted(text)} is no multiple of the size of a page, {format_page_size(size)}")
    return amount


def _format(size: int, end: str) -> str:
    unit, twos = next((unit, twos) for unit, twos in _UNITS if size >> twos)
    return f"{size >> twos}{unit}{end}"
