"""Which image a container is made from: a plain directory that the Pod names, or one of the store, by policy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyrun.errors import ImageError, InputError
from pyrun.plan.convert import image_from_directory, root_directory
from pyrun.spec.image import Image
from pyrun.spec.layout import Layout
from pyrun.spec.pod import Container, Pod, PullPolicy

if TYPE_CHECKING:
    from pyrun.images.store import ImageStore

ImageFinder = Callable[[Pod, Container], Image]


class NeverPulled(ImageError):
    """An image is not in the store, and its container's imagePullPolicy is Never."""


class NoRootDirectory(ImageError):
    """The plain directory that shall be a container's root file system is not there."""


def stored_image(layout: Layout) -> ImageFinder:
    """Return a finder of images in the store of an instance, which pulls by the container's policy."""
    from pyrun.images.store import ImageStore

    store = ImageStore(layout.images)

    def find(pod: Pod, container: Container) -> Image:
        directory = root_directory(pod, container)
        if directory is not None:
            if not os.path.isdir(directory):
                raise NoRootDirectory(
                    f'container "{container.name}": root file system {directory} is not a directory',
                    hint="correct its rootfs.pyrun.io annotation",
                )
            return image_from_directory(directory)
        return _by_policy(store, container)

    return find


def _by_policy(store: ImageStore, container: Container) -> Image:
    """Find an image by the container's imagePullPolicy.

    Always asks the registry each time, but for an image that came from none: one that was loaded or imported
    here is what it is.
    """
    try:
        image = store.resolve(container.image)
    except ImageError as error:
        if isinstance(error, InputError):  # its name follows no grammar
            raise
        if container.image_pull_policy is PullPolicy.NEVER:
            raise NeverPulled(
                f'container "{container.name}": {error}, and its imagePullPolicy is Never', hint=error.hint
            ) from None
        return store.pull(container.image)
    if container.image_pull_policy is PullPolicy.ALWAYS and image.from_registry:
        return store.pull(container.image)
    return image
