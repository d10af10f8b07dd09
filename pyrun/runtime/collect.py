"""After a reboot the records are gone, and the journals with them; what lies on disk is found by listing."""

from __future__ import annotations

from pyrun.rootfs.directories import remove_tree
from pyrun.spec.layout import Layout
from pyrun.state.files import list_directory


def collect_orphans(layout: Layout) -> None:
    """Remove the files on disk of Pods that have no records.

    Safe beside a creation: a Pod's records are made before its files, and removed after them.
    """
    on_disk = list_directory(layout.pods_root)
    known = set(list_directory(layout.pods))
    for uid in on_disk:
        if uid not in known:
            remove_tree(layout.pod_root(uid))
