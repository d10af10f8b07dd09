"""The rules of Kubernetes for names, keys and paths.

Each check takes a text and returns None, or what is wrong with it as the end of a sentence.
Source: k8s.io/apimachinery/pkg/util/validation and the API validation of core/v1.
"""

from __future__ import annotations

import re

from pyrun.manifest.nearest import did_you_mean
from pyrun.spec.downward import FIELD_PATHS, MAP_PATHS, split_field_path
from pyrun.spec.quoting import quoted

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENV_NAME = re.compile(r"[ -<>-~]+")
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PORT_NAME = re.compile(r"[-a-z0-9]+")


def dns_label(text: str) -> str | None:
    """Check a DNS-1123 label: a container, a volume, a namespace, a host name."""
    if len(text) > 63:
        return f"longer than 63 characters ({len(text)})"
    if not _LABEL.fullmatch(text):
        return (
            f'{quoted(text)} is not a DNS label: lower case letters, digits and "-",'
            " first and last a letter or digit"
        )
    return None


def dns_subdomain(text: str) -> str | None:
    """Check a DNS-1123 subdomain: the name of a Pod."""
    if len(text) > 253:
        return f"longer than 253 characters ({len(text)})"
    if not _SUBDOMAIN.fullmatch(text):
        return (
            f'{quoted(text)} is not a DNS name: lower case letters, digits, "-" and ".",'
            " first and last of each part a letter or digit"
        )
    return None


def name_prefix(text: str) -> str | None:
    """Check a generateName: what a random suffix makes a name of, so that it may end in `-`."""
    return dns_subdomain(text[:-1] + "a" if text.endswith("-") else text)


def label_key(text: str) -> str | None:
    """Check the key of a label: `name` or `prefix/name`."""
    prefix, slash, name = text.rpartition("/")
    if slash:
        wrong = dns_subdomain(prefix)
        if wrong:
            return f"the part before the slash: {wrong}"
    if not name or len(name) > 63 or not _QUALIFIED.fullmatch(name):
        return (
            f'{quoted(name)} is not a key: at most 63 letters, digits, "-", "_" and ".",'
            " first and last a letter or digit"
        )
    return None


def annotation_key(text: str) -> str | None:
    """Check the key of an annotation: that of a label, upper case allowed before the slash too."""
    return label_key(text.lower())


def label_value(text: str) -> str | None:
    """Check the value of a label, which may be empty."""
    if text and (len(text) > 63 or not _QUALIFIED.fullmatch(text)):
        return (
            f'{quoted(text)} is not a label value: at most 63 letters, digits, "-", "_" and ".",'
            " first and last a letter or digit"
        )
    return None


def env_name(text: str) -> str | None:
    """Check the name of an environment variable, by the relaxed rule of current Kubernetes."""
    if not _ENV_NAME.fullmatch(text):
        return f'{quoted(text)} is not a variable name: printable ASCII without "="'
    return None


def port_name(text: str) -> str | None:
    """Check an IANA service name: the name of a port."""
    if len(text) > 15:
        return f"longer than 15 characters ({len(text)})"
    bad = not _PORT_NAME.fullmatch(text) or not re.search("[a-z]", text)
    if bad or text[0] == "-" or text[-1] == "-" or "--" in text:
        return (
            f'{quoted(text)} is not a port name: lower case letters, digits and single "-",'
            " at least one letter, first and last a letter or digit"
        )
    return None


def image_name(text: str) -> str | None:
    """Check that an image has no space around it; what it names is looked up later."""
    return "must not begin or end with white space" if text.strip() != text else None


def absolute_path(text: str) -> str | None:
    """Check an absolute path without `..`."""
    if not text.startswith("/"):
        return f"{quoted(text)} is relative; give an absolute path"
    return _no_backsteps(text)


def mount_path(text: str) -> str | None:
    """Check where a volume is mounted: absolute, not the root, no `..`, no `:`."""
    if ":" in text:
        return 'must not contain ":"'
    wrong = absolute_path(text)
    if wrong is None and not text.strip("/"):
        return "must not be the root of the container"
    return wrong


def sub_path(text: str) -> str | None:
    """Check a path below a volume: relative, no `..`."""
    if text.startswith("/"):
        return f"{quoted(text)} must be relative to the volume"
    return _no_backsteps(text)


def http_path(text: str) -> str | None:
    """Check the path of an HTTP request, with its query: what would cut the request line in two is refused."""
    bad = not text.isprintable() or any(character.isspace() for character in text)
    return "must not contain white space or control characters" if bad else None


def header_name(text: str) -> str | None:
    """Check the name of an HTTP header."""
    if not _HEADER.fullmatch(text):
        return f'{quoted(text)} is not the name of an HTTP header: letters, digits and "-"'
    return None


def header_value(text: str) -> str | None:
    """Check the value of an HTTP header: what would end it is refused."""
    return "must not contain control characters" if _CONTROL.search(text) else None


def address(text: str) -> str | None:
    """Check the host of a probe or hook: an IP address or `localhost`, for names are not resolved."""
    from ipaddress import ip_address  # two milliseconds that most manifests need not spend

    wrong = (
        f"{quoted(text)} is not an IP address: pyrun does not resolve names for probes and hooks;"
        " leave it out for the Pod's own address"
    )
    if text == "localhost":
        return None
    try:
        ip_address(text)
    except ValueError:
        return wrong
    return wrong if "%" in text else None


def field_path(text: str) -> str | None:
    """Check the path of a field reference of an environment variable."""
    field, key = split_field_path(text)
    if key and field in MAP_PATHS:
        return label_key(key) if field == "metadata.labels" else annotation_key(key)
    if text in FIELD_PATHS:
        return None
    known = (*FIELD_PATHS, *(f"{name}['KEY']" for name in MAP_PATHS))
    near = did_you_mean(text, known) or f", known are {', '.join(known)}"
    return f"{quoted(text)} is not a field that a container can be told{near}"


def _no_backsteps(text: str) -> str | None:
    return 'must not contain ".."' if ".." in text.split("/") else None
