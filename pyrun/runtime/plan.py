"""The plan of a Pod that is not going to be made: the same operations, with references for what is not known.

Nothing of the host is read but its size, and no image is looked up, so that a manifest gives the same plan on every
machine but for the OOM scores, which are shares of its memory.
What is allocated or found only when the plan is applied stands in angle brackets: `<uid>`, `<layers of IMAGE>`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pyrun.cgroups.controllers import CONTROLLERS
from pyrun.cgroups.delegation import Place, find_place, remedy
from pyrun.cgroups.setting import SetCgroup
from pyrun.errors import PyrunError
from pyrun.plan.convert import image_from_directory, root_directory
from pyrun.plan.host import HostFacts
from pyrun.runtime.create import PodPlan, plan_pod
from pyrun.spec.capability import ALL_CAPABILITIES
from pyrun.spec.image import Image, ImageConfig
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.pod import Container, Pod
from pyrun.spec.resources import Capacity

_PLACE = Place(parent="<unified cgroup mount>", controllers=CONTROLLERS)
HOSTNAME = "<hostname of the host>"


def plan_pods(
    pods: Sequence[Pod], layout: Layout, network: NetworkConfig, capacity: Capacity
) -> tuple[PodPlan, ...]:
    """Return the plan of each Pod of a manifest for a host of this size that has all controllers.

    InputError when a container has no program.
    """
    facts = HostFacts(
        layout=layout,
        place=_PLACE,
        capacity=capacity,
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


def what_is_missing(plans: Sequence[PodPlan]) -> tuple[str, ...]:
    """Return a sentence for each controller that the plans write to and this host does not have."""
    operations = [operation for plan in plans for operation in plan.all_operations()]
    files = dict.fromkeys(o.file for o in operations if isinstance(o, SetCgroup))
    try:
        place = find_place()
    except PyrunError as error:
        return (error.sentence(),)
    return tuple(
        f"no controller {name}: {', '.join(there)} cannot be written ({remedy(place, name)})"
        for name in CONTROLLERS
        if name not in place.controllers and (there := [f for f in files if f.startswith(f"{name}.")])
    )


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
