"""An image from the tar of a root file system, as `docker import` makes it: one layer and a configuration."""

from __future__ import annotations

import os
import time

from pyrun.errors import ImageError
from pyrun.images import layers, wire
from pyrun.images.contents import Contents, host_platform
from pyrun.images.source import Extent
from pyrun.images.unpack import Limits
from pyrun.images.workspace import Workspace
from pyrun.spec.image import ImageConfig


def rootfs(space: Workspace, path: str, config: ImageConfig, limits: Limits | None) -> Contents:
    """Unpack the tar at `path` (plain or compressed) into a layer, and describe the image it makes.

    Raises ImageError when it cannot be read, and for everything a layer is refused for.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    if not os.path.isfile(path):
        raise ImageError(f"{path} is not a file", hint="give the tar of a root file system")
    extent = Extent(os.path.abspath(path), 0, status.st_size)
    facts = layers.install(space, layers.LayerBlob(extent=extent), limits)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_mtime))
    document = wire.document(config, facts.diff_id, created, host_platform()[0])
    blob = layers.LayerBlob(extent=extent, diff_id=facts.diff_id)
    return Contents(names=(), config=document, layers=(blob,))
