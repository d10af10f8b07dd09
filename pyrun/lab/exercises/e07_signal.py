"""HUP across containers: a signal needs a number, and a number needs a shared PID namespace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pyrun.lab import pods
from pyrun.lab.exercise import Exercise, Finding
from pyrun.lab.scene import Scene
from pyrun.namespaces.table import Namespace

POD, SERVER, RELOADER = "lab-7", "server", "reloader"
PORT = 8081


class SignalAcross(Exercise):
    number: ClassVar[int] = 7

    def check(self, scene: Scene) -> Iterator[Finding]:
        pod = pods.find(scene, POD)
        server = pod.init(SERVER) if pod is not None else None
        reloader = pod.init(RELOADER) if pod is not None else None
        yield Finding(f"server and reloader of Pod {POD} run", server is not None and reloader is not None)
        if pod is None or server is None or reloader is None:
            return
        yield Finding(
            "they share their PID namespace, which is pause's",
            server.shares(Namespace.PID, reloader) and server.shares(Namespace.PID, pod.pause),
            f"{server.namespace(Namespace.PID)}, {reloader.namespace(Namespace.PID)}; "
            f"pause {pod.pause.namespace(Namespace.PID)}",
        )
        descriptors = {target for process in pod.processes(SERVER) for target in process.descriptors()}
        yield Finding(
            f"the server listens at the new port {PORT}", bool(server.listeners(PORT) & descriptors)
        )
        yield Finding(
            "it was not started again for that", pod.attempt(SERVER) == 0, f"still process {server.pid}"
        )
