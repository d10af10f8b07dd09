"""The annotations of an object: how much they may be, and those that are pyrun's own."""

from __future__ import annotations

from collections.abc import Callable

from pyrun.manifest.names import absolute_path
from pyrun.manifest.nearest import did_you_mean
from pyrun.manifest.reader import Object
from pyrun.spec import annotations as own
from pyrun.spec import settings
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.effective import container_limits, effective_limits
from pyrun.spec.hugepages import kernel_page_size
from pyrun.spec.pod import Metadata, Pod
from pyrun.spec.quoting import quoted
from pyrun.spec.resources import MEMORY, ResourceList, format_amount

MAX_ANNOTATIONS = 256 * 1024
"""Most bytes that all annotations of an object may take together, keys and values."""

_PARSERS: dict[str, Callable[[str], object]] = {
    own.TIME_OFFSET_MONOTONIC: own.parse_offset,
    own.TIME_OFFSET_BOOTTIME: own.parse_offset,
    own.BACKOFF_INITIAL: own.parse_duration,
    own.BACKOFF_MAX: own.parse_duration,
    own.BACKOFF_RESET: own.parse_duration,
    own.BEST_EFFORT: own.parse_switch,
}
_OF_POD = (*_PARSERS, *(settings.annotation(name) for name in settings.SETTINGS))
_ROOTFS = own.ROOTFS_PREFIX.partition(".")[0]


def annotations_fit(metadata: Metadata, source: Object) -> None:
    """All annotations together have a largest size."""
    pairs = metadata.annotations.items()
    size = sum(len(part.encode()) for pair in pairs for part in pair)
    if size > MAX_ANNOTATIONS:
        source.complain(
            "metadata.annotations", f"take {size} bytes together, at most {MAX_ANNOTATIONS} may be"
        )


def own_annotations_are_known(pod: Pod, source: Object) -> None:
    """Annotations in pyrun's own domain are known, and their values are what they must be."""
    containers = [container.name for container in pod.spec.all_containers()]
    for key, value in pod.metadata.annotations.items():
        wrong = _wrong_with(key, value, containers) if own.is_ours(key) else None
        if wrong:
            source.complain(f"metadata.annotations[{key[:320]}]", wrong)


def _wrong_with(key: str, value: str, containers: list[str]) -> str | None:
    """Return what is wrong with an annotation of pyrun's."""
    if key in _PARSERS:
        return _wrong(_PARSERS[key], value)
    setting, container = settings.setting_key(key) or settings.SettingKey("", "")
    is_root, is_setting = bool(container) and setting == _ROOTFS, settings.is_setting(setting)
    if not is_root and not is_setting:
        names = (*settings.SETTINGS, _ROOTFS)
        known = (*_OF_POD, *(settings.annotation(name, one) for name in names for one in containers))
        return f"unknown annotation of pyrun{did_you_mean(key, known)}"
    if container and container not in containers:
        return f"no container is named {quoted(container)}{did_you_mean(container, containers)}"
    if is_root:
        return absolute_path(value)
    return _wrong(lambda text: settings.parse_setting(setting, text), value)


def settings_fit(pod: Pod, source: Object) -> None:
    """What an annotation sets does not contradict the limits of the same cgroup."""
    spec = pod.spec
    limits = {"": effective_limits(spec)}
    limits |= {container.name: container_limits(spec, container) for container in spec.all_containers()}
    for key, value in pod.metadata.annotations.items():
        of = settings.setting_key(key)
        if of is None or of.container not in limits or not settings.is_setting(of.setting):
            continue
        try:
            found = settings.parse_setting(of.setting, value)
        except ValueError:
            continue  # it has been told
        wrong = _contradiction(found, limits[of.container])
        if wrong:
            source.complain(f"metadata.annotations[{key[:320]}]", wrong)


def _contradiction(found: LinuxResources, limits: ResourceList) -> str | None:
    most = limits.memory
    for amount in (found.memory_high, found.memory_min):
        if most is not None and amount is not None and amount > most:
            return (
                f"{format_amount(MEMORY, amount)} is above the limit of memory, {format_amount(MEMORY, most)}"
            )
    limited = {kernel_page_size(size) for size, _ in limits.hugepages}
    if limited & {size for size, _ in found.hugetlb}:
        return "a limit of huge pages of this size is given too"
    return None


def _wrong(parse: Callable[[str], object], text: str) -> str | None:
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


def backoffs_fit(pod: Pod, source: Object) -> None:
    """The first delay is not longer than the longest one, where both are given."""
    given = pod.metadata.annotations
    initial, longest = given.get(own.BACKOFF_INITIAL), given.get(own.BACKOFF_MAX)
    if initial is None or longest is None or _wrong(own.parse_duration, initial):
        return
    if not _wrong(own.parse_duration, longest) and own.parse_duration(initial) > own.parse_duration(longest):
        source.complain(
            f"metadata.annotations[{own.BACKOFF_INITIAL}]",
            f"{quoted(initial)} is longer than {own.BACKOFF_MAX}, {quoted(longest)}",
        )
