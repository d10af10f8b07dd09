"""Names of images as people write them, and what they mean. Pure.

The grammar and the short forms are those of Docker and Kubernetes: `nginx` means
`docker.io/library/nginx:latest`; the part before the first slash is a registry when it has a dot, a colon
or an upper-case letter in it or is `localhost`; a digest wins over a tag.
Source: the reference grammar of distribution/reference, and the Kubernetes documentation of image names.
"""

from __future__ import annotations

import re

import msgspec

from pyrun.errors import ImageError, InputError

DEFAULT_DOMAIN = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128
MIN_ID_PREFIX = 3

_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"


class InvalidImageName(ImageError, InputError):
    """The name of an image does not follow the grammar; the message says where it breaks. Exit code 2."""


class Reference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A complete name: registry, path, and a tag or a digest (never both; one of the two is set)."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The name without tag and digest, with its registry."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """The one spelling of this name in the store."""
        return self.repository + self._suffix()

    @property
    def familiar(self) -> str:
        """The shortest spelling that means the same: `nginx:1.22` for `docker.io/library/nginx:1.22`."""
        name = self.repository
        if self.domain == DEFAULT_DOMAIN:
            name = self.path.removeprefix(f"{DEFAULT_NAMESPACE}/")
            if "/" in name and _is_domain(name.partition("/")[0]):
                name = self.repository
        return name + self._suffix()

    @property
    def loopback(self) -> bool:
        """Whether the registry is on this machine: localhost, 127.0.0.0/8 or [::1], on any port."""
        host = self.domain[1:].partition("]")[0] if self.domain[0] == "[" else self.domain.partition(":")[0]
        return host in {"localhost", "::1"} or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None

    def _suffix(self) -> str:
        return f"@{self.digest}" if self.digest else f":{self.tag}"


def parse(text: str) -> Reference:
    """Read a name as people write it; a missing registry, path prefix or tag is filled in.

    Raises InvalidImageName, which says what is wrong.
    """
    if not text:
        raise InvalidImageName("the name of an image is empty")
    rest, at, digest = text.partition("@")
    if at and (reason := digest_fault(digest)):
        raise _invalid(text, reason)
    name, tag = _split_tag(rest, text)
    domain, path = _split_domain(name)
    if domain != DEFAULT_DOMAIN and not re.fullmatch(_DOMAIN, domain):
        raise _invalid(text, f"{domain!r} is not the name of a registry")
    _check_path(path, text)
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _invalid(text, f"longer than {MAX_NAME} characters")
    if digest:
        return Reference(domain=domain, path=path, digest=digest)
    return Reference(domain=domain, path=path, tag=tag or DEFAULT_TAG)


def digest_fault(digest: str) -> str:
    """Say what is wrong with a digest; nothing when it is an algorithm of OCI, a colon and lower-case hex."""
    algorithm, _, encoded = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        return f"the digest algorithm {algorithm!r} is not known"
    if len(encoded) != length or not re.fullmatch("[0-9a-f]+", encoded):
        return f"a {algorithm} digest has {length} lower-case hex digits"
    return ""


def id_prefix(text: str) -> str:
    """Return the hex digits when `text` can begin an image id (sha256: may precede them), else nothing."""
    digits = text.removeprefix("sha256:")
    if MIN_ID_PREFIX <= len(digits) <= 64 and re.fullmatch("[0-9a-f]+", digits):
        return digits
    return ""


def _invalid(text: str, reason: str) -> InvalidImageName:
    return InvalidImageName(f"invalid image name {text!r}: {reason}")


def _split_tag(rest: str, text: str) -> tuple[str, str]:
    """Cut `:tag` off; a colon before the last slash belongs to a port."""
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, ""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", tag):
        raise _invalid(text, f"{tag!r} is not a tag")
    if len(tag) > MAX_TAG:
        raise _invalid(text, f"the tag is longer than {MAX_TAG} characters")
    return name, tag


def _is_domain(first: str) -> bool:
    return first == "localhost" or "." in first or ":" in first or first != first.lower()


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, path = name.partition("/")
    if not slash or not _is_domain(first):
        first, path = DEFAULT_DOMAIN, name
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    return first, path


def _check_path(path: str, text: str) -> None:
    for component in path.split("/"):
        if re.fullmatch(_COMPONENT, component):
            continue
        if not component:
            raise _invalid(text, "a part of the path is empty")
        if component != component.lower():
            raise _invalid(text, f"{component!r} must be lower case")
        raise _invalid(text, f"{component!r} may have only a-z, 0-9 and single separators . _ __ - inside")
    bare = path.removeprefix(f"{DEFAULT_NAMESPACE}/")
    if len(bare) == 64 and re.fullmatch("[0-9a-f]+", bare):
        raise _invalid(text, "64 hex digits are an image id, not a name")
