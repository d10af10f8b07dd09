"""Sharing a volume: a web server and the collector of its log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import kernel, pods
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.pods import LabPod
from pyrun.lab.scene import Scene

POD, WEB, COLLECTOR = "lab-6", "web", "collector"
LOGS = "/var/log/nginx"


class SharedVolume(Exercise):
    number: ClassVar[int] = 6

    def prepare(self, scene: Scene) -> None:
        """Choose nginx and rsyslog where their images are loaded, else the httpd and the tail of busybox."""
        real = scene.has_image("nginx") and scene.has_image("collector")
        chosen, other = ("nginx.yaml", "httpd.yaml") if real else ("httpd.yaml", "nginx.yaml")
        os.rename(f"{scene.directory}/{chosen}", f"{scene.directory}/pod.yaml")
        os.unlink(f"{scene.directory}/{other}")

    def check(self, scene: Scene) -> Iterator[Finding]:
        pod = pods.find(scene, POD)
        web = pod.init(WEB) if pod is not None else None
        collector = pod.init(COLLECTOR) if pod is not None else None
        yield Finding(f"web and collector of Pod {POD} run", web is not None and collector is not None)
        if pod is not None and web is not None and collector is not None:
            yield from _findings(pod, web, collector)


def _findings(pod: LabPod, web: kernel.Process, collector: kernel.Process) -> Iterator[Finding]:
    mounts = web.mounted(LOGS), collector.mounted(LOGS)
    yield Finding(
        f"both see one directory at {LOGS}",
        mounts[0] is not None and mounts[0] == mounts[1],
        " and ".join(dict.fromkeys("nothing" if mount is None else mount[1] for mount in mounts)),
    )
    path = f"/proc/{web.pid}/root{LOGS}/access.log"
    log = kernel.inode(path)
    size = os.path.getsize(path) if log is not None else 0
    yield Finding("somebody was served: the log is not empty", size > 0, f"{size} bytes")
    for name in (WEB, COLLECTOR):
        holders = [process.pid for process in pod.processes(name) if log in process.open_files()]
        number = "no inode" if log is None else f"inode {log[1]}"
        yield Finding(f"{name} has that file open", bool(holders), f"{number}; processes {holders}")
