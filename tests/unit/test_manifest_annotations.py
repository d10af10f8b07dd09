"""Annotations of pyrun's own: parsing, and their validation at the door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest import load_pods, to_json
from pyrun.spec.annotations import MAX_OFFSET_NS, is_ours, parse_offset, rootfs_of, time_offsets
from pyrun.spec.pod import Pod

HOUR = 3600 * 10**9


def pod(annotations: dict[str, str]) -> Pod:
    text = to_json(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "annotations": dict(annotations)},
            "spec": {"containers": [{"name": "nginx", "image": "x"}]},
        }
    )
    return load_pods(text, "test")[0]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("24h", 24 * HOUR),
        ("-1h30m", -HOUR * 3 // 2),
        ("+90s", 90 * 10**9),
        ("90", 90 * 10**9),
        ("-90", -90 * 10**9),
        ("1.5s", 15 * 10**8),
        (".5", 5 * 10**8),
        ("1h1ms1us1µs1ns", HOUR + 10**6 + 2000 + 1),
        ("0", 0),
    ],
)
def test_offset(text: str, nanoseconds: int) -> None:
    assert parse_offset(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "h", "1d", "1h 30m", "--1h", "+-1", "1h-3m", "1e3", "٣s", "9" * 70])
def test_no_offset(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_offset(text)


def test_offset_beyond_the_kernels_range() -> None:
    assert parse_offset(f"{MAX_OFFSET_NS}ns") == MAX_OFFSET_NS
    with pytest.raises(ValueError, match="146 years"):
        parse_offset(f"-{MAX_OFFSET_NS + 1}ns")


@given(st.text(max_size=70))
def test_any_text_is_an_offset_or_a_value_error(text: str) -> None:
    try:
        assert abs(parse_offset(text)) <= MAX_OFFSET_NS
    except ValueError as error:
        assert str(error)


@given(st.integers(-MAX_OFFSET_NS, MAX_OFFSET_NS))
def test_nanoseconds_are_exact(offset: int) -> None:
    assert parse_offset(f"{offset}ns") == offset


def test_helpers_read_a_pod() -> None:
    made = pod(
        {
            "rootfs.pyrun.io/nginx": "/srv/root",
            "pyrun.io/time-offset-monotonic": "24h",
            "pyrun.io/time-offset-boottime": "-1h",
            "example.com/other": "kept",
        }
    )
    assert rootfs_of(made, "nginx") == "/srv/root"
    assert rootfs_of(made, "other") is None
    offsets = time_offsets(made)
    assert (offsets.monotonic_ns, offsets.boottime_ns) == (24 * HOUR, -HOUR)
    assert time_offsets(pod({})).monotonic_ns == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rootfs.pyrun.io/nginx", "srv", "is relative"),
        ("rootfs.pyrun.io/nginx", "", "is relative"),
        ("rootfs.pyrun.io/nginx", "/a/../b", '".."'),
        ("rootfs.pyrun.io/ngin", "/srv", 'no container is named "ngin", did you mean "nginx"?'),
        ("pyrun.io/time-offset-monotonic", "soon", "is not a duration"),
        ("pyrun.io/time-offset-boottime", "2000000h", "146 years"),
        ("pyrun.io/time-offset-bootime", "1h", 'did you mean "pyrun.io/time-offset-boottime"?'),
        ("rootfs.Pyrun.io/nginx", "/srv", 'did you mean "rootfs.pyrun.io/nginx"?'),
        ("x.pyrun.io/whatever", "1", "unknown annotation of pyrun"),
    ],
)
def test_own_annotations_are_validated(key: str, value: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        pod({key: value})
    (problem,) = caught.value.problems
    assert problem.path == f"metadata.annotations[{key}]"
    assert message in problem.message


def test_only_the_own_domain_is_ours() -> None:
    assert is_ours("pyrun.io/x")
    assert is_ours("a.pyrun.io/x")
    assert not is_ours("notpyrun.io/x")
    assert not is_ours("pyrun.io.example.com/x")
    assert not is_ours("pyrun.io")
