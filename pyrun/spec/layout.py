"""Where an instance of pyrun keeps things, and the names it gives to what it makes.

Several instances live on one machine side by side: everything one makes carries its name.
"""

from __future__ import annotations

import msgspec

DEFAULT_ROOT = "/var/lib/pyrun"
DEFAULT_STATE = "/run/pyrun"

TERMINATION_LOG = "termination-log"
"""The name of the file for a container's last words."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Paths and names of one instance.

    `root` survives a reboot (images, writable layers, volumes, logs), `state` does not need to (records,
    journals, locks, leases). `name` is `pyrun` for the default instance.
    """

    root: str = DEFAULT_ROOT
    state: str = DEFAULT_STATE
    name: str = "pyrun"

    @classmethod
    def of(cls, root: str, state: str) -> Layout:
        """Return the layout of an instance; one that is not the default is named after its state directory."""
        if state == DEFAULT_STATE:
            return cls(root=root, state=state)
        from binascii import crc32

        return cls(root=root, state=state, name=f"pyrun-{crc32(state.encode()):08x}")

    @property
    def images(self) -> str:
        """The image store."""
        return f"{self.root}/images"

    @property
    def store(self) -> str:
        """The database of desired state."""
        return f"{self.root}/store/objects.db"

    @property
    def pods(self) -> str:
        """The directory of all Pods' records."""
        return f"{self.state}/pods"

    @property
    def pods_root(self) -> str:
        """The directory of all Pods' files on disk."""
        return f"{self.root}/pods"

    @property
    def locks(self) -> str:
        """The directory of the Pods' locks; outside of their records, which are removed under the lock."""
        return f"{self.state}/locks"

    def names(self, namespace: str) -> str:
        """The directory in which the names of a namespace are claimed."""
        return f"{self.state}/names/{namespace}"

    def pod_state(self, uid: str) -> str:
        """The records of one Pod."""
        return f"{self.pods}/{uid}"

    def pod_root(self, uid: str) -> str:
        """The files of one Pod on disk."""
        return f"{self.pods_root}/{uid}"

    def etc(self, uid: str) -> str:
        """The Pod's hosts, hostname and resolv.conf."""
        return f"{self.pod_root(uid)}/etc"

    def volume(self, uid: str, name: str) -> str:
        """An emptyDir on disk."""
        return f"{self.pod_root(uid)}/volumes/{name}"

    def container_state(self, uid: str, name: str, attempt: int) -> str:
        """The gate, control socket and records of one attempt of a container."""
        return f"{self.pod_state(uid)}/containers/{name}/{attempt}"

    def container_root(self, uid: str, name: str, attempt: int) -> str:
        """The writable layer of one attempt of a container."""
        return f"{self.pod_root(uid)}/containers/{name}/{attempt}"

    def termination_log(self, uid: str, name: str, attempt: int) -> str:
        """The file that an attempt of a container writes its last words to."""
        return f"{self.container_root(uid, name, attempt)}/{TERMINATION_LOG}"

    def logs(self, uid: str, name: str) -> str:
        """The directory of a container's logs, one file an attempt."""
        return f"{self.pod_root(uid)}/logs/{name}"

    def cgroup_prefix(self, parent: str) -> str:
        """The cgroup that all Pods of the instance share, in the one where the groups of instances lie."""
        return f"{parent}/{self.name}"
