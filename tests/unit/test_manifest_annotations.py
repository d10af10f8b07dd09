"""Annotations of pyrun's own: parsing, and their validation at the door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest import load_pods, to_json
from pyrun.spec.annotations import (
    MAX_OFFSET_NS,
    backoff_of,
    is_ours,
    parse_duration,
    parse_offset,
    rootfs_of,
    time_offsets,
)
from pyrun.spec.backoff import BackoffSettings
from pyrun.spec.pod import Pod

SECOND = 10**9
HOUR = 3600 * SECOND


def pod(annotations: dict[str, str]) -> Pod:
    text = to_json(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "annotations": dict(annotations)},
            "spec": {
                "initContainers": [{"name": "init", "image": "x"}],
                "containers": [{"name": "nginx", "image": "x"}],
            },
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
            "rootfs.pyrun.io/init": "/srv/init",
            "pyrun.io/time-offset-monotonic": "24h",
            "pyrun.io/time-offset-boottime": "-1h",
            "example.com/other": "kept",
        }
    )
    assert rootfs_of(made, "nginx") == "/srv/root"
    assert rootfs_of(made, "init") == "/srv/init"
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
        ("pyrun.io/backoff-initial", "-1s", "is not a duration such as 1s, 500ms"),
        ("pyrun.io/backoff-max", "", "is not a duration"),
        ("pyrun.io/backoff-reset", "soon", "is not a duration"),
        ("pyrun.io/backoff-reset", "2000000h", "longer than 146 years"),
        ("pyrun.io/backoff-initail", "1s", 'did you mean "pyrun.io/backoff-initial"?'),
    ],
)
def test_own_annotations_are_validated(key: str, value: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        pod({key: value})
    (problem,) = caught.value.problems
    assert problem.path == f"metadata.annotations[{key}]"
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1s", 10**9), ("500ms", 5 * 10**8), ("1m30s", 90 * 10**9), ("2", 2 * 10**9), ("0s", 0)],
)
def test_duration(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "-1s", "+1s", "1 s", "s", "1d", "9" * 70])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.text(max_size=70))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert 0 <= parse_duration(text) <= MAX_OFFSET_NS
    except ValueError as error:
        assert str(error)


def test_the_delays_of_restarts_are_kubernetes_unless_said_otherwise() -> None:
    settings = BackoffSettings()
    assert (settings.initial_ns, settings.maximum_ns, settings.reset_ns) == (
        10 * SECOND,
        300 * SECOND,
        600 * SECOND,
    )
    host = BackoffSettings(initial_ns=1, maximum_ns=2, reset_ns=3)
    assert backoff_of(pod({}), host) == host


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"initial": "500ms"}, BackoffSettings(initial_ns=SECOND // 2)),
        ({"max": "1m"}, BackoffSettings(maximum_ns=60 * SECOND)),
        ({"reset": "0"}, BackoffSettings(reset_ns=0)),
        (
            {"initial": "1s", "max": "5s", "reset": "1m"},
            BackoffSettings(initial_ns=SECOND, maximum_ns=5 * SECOND, reset_ns=60 * SECOND),
        ),
        # The longest delay cuts the first one, the default's too.
        ({"max": "2s"}, BackoffSettings(initial_ns=2 * SECOND, maximum_ns=2 * SECOND)),
        ({"initial": "10m"}, BackoffSettings(initial_ns=300 * SECOND)),
        ({"initial": "0", "max": "0"}, BackoffSettings(initial_ns=0, maximum_ns=0)),
    ],
)
def test_annotations_set_the_delays_of_restarts(
    annotations: dict[str, str], expected: BackoffSettings
) -> None:
    made = pod({f"pyrun.io/backoff-{name}": value for name, value in annotations.items()})
    assert backoff_of(made, BackoffSettings()) == expected


def test_the_first_delay_is_not_longer_than_the_longest() -> None:
    with pytest.raises(ManifestError) as caught:
        pod({"pyrun.io/backoff-initial": "10s", "pyrun.io/backoff-max": "5s"})
    assert [str(problem) for problem in caught.value.problems] == [
        'metadata.annotations[pyrun.io/backoff-initial]: "10s" is longer than pyrun.io/backoff-max, "5s"'
    ]
    with pytest.raises(ManifestError) as caught:
        pod({"pyrun.io/backoff-initial": "x", "pyrun.io/backoff-max": "y"})
    assert len(caught.value.problems) == 2


def test_only_the_own_domain_is_ours() -> None:
    assert is_ours("pyrun.io/x")
    assert is_ours("a.pyrun.io/x")
    assert not is_ours("notpyrun.io/x")
    assert not is_ours("pyrun.io.example.com/x")
    assert not is_ours("pyrun.io")
