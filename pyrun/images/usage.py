"""Which layers containers use at this moment: the kernel knows, no record is asked."""

from __future__ import annotations

import contextlib
import os


def mounted_layers(layers_dir: str) -> frozenset[str]:
    """Return the names of the layers below `layers_dir` that are lower directories of a mounted overlay.

    Reads the mount table of every mount namespace that a process is in (proc_pid_mountinfo(5)). Layers may
    be mounted by relative paths, so their names are looked for, which are 128 bits of a digest.
    """
    try:
        names = os.listdir(layers_dir)
    except FileNotFoundError:
        return frozenset()
    seen: set[str] = set()
    used: set[str] = set()
    for pid in os.listdir("/proc"):
        # A process may end at any moment, and is then no user.
        with contextlib.suppress(OSError):
            if not pid.isdigit() or (namespace := os.readlink(f"/proc/{pid}/ns/mnt")) in seen:
                continue
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as table:
                overlays = [line for line in table if " - overlay " in line]
            seen.add(namespace)
            used.update(name for name in names if any(name in line for line in overlays))
    return frozenset(used)
