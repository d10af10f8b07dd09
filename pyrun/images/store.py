"""The image store: names to images, and images to directories that overlayfs uses as they are.

`resolve` is on the way of every container and reads two small files; what loads, verifies and unpacks is
imported only when it is called. How the files are laid out and changed is told in records.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from pyrun.errors import Conflict, ImageError
from pyrun.images import records, reference
from pyrun.spec.image import Image, ImageConfig

if TYPE_CHECKING:
    from pyrun.images import wire
    from pyrun.images.contents import Contents
    from pyrun.images.unpack import Limits
    from pyrun.images.workspace import Workspace


class ImageDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the store knows of an image; `layers` in the order of `image`'s configuration."""

    image: Image
    digests: tuple[str, ...]
    layers: tuple[records.LayerFacts, ...]
    os: str
    architecture: str


class ImageStore:
    """The images below one directory. Several processes may use it at a time."""

    def __init__(self, root: str, limits: Limits | None = None) -> None:
        """`limits` bound one layer; the default is 64 GiB or what the disk has left, whichever is less."""
        self.root = root
        self._limits = limits

    def resolve(self, name: str) -> Image:
        """Return the image a name, or the beginning of an id, means.

        Raises InvalidImageName, or ImageError when there is none or the beginning fits several.
        """
        index = records.read_index(self.root)
        return self._image(index, self._lookup(index, name))

    def list(self) -> tuple[Image, ...]:
        """Return every image, those with names first, in the order of their names."""
        from pyrun.images.workspace import collect  # the other readers do without

        collect(self.root)
        index = records.read_index(self.root)
        images = [self._image(index, digits) for digits in index.images]
        return tuple(sorted(images, key=lambda image: (not image.names, image.names, image.id)))

    def inspect(self, name: str) -> ImageDetails:
        """Return all that is known of an image. Raises like `resolve`."""
        index = records.read_index(self.root)
        digits = self._lookup(index, name)
        image = self._image(index, digits)
        record = self._record(digits)
        facts = [
            records.read(records.facts_path(self.root, records.layer_name(diff_id)), records.LayerFacts)
            for diff_id in record.diff_ids
        ]
        return ImageDetails(
            image=image,
            digests=tuple(name for name in image.names if "@" in name),
            layers=tuple(fact for fact in facts if fact is not None),
            os=record.os,
            architecture=record.architecture,
        )

    def load(self, path: str, name: str = "") -> tuple[Image, ...]:
        """Store the images of an OCI archive, a Docker archive or an OCI layout directory; all or none.

        `name` is given to the only image of an archive, beside the names it brings. Raises ImageError for
        what is damaged, refused, not for this machine or has no space; then nothing is left.
        """
        from pyrun.images import contents, source, workspace  # heavy: tarfile, hashlib

        extra = (reference.parse(name).canonical,) if name else ()
        with workspace.workspace(self.root) as space:
            found = contents.read(source.open_source(path, space.fresh("archive")))
            if extra and len(found) != 1:
                raise ImageError(f"{path} has {len(found)} images; one name cannot mean all of them")
            return self._store(space, [(image, (*image.names, *extra)) for image in found])

    def pull(self, name: str, progress: int | None = None) -> Image:
        """Fetch an image from its registry through skopeo, and store it under the name and its digest.

        `progress` is a file descriptor that skopeo's progress goes to. Raises ImageError and Unsupported.
        """
        from pyrun.images import contents, registry, source, workspace  # heavy

        wanted = reference.parse(name)
        with workspace.workspace(self.root) as space:
            place = registry.copy(wanted, space.path, space.helpers, progress)
            found = contents.read(source.open_source(place, space.fresh("archive")))[0]
            by_digest = f"{wanted.repository}@{found.digest}"
            return self._store(space, [(found, (wanted.canonical, by_digest))])[0]

    def import_rootfs(self, path: str, name: str, config: ImageConfig) -> Image:
        """Make an image of one layer from a tar of a root file system, and store it under `name`.

        The same file gives the same image: the time of creation is that of the file. Raises ImageError.
        """
        from pyrun.images import imported, workspace  # heavy: tarfile, hashlib

        canonical = reference.parse(name).canonical
        if "@" in canonical:
            raise reference.InvalidImageName(
                f"invalid image name {name!r}: an import has a tag, not a digest"
            )
        with workspace.workspace(self.root) as space:
            found = imported.rootfs(space, path, config, self._limits)
            return self._store(space, [(found, (canonical,))])[0]

    def remove(self, name: str, in_use: Callable[[str], bool] = lambda layer: False) -> tuple[str, ...]:
        """Take a name away; with its last tag the image goes, and the layers that no other image uses.

        `in_use` says of a layer's directory whether a container uses it; asked only of layers that would go.
        An image with several tags is not removed by its id. Returns what has gone: names, and the id last.
        Raises Conflict when it is in use, and like `resolve`.
        """
        from pyrun.images import workspace  # only commands that change the store

        with workspace.workspace(self.root) as space:
            with records.locked(self.root):
                index = records.read_index(self.root)
                digits = self._lookup(index, name)
                gone = self._names_to_remove(index, digits, name)
                names = {known: target for known, target in index.names.items() if known not in gone}
                whole = digits not in names.values()
                if whole:
                    self._refuse_in_use(index, digits, name, in_use)
                images = tuple(image for image in index.images if not whole or image != digits)
                self._write_index(space, records.Index(names=names, images=images))
            workspace.sweep(space)
        return (*gone, f"sha256:{digits}") if whole else gone

    def _store(
        self, space: Workspace, found: Iterable[tuple[Contents, tuple[str, ...]]]
    ) -> tuple[Image, ...]:
        """Unpack every layer, then make all images visible at once; the index is the commit."""
        from pyrun.images import layers, wire  # heavy: tarfile, hashlib

        new: list[tuple[Contents, tuple[str, ...], records.ImageRecord]] = []
        for image, names in found:
            facts = [layers.install(space, blob, self._limits) for blob in image.layers]
            document = wire.decode(image.config, wire.ImageDocument, "the image configuration")
            new.append((image, names, _record(image.id, document, facts)))
        with records.locked(self.root):
            index = records.read_index(self.root)
            names_now, images_now = dict(index.names), dict.fromkeys(index.images)
            for image, names, record in new:
                digits = record.image.id.partition(":")[2]
                blob = os.path.join(self.root, "blobs", digits)
                records.replace(blob, image.config, space.path)
                path = records.image_path(self.root, digits)
                records.replace(path, msgspec.json.encode(record), space.path)
                names_now.update(dict.fromkeys(names, digits))
                images_now[digits] = None
            index = records.Index(names=names_now, images=tuple(images_now))
            self._write_index(space, index)
        return tuple(self._image(index, record.image.id.partition(":")[2]) for _, _, record in new)

    def _write_index(self, space: Workspace, index: records.Index) -> None:
        path = os.path.join(self.root, "index.json")
        records.replace(path, msgspec.json.encode(index), space.path)

    def _lookup(self, index: records.Index, name: str) -> str:
        """Return the hex id a name means; a name wins over the beginning of an id, as in Docker."""
        digits = reference.id_prefix(name)
        try:
            parsed = reference.parse(name)
            if parsed.canonical in index.names:
                return index.names[parsed.canonical]
            shown = parsed.familiar
        except reference.InvalidImageName:
            if not digits:
                raise
            shown = name
        fitting = [image for image in index.images if digits and image.startswith(digits)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ImageError(
                f"{name} is the beginning of {len(fitting)} image ids", hint="give more digits of the id"
            )
        raise ImageError(
            f"there is no image {shown} in the store {self.root}",
            hint=f"get it with `pyrun image pull {shown}` or `pyrun image load FILE`",
        )

    def _record(self, digits: str) -> records.ImageRecord:
        record = records.read(records.image_path(self.root, digits), records.ImageRecord)
        if record is None:
            raise ImageError(f"the image {digits[:12]} has just been removed")
        return record

    def _image(self, index: records.Index, digits: str) -> Image:
        names = tuple(sorted(name for name, target in index.names.items() if target == digits))
        image = self._record(digits).image
        return msgspec.structs.replace(image, names=names, layers_dir=os.path.join(self.root, "layers"))

    def _names_to_remove(self, index: records.Index, digits: str, name: str) -> tuple[str, ...]:
        known = sorted(other for other, target in index.names.items() if target == digits)
        tags = [other for other in known if "@" not in other]
        try:
            given = reference.parse(name).canonical
        except reference.InvalidImageName:
            given = ""
        if given not in index.names:
            if len(tags) > 1:
                raise Conflict(
                    f"the image {name} has several names: {', '.join(tags)}", hint="remove by name"
                )
            return tuple(known)
        if [tag for tag in tags if tag != given]:
            return (given,)
        # The last tag takes the digests with it; a digest alone keeps its image only while no tag was given.
        return tuple(known)

    def _refuse_in_use(
        self, index: records.Index, digits: str, name: str, in_use: Callable[[str], bool]
    ) -> None:
        kept = {
            diff_id for other in index.images if other != digits for diff_id in self._record(other).diff_ids
        }
        for diff_id in self._record(digits).diff_ids:
            if diff_id not in kept and in_use(records.layer_name(diff_id)):
                raise Conflict(
                    f"the image {name} is in use by a container", hint="remove the Pod first (`pyrun pod rm`)"
                )


def _record(
    image_id: str, document: wire.ImageDocument, facts: list[records.LayerFacts]
) -> records.ImageRecord:
    # overlayfs ignores an opaque mark on the root of a layer: what it hides is left out here.
    hidden = max((number for number, fact in enumerate(facts) if fact.opaque), default=0)
    image = Image(
        id=image_id,
        config=document.config.value() if document.config else ImageConfig(),
        layers=tuple(fact.directory for fact in facts[hidden:]),
        size=sum(fact.size for fact in {fact.diff_id: fact for fact in facts}.values()),
        created=document.created or "",
    )
    return records.ImageRecord(
        image=image,
        diff_ids=tuple(fact.diff_id for fact in facts),
        os=document.os,
        architecture=document.architecture,
    )
