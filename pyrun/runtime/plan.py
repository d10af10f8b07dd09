"""The plan of a Pod that is not going to be made: the same operations, with references for what is not known.

Nothing of the host is read and no image is looked up, so that a manifest gives the same plan on every machine.
What is allocated or found only when the plan is applied stands in angle brackets: `<uid>`, `<layers of IMAGE>`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pyrun.plan.convert import image_from_directory, root_directory
from pyrun.plan.host import HostFacts
from pyrun.runtime.create import PodPlan, plan_pod
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.image import Image, ImageConfig
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.pod import Container, Pod

CGROUP_MOUNT = "<unified cgroup mount>"
HOSTNAME = "<hostname of the host>"


def plan_pods(pods: Sequence[Pod], layout: Layout, network: NetworkConfig) -> tuple[PodPlan, ...]:
    """Return the plan of each Pod of a manifest. InputError when a container has no program."""
    facts = HostFacts(
        layout=layout,
        cgroup_mount=CGROUP_MOUNT,
        capabilities=ALL_CAPABILITIES,
        limits=(),
        network=network,
        hostname=HOSTNAME,
    )
    plans = []
    for number, pod in enumerate(pods, 1):
        uid = "<uid>" if len(pods) == 1 else f"<uid {number}>"
        plans.append(plan_pod(_named(pod), uid, facts, _referenced_image))
    return tuple(plans)


def _named(pod: Pod) -> Pod:
    metadata = pod.metadata
    if metadata.name:
        return pod
    name = f"{metadata.generate_name}<5 letters>"
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(metadata, name=name))


def _referenced_image(pod: Pod, container: Container) -> Image:
    """Return the plain directory that serves as image, or references to what the image will say."""
    directory = root_directory(pod, container)
    if directory is not None:
        return image_from_directory(directory)
    name = container.image
    return Image(
        id=f"<id of {name}>",
        names=(name,),
        config=ImageConfig(
            entrypoint=(f"<entrypoint of {name}>",),
            cmd=(f"<cmd of {name}>",),
            env=(f"<variables of {name}>=",),
            working_dir=f"<working directory of {name}>",
            user=f"<user of {name}>",
            stop_signal=f"<stop signal of {name}>",
        ),
        layers_dir="<image store>",
        layers=(f"<layers of {name}>",),
    )
