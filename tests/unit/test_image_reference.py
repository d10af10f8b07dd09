"""Names of images: the table of short forms, the grammar's refusals, and properties."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyrun.errors import ImageError, InputError
from pyrun.images.reference import InvalidImageName, Reference, id_prefix, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.22", "docker.io/library/nginx:1.22", "nginx:1.22"),
        ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("someone/tool", "docker.io/someone/tool:latest", "someone/tool:latest"),
        ("localhost/x:tag", "localhost/x:tag", "localhost/x:tag"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        (f"localhost:5000/x@{DIGEST}", f"localhost:5000/x@{DIGEST}", f"localhost:5000/x@{DIGEST}"),
        (f"nginx:1.22@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        ("registry.example:443/a/b/c:v1", "registry.example:443/a/b/c:v1", "registry.example:443/a/b/c:v1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("Registry/x", "Registry/x:latest", "Registry/x:latest"),
        ("a__b/c-d--e.f", "docker.io/a__b/c-d--e.f:latest", "a__b/c-d--e.f:latest"),
        ("x:UPPER_tag.1-2", "docker.io/library/x:UPPER_tag.1-2", "x:UPPER_tag.1-2"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
        ("example.com:5000", "docker.io/library/example.com:5000", "example.com:5000"),
    ],
)
def test_short_forms(text: str, canonical: str, familiar: str) -> None:
    reference = parse(text)
    assert reference.canonical == canonical
    assert reference.familiar == familiar
    assert parse(reference.familiar) == reference


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (":tag", "empty"),
        ("Nginx", "lower case"),
        ("a/Nginx", "lower case"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("/a", "empty"),
        ("-a", "separators"),
        ("a..b", "separators"),
        ("a___b", "separators"),
        ("a b", "separators"),
        ("a\n", "separators"),
        ("../x", "not the name of a registry"),
        ("a/../b", "separators"),
        ("x:", "not a tag"),
        ("x:-tag", "not a tag"),
        ("x:tag\n", "not a tag"),
        ("x:" + "t" * 129, "longer than 128"),
        ("a" * 256, "longer than 255"),
        ("x@", "algorithm"),
        ("x@md5:" + "0" * 32, "algorithm"),
        ("x@sha256:abc", "64 lower-case hex"),
        ("x@sha256:" + "A" * 64, "64 lower-case hex"),
        ("x@" + DIGEST + "@" + DIGEST, "hex"),
        ("0" * 64, "image id"),
        ("-reg.example/x", "registry"),
        ("host:port/x", "registry"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(InvalidImageName, match=reason) as caught:
        parse(text)
    assert isinstance(caught.value, ImageError)
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost:5000/x", True),
        ("localhost/x", True),
        ("127.0.0.1:5000/x", True),
        ("127.9.9.9/x", True),
        ("[::1]:5000/x", True),
        ("nginx", False),
        ("127.0.0.1.example/x", False),
        ("localhost.example/x", False),
        ("[::2]:5000/x", False),
    ],
)
def test_loopback_registries(text: str, loopback: bool) -> None:
    assert parse(text).loopback is loopback


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("abc", "abc"),
        ("sha256:abc", "abc"),
        ("ab", ""),
        ("nginx", ""),
        ("ABC", ""),
        ("0" * 64, "0" * 64),
        ("0" * 65, ""),
    ],
)
def test_id_prefixes(text: str, digits: str) -> None:
    assert id_prefix(text) == digits


COMPONENT = st.from_regex(r"\A[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}\Z")
TAG = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z")
DOMAIN = st.sampled_from(["", "localhost/", "localhost:5000/", "r.example/", "docker.io/", "10.0.0.1:80/"])


@given(DOMAIN, st.lists(COMPONENT, min_size=1, max_size=4), TAG, st.booleans())
def test_every_valid_name_has_one_canonical_form(
    domain: str, path: list[str], tag: str, by_digest: bool
) -> None:
    assume(domain or len(path) == 1 or "." not in path[0])  # it would be a registry
    suffix = f"@{DIGEST}" if by_digest else f":{tag}"
    reference = parse(domain + "/".join(path) + suffix)
    assert parse(reference.canonical) == reference
    assert parse(reference.familiar) == reference
    assert bool(reference.digest) is by_digest
    assert reference.canonical.endswith(suffix)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidImageName:
        return
    assert isinstance(reference, Reference)
    assert not set(reference.canonical) & set(" \n\0*?\\'\"")
    assert ".." not in reference.canonical.split("/")
